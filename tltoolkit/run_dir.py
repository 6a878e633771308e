"""The directory of a run: claimed by one process, compared with what it holds, finished."""

import contextlib
import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tltoolkit import _files, artifact, started, verified
from tltoolkit.callbacks import checkpoint
from tltoolkit.run import Run
from tltoolkit.training import correcting

STARTED = artifact.STARTED
RECORD = "run.json"
WEIGHTS = "weights"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"
PROBE = ".probe"
# Written by the toolkit before a run is noted as started: they make no directory a used one.
EARLY = {LOCK, PROBE, f".{STARTED}.new", "command.json"}
FORCE = "force"


@contextlib.contextmanager
def claimed(directory: str | Path | None, resume: bool | str) -> Iterator[Path | None]:
    """Hold a directory for one process; within it nobody else can claim it.

    The lock goes with the process, however that ends.

    Args:
        directory: New, empty, or (with `resume`) of a run; None yields None.
        resume: Whether it may hold a run.

    Raises:
        FileExistsError: It holds something else, or is a file.
        BlockingIOError: Another process works in it.
        OSError: It cannot be made.
    """
    if directory is None:
        yield None
        return
    target = _files.local(directory)
    _check_ours(target, resume)
    target.mkdir(parents=True, exist_ok=True)
    with open(target / LOCK, "a+") as file:
        _lock(file, target)
        _check_ours(target, resume)
        yield target


def begin(target: Path, noted: Mapping[str, Any], resume: bool | str) -> bool:
    """Note that a run starts in `target`, or that it goes on; returns whether it is finished.

    A finished run is also that of a model which has its weights already.

    Raises:
        ValueError: It holds a run with other settings, data or versions, or of a model with other
            start weights, and `resume` is not "force"; or that run is finished, and not only the
            start weights are others.
    """
    finished = (target / RECORD).is_file()
    if not (target / STARTED).is_file():
        _write(target / STARTED, noted)
        return False
    ended = _read(target / RECORD).get(WEIGHTS) if finished else None
    try:
        old = _read(target / STARTED)
        if ended is not None and ended == noted["settings"][started.START]:
            noted = started.from_start_of(old, noted)
        found = started.changes(old, noted)
        other_start = not started.changes(old, started.from_start_of(old, noted))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{target / STARTED} is not what a run notes at its start") from error
    if not found:
        return finished
    listed = started.listed(found)
    if other_start and resume != FORCE:
        kind = "finished run" if finished else "run"
        raise ValueError(
            f"{target} holds a {kind} of a model with other start weights: {listed}; name another "
            "directory, or pass resume='force' (on the command line: --force) to give this model "
            "the weights of that run. Weights that start at random are the same again only with "
            "a seed: keras.utils.set_random_seed"
        )
    if finished and not other_start:
        raise ValueError(f"{target} holds a finished run with other settings: {listed}")
    if finished:
        warnings.warn(f"the run in {target} began with other weights: {listed}", stacklevel=3)
        return True
    if resume != FORCE:
        raise ValueError(
            f"{target} holds a run with other settings: {listed}; name another directory, or "
            "pass resume='force' (on the command line: --force) to go on with the new ones"
        )
    forced = [*old.get("forced", []), {"time": noted["time"], "changes": found}]
    _write(target / STARTED, {**noted, "forced": forced})
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
    told = {
        "variables": variables,
        "model_sha256": hashed,
        WEIGHTS: started.weights_of(run.model),
        "assumed": correcting.noted(run.model),
    }
    _write(target / RECORD, {**run.to_dict(), **told})
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
        correcting.note(model, record.get("assumed"))
    else:
        loaded = artifact.load(target).model
        model.set_weights(loaded.get_weights())
        model.tltoolkit_settings = loaded.tltoolkit_settings
    return Run.from_dict(record, model, target)


def _check_room(target: Path, needed: int, what: str) -> None:
    probe, free = target / PROBE, shutil.disk_usage(target).free
    try:
        with open(probe, "wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
            elif free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OSError(
            f"{target} cannot take {what}: {error.strerror}; "
            f"{needed / 2**20:.1f} MiB are needed and {free / 2**20:.1f} MiB are free"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _check_ours(target: Path, resume: bool | str) -> None:
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; name a new or empty directory")
    held = {path.name for path in target.iterdir()} - EARLY if target.is_dir() else set()
    if not held:
        return
    if STARTED not in held:
        raise FileExistsError(f"{target} holds files already; name a new or empty directory")
    if not resume:
        raise FileExistsError(
            f"{target} holds files already, those of a run; name a new or empty directory, or "
            "pass resume=True to go on with it"
        )


def _lock(file: Any, target: Path) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise BlockingIOError(
            f"another run (process {file.read() or '?'}) is at work in {target}"
        ) from error
    except (OSError, ImportError):
        # Some network file systems, and Windows, have no such locks.
        warnings.warn(f"{target} cannot be locked: see that only one run uses it", stacklevel=5)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _read(path: Path) -> dict[str, Any]:
    return _files.parse_json(_files.read(path), path)


def _write(path: Path, data: Any) -> None:
    """Write JSON so that the file is there whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
