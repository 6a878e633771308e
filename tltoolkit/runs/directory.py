"""The directory of a run: claimed by one process, compared with what it holds, finished."""

import dataclasses
import errno
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltoolkit.artifacts import artifact, beside, presence, verified
from tltoolkit.callbacks import checkpoint
from tltoolkit.data.seen import Seen
from tltoolkit.files import reading
from tltoolkit.files.claiming import CHECKPOINTS, STARTED, claimed, write
from tltoolkit.model.classifier import note_preparation, with_head
from tltoolkit.runs import started
from tltoolkit.runs.record import Run
from tltoolkit.runs.terms import FORCE
from tltoolkit.training import correcting
from tltoolkit.training.progress import variable_paths

__all__ = ["CHECKPOINTS", "FORCE", "begin", "claimed", "finish", "finished", "reserve"]

RECORD = "run.json"
WEIGHTS = "weights"


def begin(target: Path, noted: Mapping[str, Any], resume: bool | str) -> bool:
    """Note that a run starts in `target`, or that it goes on; returns whether it is finished.

    A finished run is also that of a model which has its weights already.

    Raises:
        ValueError: It holds a run with other settings, data or versions, or of a model with other
            start weights, and `resume` is not "force"; or that run is finished, and not only the
            start weights are others.
    """
    finished = (target / RECORD).is_file()
    # A new run, or one that ended before it had begun.
    if not (target / STARTED).is_file():
        write(target, STARTED, noted)
        return False
    ended = _read(target / RECORD).get(WEIGHTS) if finished else None
    try:
        old = _read(target / STARTED)
        if started.START not in old["settings"]:  # a run of an earlier version did not note it
            noted = started.from_start_of(old, noted)
        # A model that has the run's last weights in place of its first is that run all the same.
        if ended is not None and ended == noted["settings"][started.START]:
            noted = started.from_start_of(old, noted)
        found = started.changes(old, noted)
        # Told apart, since start weights have advice of their own.
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
    # Kept from call to call: a record has to tell every change that went into it.
    forced = [*old.get("forced", []), {"time": noted["time"], "changes": found}]
    write(target, STARTED, {**noted, "forced": forced})
    warnings.warn(f"the run in {target} goes on with other settings: {listed}", stacklevel=3)
    return False


def note_images(target: Path, seen: Seen) -> Seen:
    """Write down the images of a run that starts or goes on; those that it had before stay.

    They differ where a run goes on by force with other data, and its weights know both.
    """
    if all((target / name).is_file() for name in Seen.FILES):
        seen = seen.after(Seen.read(target))
    artifact.write_seen(seen, target)
    return seen


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
    # The HDF5 library ends the process on a full disk. A weight takes four bytes; one to spare.
    needed = 5 * run.model.count_params() + beside.size(run.model) + 2**20
    _check_room(target, needed, "the trained classifier")
    # Before the record, whose presence says that the run is finished.
    artifact.write(run.model, target)
    variables = [{"trained": r.trained, "changed": r.changed} for r in run.stages]
    foreign = target / presence.FOREIGN
    hashed = verified.sha256(foreign) if foreign.is_file() else None
    noted = {
        "variables": variables,
        "paths": variable_paths(run.model),
        "model_sha256": hashed,
        WEIGHTS: started.weights_of(run.model),
        "assumed": correcting.noted(run.model),
    }
    if hashed is not None:
        # Our own models have them in their manifest.
        noted[verified.SEEN] = {name: verified.sha256(target / name) for name in Seen.FILES}
    # Then the checkpoints may go: killed in between, `finished` deletes them.
    write(target, RECORD, {**run.to_dict(), **noted})
    checkpoint.delete_all(target / CHECKPOINTS)


def finished(target: Path, model: Any) -> Run:
    """The finished run of a directory; `model` takes its weights.

    Raises:
        ValueError: A file was changed.
        FileNotFoundError: A file is missing.
    """
    # They are still there where the process was killed right after it wrote the record.
    checkpoint.delete_all(target / CHECKPOINTS)
    record = _read(target / RECORD)
    if record["model_sha256"] is not None:
        # A model of the user's own, which only its weights come back to.
        foreign = verified.same(target / presence.FOREIGN, record["model_sha256"])
        model.load_weights(foreign)
        hashes = record.get(verified.SEEN)
        model.tltoolkit_seen = None if hashes is None else Seen.read(target, hashes)
        with zipfile.ZipFile(foreign) as archive:
            note_preparation(model, verified.preparation(archive))
        correcting.note(model, record.get("assumed"))
    else:
        loaded = artifact.load(target).model
        if loaded.tltoolkit_settings.head != model.tltoolkit_settings.head:
            # "auto" of an earlier version left the head where it was.
            model = with_head(model, loaded.tltoolkit_settings.head)
        # Into the caller's model, which callbacks and code of theirs may hold.
        model.set_weights(loaded.get_weights())
        model.tltoolkit_settings = loaded.tltoolkit_settings
        model.tltoolkit_seen = loaded.tltoolkit_seen
        beside.copy(loaded, model)
    run, now = Run.from_dict(record, model, target), variable_paths(model)
    # A model that was built again has the same variables under other automatic names.
    then = record.get("paths", now)  # a run of an earlier version has no paths
    renamed = dict(zip(then, now, strict=True))
    return dataclasses.replace(run, stages=tuple(stage.renamed(renamed) for stage in run.stages))


def _check_room(target: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(target).free
    try:
        # Without a name, so that it takes the place of nothing and a kill leaves nothing.
        with tempfile.TemporaryFile(dir=target) as file:
            # A quota may leave less than the disk has free: only reserving it tells.
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
    return reading.parse_json(reading.read(path), path)
