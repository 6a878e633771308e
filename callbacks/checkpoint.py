"""Checkpoints on disk: written beside, flushed, renamed; the last two kept; each verified.

A checkpoint is a directory `checkpoint-<serial>` with `arrays.npz`, `state.json` (which may
refer to arrays) and `manifest.json` (SHA-256 of the other two). The rename is the one moment at
which it comes into being, so a kill at any time leaves the ones before it untouched.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit.files import writing

KEPT = 2  # should the disk have spoilt the newest, the one before is whole
_ARRAYS, _STATE, _MANIFEST = FILES = ("arrays.npz", "state.json", "manifest.json")
# Eight digits, so that names sort as the numbers do.
_NAME = re.compile(r"checkpoint-(\d{8})")
_UNFINISHED = ".checkpoint-being-written"


def write(directory: Path, tree: dict[str, Any]) -> Path:
    """Write `tree` (dicts, lists, JSON values, arrays) as the newest checkpoint.

    Raises:
        OSError: if it cannot be written; what was there before is untouched.
    """
    # Numbered on from the newest, even if that is damaged: a name is never used twice.
    names = _names(directory)
    target = directory / f"checkpoint-{_serial(names[-1]) + 1 if names else 0:08d}"
    unfinished = directory / _UNFINISHED
    arrays: dict[str, npt.NDArray[Any]] = {}
    state = _pack(tree, arrays)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        unfinished = _new_folder(unfinished)
        # Files that are new, or an error: never through a link that somebody put there.
        with open(unfinished / _ARRAYS, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            _flush(file)
        _write_json(unfinished / _STATE, state)
        _write_json(
            unfinished / _MANIFEST, {name: _sha256(unfinished / name) for name in FILES[:2]}
        )
        # After all flushes: else a power cut may keep the name and lose the bytes.
        os.rename(unfinished, target)
        writing.flush_folder(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            _delete(unfinished)  # on a full disk its room is wanted
        raise OSError(
            f"the checkpoint could not be written to {directory} ({error}); "
            f"{names[-1] if names else 'nothing'} is what can be resumed"
        ) from error
    # Last of all, when there is a newer one to take their place.
    for name in _names(directory)[:-KEPT]:
        _delete(directory / name)
    return target


def read_latest(directory: Path) -> dict[str, Any] | None:
    """The tree of the newest checkpoint that is whole, or None if there is none at all.

    Raises:
        ValueError: if there are checkpoints and none is whole.
    """
    problems = []
    # Newest first; one that was damaged later costs an epoch, not the run.
    for name in reversed(_names(directory)):
        try:
            return _read(directory / name)
        except (OSError, ValueError, KeyError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError(f"no checkpoint in {directory} is whole. {'; '.join(problems)}")
    return None


def count(directory: Path) -> int:
    """How many checkpoints there are, whole or not."""
    return len(_names(directory))


def delete_all(directory: Path) -> None:
    """Delete the checkpoints in `directory`, and it too if nothing else is in it."""
    for name in [*_names(directory), _UNFINISHED]:
        _delete(directory / name)
    if directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir()):
        directory.rmdir()


def _names(directory: Path) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))


def _serial(name: str) -> int:
    return int(name.removeprefix("checkpoint-"))


def _read(path: Path) -> dict[str, Any]:
    manifest = json.loads((path / _MANIFEST).read_text())
    for name in FILES[:2]:
        if _sha256(path / name) != manifest[name]:
            raise ValueError(f"{name} is not what was written")
    # A pickle runs code, and a hash that lies beside its file proves no origin.
    with np.load(path / _ARRAYS, allow_pickle=False) as arrays:
        tree: dict[str, Any] = _unpack(json.loads((path / _STATE).read_text()), arrays)
    return tree


def _pack(tree: Any, arrays: dict[str, npt.NDArray[Any]]) -> Any:
    """The tree with its arrays moved to `arrays` and a reference left in each one's place."""
    if isinstance(tree, np.ndarray):
        key = str(len(arrays))
        arrays[key] = tree
        return {"array": key}
    if isinstance(tree, dict):
        # Wrapped, or a dict with the key "array" would be read as a reference.
        return {"dict": {key: _pack(value, arrays) for key, value in tree.items()}}
    if isinstance(tree, list | tuple):
        return [_pack(value, arrays) for value in tree]
    return tree.item() if isinstance(tree, np.generic) else tree


def _unpack(packed: Any, arrays: Any) -> Any:
    if isinstance(packed, dict):
        if "array" in packed:
            return arrays[packed["array"]]
        return {key: _unpack(value, arrays) for key, value in packed["dict"].items()}
    if isinstance(packed, list):
        return [_unpack(value, arrays) for value in packed]
    return packed


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    with open(path, "x") as file:
        json.dump(value, file)
        _flush(file)


def _new_folder(path: Path) -> Path:
    """A folder of this name; of one beside it where something of the user's has the name."""
    _delete(path)
    if os.path.lexists(path):
        path = path.with_name(f"{path.name}-{secrets.token_hex(8)}")
    path.mkdir()
    return path


def _flush(file: Any) -> None:
    file.flush()
    # `flush` alone only hands it to the system, which a power cut outruns.
    os.fsync(file.fileno())


def _delete(path: Path) -> None:
    """Delete a checkpoint directory, unless it holds anything that was not written here."""
    if path.is_symlink() or not path.is_dir():
        return
    # Something of the user's inside is no checkpoint's, and stays.
    if {child.name for child in path.iterdir()} <= set(FILES):
        shutil.rmtree(path)
