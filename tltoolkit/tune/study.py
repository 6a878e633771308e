"""A search as an Optuna study: opened or made, asked for settings, told scores."""

import contextlib
import copy
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from tltoolkit import _checks
from tltoolkit.data import ImageData
from tltoolkit.files import reading
from tltoolkit.tune.space import Space

IDENTITY = "search"
# What a database file begins with.
SQLITE = b"SQLite format 3\0"
# Images whose content tells one data set from another with the same labels.
# All would be read whole; a few, spread over the split, tell most changes.
SHOWN = 8
# Trials that have to finish, and epochs that each may run, before any is cut short.
UNPRUNED_TRIALS, UNPRUNED_EPOCHS = 5, 3


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing but warnings meanwhile, and TensorFlow nothing of many small models."""
    tensorflow = logging.getLogger("tensorflow")
    before = optuna.logging.get_verbosity(), tensorflow.level
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # It warns that functions are traced again, as they are for each new model.
    tensorflow.setLevel(logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before[0])
        tensorflow.setLevel(before[1])


def address_of(storage: str | Path | None) -> tuple[str | None, bool]:
    """Optuna's address of a storage, and whether other processes may use it too.

    Raises:
        ValueError: A path in a folder that does not exist, or a file of another kind.
    """
    if storage is None:
        return None, False
    _checks.instance("storage", storage, (str, Path), "a path or an address")
    # Before `Path`, which would make one slash of two.
    if isinstance(storage, str) and "://" in storage:
        return storage, True
    path = Path(storage)
    if not path.parent.is_dir():
        raise _checks.fail("storage", "a file in a folder that exists", str(storage))
    if os.path.lexists(path) and not _is_study(reading.regular(path)):
        raise _checks.fail("storage", "a new file or that of a search", str(storage))
    # A file is for one process at a time, as `search` says.
    return f"sqlite:///{path.absolute()}", False


def opened(
    storage: str | Path | None, name: str, identity: Mapping[str, Any], prune: bool
) -> optuna.Study:
    """The study of this search, new or as it was left.

    Raises:
        ValueError: The storage holds another search under this name.
    """
    address, shared = address_of(storage)
    pruner = (
        # Optuna counts steps from 0: the third epoch is step 2.
        optuna.pruners.MedianPruner(UNPRUNED_TRIALS, UNPRUNED_EPOCHS - 1)
        if prune
        else optuna.pruners.NopPruner()
    )
    study = optuna.create_study(
        storage=address, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True
    )
    known = study.user_attrs.get(IDENTITY)
    # A study with trials but without identity was made by somebody else.
    if known is None and not study.trials:
        study.set_user_attr(IDENTITY, json.dumps(identity))
    # Trials of other data or another space would be compared with these.
    elif (difference := _difference(known, identity)) is not None:
        raise ValueError(
            f"`storage` must be a new one or that of this search, but it holds a search with "
            f"another {difference}. Received: storage={str(storage)!r}, name={name!r}"
        )
    if not shared:
        # Whoever left a trial of a file unfinished is gone, since a file has one user at a time.
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
    return study


def fingerprint(data: ImageData) -> str:
    """SHA-256 of what tells data apart: names, labels, and the content of a few images."""
    # Names and labels whole, as they are at hand; contents only of a few.
    digest = hashlib.sha256(repr(data.class_names).encode())
    for name, split in data.splits.items():
        files = [Path(split.name(i)).name for i in range(len(split))]
        digest.update(json.dumps([name, files, split.labels.tolist()]).encode())
        for i in np.linspace(0, len(split) - 1, min(SHOWN, len(split)), dtype=int):
            digest.update(split.source.digest(int(split.indices[i])).encode())
    return digest.hexdigest()


def _is_study(path: Path) -> bool:
    """Whether a file is a database of Optuna's, or an empty one."""
    with open(path, "rb") as file:
        start = file.read(len(SQLITE))
    if start != SQLITE:
        # An empty file, as tempfile makes it, is what SQLite takes for a new database.
        return start == b""
    # Read only, so that looking neither makes nor changes a file.
    address = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
        rows = database.execute("select name from sqlite_master where type = 'table'")
        tables = {name for (name,) in rows}
    # Other programs keep SQLite files as well, which must not get our tables.
    return not tables or "studies" in tables


@dataclass(frozen=True)
class Asked:
    """A study and how its trials are drawn."""

    study: optuna.Study
    space: Space
    sampler: str
    seed: int
    shared: bool

    @property
    def finished(self) -> int:
        """Trials that count: all but those that failed or were left."""
        trials = self.study.get_trials(deepcopy=False)
        # A trial that was interrupted has to be asked for again.
        return sum(trial.state != TrialState.FAIL for trial in trials)

    def next(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """The next trial and its settings.

        The k-th trial draws from a generator of its own, keyed by (seed, k), and a trial that
        was left unfinished is asked for again; so an interrupted search goes on as it would have.
        """
        self.study.sampler = self._keyed(self.finished)
        # By `ask`, since `optimize` has one sampler for all trials.
        trial = self.study.ask()
        if self.shared:
            # Another process may have asked meanwhile; numbers are never given twice.
            self.study.sampler = self._keyed(trial.number)
        drawn: dict[str, Any] = {
            name: trial.suggest_categorical(name, list(labels))
            for name, labels in self.space.choices.items()
        }
        for name, r in self.space.ranges.items():
            if r.whole:
                drawn[name] = trial.suggest_int(name, int(r.low), int(r.high), log=r.log)
            else:
                drawn[name] = trial.suggest_float(name, r.low, r.high, log=r.log)
        return trial, self.space.values(drawn)

    def _keyed(self, k: int) -> BaseSampler:
        seed = int(np.random.SeedSequence((self.seed, k)).generate_state(1)[0])
        if self.sampler == "random":
            # A new one for each trial: its generator then does not depend on the trials before.
            return RandomSampler(seed=seed)
        if self.sampler == "tpe":
            return TPESampler(seed=seed)
        # Where several processes ask, only the number of a trial is one's own.
        return _Grid(self.space.grid(), self.seed, None if self.shared else k)


class _Grid(GridSampler):
    """Optuna's grid, for trials that are asked for one by one.

    It goes by the number of a trial, and so would never come back to one that was left unfinished;
    hence `k`, which is in place of that number unless it is None.
    """

    def __init__(self, axes: Mapping[str, Any], seed: int, k: int | None) -> None:
        super().__init__(axes, seed)
        self.k = k

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        # Optuna goes on with the trial itself, whose number stays.
        trial = copy.copy(trial)
        trial.number = trial.number if self.k is None else self.k
        super().before_trial(study, trial)

    def after_trial(self, *_: Any) -> None:
        """Optuna would stop its `optimize` here after the last combination, which nobody called."""


def _difference(known: str | None, identity: Mapping[str, Any]) -> str | None:
    """The first part in which a stored search differs from this one; None if they are equal."""
    stored = json.loads(known) if known is not None else {}
    # As it was stored: JSON has no tuples.
    now = json.loads(json.dumps(identity))
    return next((name for name in now if stored.get(name) != now[name]), None)
