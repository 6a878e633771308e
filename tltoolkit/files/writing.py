"""Writing files: whole or not at all, through no link, and over nothing but what is ours."""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tltoolkit.files import reading

# Tells by its content whether a file was written by the toolkit.
Ours = Callable[[Path], bool]
# What a writer that was killed leaves; a name of the toolkit's own.
PARTIAL = re.compile(r"\.tltoolkit-[0-9a-f]{16}(\.[^.]*){0,2}")


def mapping(path: Path) -> dict[str, Any]:
    """The mapping in a plain JSON file; an empty one where there is something else."""
    try:
        return reading.parse_json(reading.read(path), path)
    except (OSError, ValueError):
        return {}


def marked(path: Path, mark: bytes, within: int = 0) -> bool:
    """Whether a plain file begins with a mark, or has it `within` its first bytes."""
    try:
        with open(reading.regular(path), "rb") as file:
            return mark in file.read(max(within, len(mark)))
    except (OSError, ValueError):
        return False


def free(path: Path, ours: Ours | None = None, what: str = "a file of tltoolkit") -> Path:
    """The path, where a file may be written: nothing is there, or a plain file that is `ours`.

    Args:
        path: Where to.
        ours: Tells by its content whether a file was written by the toolkit for this purpose;
            None replaces nothing.
        what: What such a file is, for the error.

    Raises:
        FileExistsError: Something else is there, such as a link, which is never followed.
    """
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path
    if stat.S_ISLNK(mode):
        raise FileExistsError(f"{path} is a symbolic link, which is not written through")
    if stat.S_ISDIR(mode):
        raise FileExistsError(f"{path} is a folder; name a file")
    if ours is None:
        raise FileExistsError(f"{path}: File exists; name a new file")
    if not stat.S_ISREG(mode) or not ours(path):
        raise FileExistsError(f"{path} exists and is not {what}: move it, or name another place")
    return path


@contextlib.contextmanager
def replacing(path: Path, ours: Ours | None = None) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place once it is whole.

    Args:
        path: Where to; arguments and errors are those of `free`.
        ours: As in `free`.
    """
    free(path, ours)
    # Keras and matplotlib tell the form of a file by the end of its name.
    beside = path.with_name(f".tltoolkit-{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(beside, flags, 0o666))
    try:
        yield beside
        with open(beside, "rb+") as file:
            # Before the rename, or a power cut may keep the name of an empty file.
            os.fsync(file.fileno())
        # Looked at once more: something may have got the name in the meantime.
        os.replace(beside, free(path, ours))
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    flush_folder(path.parent)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to write to, which takes that name once it is whole.

    Raises:
        FileExistsError: Something has the name.
    """
    beside = path.with_name(f".tltoolkit-{secrets.token_hex(8)}")
    if os.path.lexists(path):
        raise FileExistsError(f"{path}: File exists; name a new folder")
    beside.mkdir()
    try:
        yield beside
        # An empty folder that got the name in the meantime would be replaced, which harms nobody.
        os.rename(beside, path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    flush_folder(path.parent)


def text(path: Path, content: str, ours: Ours | None = None, errors: str = "strict") -> None:
    """Write a whole file or nothing; arguments and errors as those of `replacing` and `open`."""
    with replacing(path, ours) as beside:
        beside.write_text(content, encoding="utf-8", errors=errors)


def plain_json(path: Path, data: Any, ours: Ours | None = None) -> None:
    """Write readable JSON; arguments and errors as those of `replacing`."""
    text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n", ours)


def flush_folder(folder: Path) -> None:
    """Let the names in a folder outlive a loss of power."""
    # Only POSIX lets a folder be flushed; elsewhere the rename is all there is.
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def made(folder: Path) -> list[Path]:
    """Make a folder with its parents where they are missing; those that were made, inner first."""
    missing = [f for f in (folder, *folder.parents) if not os.path.lexists(f)]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def check_room(folder: Path) -> None:
    """Raise OSError unless files can be made in a folder, or in one that is yet to be made."""
    there = next(f for f in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(f))
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is not a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, f"{folder} cannot be written to: {error.strerror}") from error
