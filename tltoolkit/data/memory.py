"""Remember the verdicts on files between runs, in the user's cache folder, never in the data."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import PIL
import platformdirs

# Verdicts of other rules are forgotten: raise the number when the decoder changes.
_RULES = f"2, Pillow {PIL.__version__}"


class Memory:
    """What is known about files: path -> list of plain values.

    One JSON file for all data below one folder. A memory that cannot be read is empty, and one
    that cannot be written is forgotten: it only ever saves time.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._file = _cache_file(paths)
        self._known = _load(self._file)
        self._changed = False

    def get(self, path: str) -> Any:
        """What is known about a file, or None."""
        return self._known.get(path)

    def put(self, path: str, value: list[Any]) -> None:
        """Remember about a file; nothing is written before `save`."""
        self._known[path] = value
        self._changed = True

    def save(self) -> None:
        """Write everything in one step, so that a crash leaves the old file or the new one."""
        if self._file is None or not self._changed:
            return
        folder = os.path.dirname(self._file)
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=folder)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    # As one text: piece by piece takes three times as long.
                    file.write(json.dumps({"rules": _RULES, "files": self._known}))
                os.replace(draft, self._file)
            # An interrupt too must leave no draft behind.
            except BaseException:
                os.unlink(draft)
                raise


def _cache_file(paths: Sequence[str]) -> str | None:
    """The memory of the data below the folder that all paths share."""
    # Without an author, who would be a folder of its own on Windows.
    cache = platformdirs.user_cache_dir("tltoolkit", appauthor=False)
    # Without a home folder "~" stays as it is.
    if not paths or not os.path.isabs(cache):
        return None
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # several drives
        shared = ""
    # A path may hold bytes that are no UTF-8.
    key = hashlib.sha256(shared.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(cache, "verdicts", f"{key}.json")


def _load(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    # The last is what brackets without end raise.
    except (OSError, ValueError, RecursionError):
        return {}
    known = content.get("files") if isinstance(content, dict) else None
    return known if isinstance(known, dict) and content.get("rules") == _RULES else {}
