"""command.json: the settings of `tltoolkit fit` in its run directory, for `--from`."""

import hashlib
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tltoolkit.files import claiming, reading
from tltoolkit.files.claiming import COMMAND

# So that a later version can tell a record of another form.
FORMAT = 1


def exists(run_dir: str) -> bool:
    """Whether a run directory tells its command."""
    return path_of(run_dir).is_file()


def path_of(run_dir: str) -> Path:
    """Where a run directory tells its command."""
    return reading.local(run_dir) / COMMAND


def read(run_dir: str) -> dict[str, Any]:
    """`settings`, `fingerprint` of the data and the rest of a run directory's record.

    Raises:
        FileNotFoundError, ValueError: There is none, or it is of another form.
    """
    path = path_of(run_dir)
    values = reading.parse_json(reading.read(path), path)
    if values.get("format") != FORMAT:
        raise ValueError(f"{path}: format must be {FORMAT}, not {values.get('format')!r}")
    if not isinstance(values.get("settings"), dict) or "fingerprint" not in values:
        raise ValueError(f"{path} must have settings and a fingerprint")
    return values


def fingerprint(data: Any, root: str) -> str:
    """SHA-256 over path below `root`, size and label of every image, whatever its split."""
    # Paths below it, so that the folder may be moved and copied.
    folder = root if os.path.isdir(root) else os.path.dirname(root)
    # In an order of its own, since that of splits depends on the seed.
    rows = sorted(
        f"{os.path.relpath(path, folder)!r} {split.source.size(index)} {split.label_text(i)!r}"
        for split in data.splits.values()
        for i, (path, index) in enumerate(zip(split.paths, split.indices.tolist(), strict=True))
    )
    # By sizes and not by contents, to read which takes about as long as a pass over the images.
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def noted(
    run_dir: str, resume: bool | str, settings: Mapping[str, Any], fingerprint: str
) -> AbstractContextManager[None]:
    """Record a command while its run begins; see `claiming.noted`."""
    values = {"format": FORMAT, "settings": dict(settings), "fingerprint": fingerprint}
    return claiming.noted(run_dir, resume, {**values, "command": sys.argv})
