"""The directory of a run: claimed by one process, compared with what it holds, finished."""

import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltoolkit import _files, artifact, started, verified
from tltoolkit.callbacks import checkpoint
from tltoolkit.claiming import CHECKPOINTS, STARTED, claimed, write
from tltoolkit.run import Run

__all__ = ["CHECKPOINTS", "FORCE", "begin", "claimed", "finish", "finished", "reserve"]

RECORD = "run.json"
FORCE = "force"


def begin(target: Path, noted: Mapping[str, Any], resume: bool | str) -> bool:
    """Note that a run starts in `target`, or that it goes on; returns whether it is finished.

    Raises:
        ValueError: It holds a run with other settings, data or versions, and `resume` is not
            "force" or that run is finished.
    """
    finished = (target / RECORD).is_file()
    if not (target / STARTED).is_file():
        write(target, STARTED, noted)
        return False
    try:
        old = _read(target / STARTED)
        found = started.changes(old, noted)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{target / STARTED} is not what a run notes at its start") from error
    if not found:
        return finished
    listed = started.listed(found)
    if finished:
        raise ValueError(f"{target} holds a finished run with other settings: {listed}")
    if resume != FORCE:
        raise ValueError(
            f"{target} holds a run with other settings: {listed}; name another directory, or "
            "pass resume='force' (on the command line: --force) to go on with the new ones"
        )
    forced = [*old.get("forced", []), {"time": noted["time"], "changes": found}]
    write(target, STARTED, {**noted, "forced": forced})
    warnings.warn(f"the run in {target} goes on with other settings: {listed}", stacklevel=3)
    return False


def reserve(target: Path, size: int) -> None:
    """Find out now whether there is room for the checkpoints of a run.

    Args:
        target: The run's directory.
        size: Bytes of one checkpoint; while one is written there are the last two besides.

    Raises:
        OSError: The directory cannot be written to, or there is not enough room.
    """
    written = checkpoint.count(target / CHECKPOINTS)
    _check_room(target, size * max(1, checkpoint.KEPT + 1 - written), "the checkpoints of this run")


def finish(target: Path, run: Run) -> None:
    """Write the classifier, then the record that ends the run, and delete its checkpoints."""
    # The HDF5 library ends the process on a full disk.
    _check_room(target, 5 * run.model.count_params() + 2**20, "the trained classifier")
    artifact.write(run.model, target)
    variables = [{"trained": r.trained, "changed": r.changed} for r in run.stages]
    foreign = target / artifact.FOREIGN
    hashed = verified.sha256(foreign) if foreign.is_file() else None
    write(target, RECORD, {**run.to_dict(), "variables": variables, "model_sha256": hashed})
    checkpoint.delete_all(target / CHECKPOINTS)


def finished(target: Path, model: Any) -> Run:
    """The finished run of a directory; `model` takes its weights.

    Raises:
        ValueError: A file was changed.
        FileNotFoundError: A file is missing.
    """
    checkpoint.delete_all(target / CHECKPOINTS)
    record = _read(target / RECORD)
    if record["model_sha256"] is not None:
        # A model of the user's own, which only its weights come back to.
        foreign = _files.regular(target / artifact.FOREIGN)
        if verified.sha256(foreign) != record["model_sha256"]:
            raise ValueError(f"{foreign} is not the file that was saved: its hash differs")
        model.load_weights(foreign)
    else:
        loaded = artifact.load(target).model
        model.set_weights(loaded.get_weights())
        model.tltoolkit_settings = loaded.tltoolkit_settings
    return Run.from_dict(record, model, target)


def _check_room(target: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(target).free
    try:
        # Without a name, so that it takes the place of nothing and a kill leaves nothing.
        with tempfile.TemporaryFile(dir=target) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            elif free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OSError(
            f"{target} cannot take {what}: {error.strerror}; "
            f"{needed / 2**20:.1f} MiB are needed and {free / 2**20:.1f} MiB are free"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    return _files.parse_json(_files.read(path), path)
