"""Settings from a YAML file, in place of flags."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltoolkit import _files

# They say what to do now, not with which settings.
_NO_SETTINGS = {"help", "json", "debug", "settings", "from_run", "dry_run", "changed_data", "force"}


def read(path: str) -> dict[str, Any]:
    """The mapping in a YAML file of plain data.

    Raises:
        FileNotFoundError, ValueError: No such file, or other content.
    """
    source = _files.local(path)
    values = _files.plain_yaml(_files.read(source).decode(), source)
    if not isinstance(values, dict):
        raise ValueError(f"{source} must hold settings, one `name: value` a line")
    return values


def names(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Name -> option of every setting of a command; names are those of the flags, with "_"."""
    return {a.dest: a for a in parser._actions if a.dest not in _NO_SETTINGS}


def as_defaults(values: Mapping[str, Any], parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Settings as defaults of a parser, which converts text as it does that of a flag.

    Raises:
        ValueError: An unknown name, or a value of another kind.
    """
    known = names(parser)
    unknown = sorted(str(name) for name in set(values) - set(known))
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}; known: {', '.join(known)}")
    return {name: _as_default(name, value, known[name]) for name, value in values.items()}


def _as_default(name: str, value: Any, action: argparse.Action) -> Any:
    flag = isinstance(action, argparse.BooleanOptionalAction)
    if value is None or (flag and isinstance(value, bool)):
        return value
    if flag or isinstance(value, bool) or not isinstance(value, (str, int, float)):
        rule = "true or false" if flag else "one text or number"
        raise ValueError(f"`{name}` must be {rule}, not a {type(value).__name__}")
    return str(value)


def of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The settings that a command was parsed to, as `as_defaults` takes them."""
    return {name: getattr(args, name) for name in names(parser)}


def text_of(value: str | None) -> str | None:
    """The YAML text that a setting gives or, by its suffix, names as a file; None for a name."""
    if value is None or "\n" in value:
        return value
    if Path(value).suffix in (".yaml", ".yml"):
        return _files.read(_files.local(value)).decode()
    return None
