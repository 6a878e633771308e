"""Errors in the words of the command line: flags and operands for the parameters of Python."""

import argparse
import re
from collections.abc import Sequence

# Parameters of the functions that commands call, other than by the name of their flag.
OPERANDS = {
    "root": "DIR",
    "table": "DIR",
    "data": "DIR",
    "images": "IMAGE",
    "directory": "RUN",
    "classifier": "RUN",
    "calibration": "--data",
    "validation": "--data",
    "val + test": "--val + --test",
    "class_names": "the classes in DIR",
    # What the methods of imbalance are called in Python.
    **dict.fromkeys(("loss", "features", "sampling", "adjust"), "--imbalance"),
}


class FileError(ValueError):
    """What is wrong in a file: the names in it are its own, and no flags."""


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Parameter -> what a user of this command writes for it."""
    flags = {a.dest: _flag(a.option_strings) for a in parser._actions if a.option_strings}
    operands = {a.dest: str(a.metavar) for a in parser._actions if not a.option_strings}
    # The command's own last: where it has a flag of this name, that is meant.
    return {**OPERANDS, **operands, **flags}


def reworded(text: str, flags: dict[str, str]) -> str:
    """An error of the Python interface as the command line says it."""
    known = "|".join(map(re.escape, flags))
    # Before backquotes are replaced: the name of the argument was said already.
    text = re.sub(rf"Received: (?:{known})=", "Received: ", text)
    text = re.sub(rf"`({known})=?`", lambda m: flags[m[1]], text)
    # As in "pass duplicates='drop'".
    return re.sub(rf"\b({known})=(['\"])([\w.-]+)\2", lambda m: f"{flags[m[1]]} {m[3]}", text)


def _flag(names: Sequence[str]) -> str:
    """The long name of a flag, of two that say yes and no the one for yes."""
    return next((name for name in reversed(names) if not name.startswith("--no-")), names[-1])
