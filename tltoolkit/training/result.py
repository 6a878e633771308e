"""What a stage leaves: its settings and what came of them, as plain data."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tltoolkit.plans.stages import Stage


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The record of one stage.

    Attributes:
        stage: The settings that it ran with.
        epochs: Epochs that it ran.
        best_epoch: The one of them, from 0, with the best validation macro F1 (the last, where
            there is no validation split).
        learning_rate: The peak rate that it ran with, found or given.
        seconds: Wall-clock time, computing features included.
        views: Versions of each training image whose activations were stored; 0 where the
            frozen part, if any, was computed in every epoch.
        trained: Paths of the variables that it was to train.
        changed: Paths of the variables whose values differ after it.
    """

    stage: Stage
    epochs: int
    best_epoch: int
    learning_rate: float
    seconds: float
    views: int
    trained: tuple[str, ...]
    changed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "StageResult":
        """The record of `to_dict`'s data."""
        # JSON has no tuples.
        paths = {name: tuple(record[name]) for name in ("trained", "changed")}
        return cls(**{**record, **paths, "stage": Stage(**record["stage"])})

    def renamed(self, paths: Mapping[str, str]) -> "StageResult":
        """The same record of a model whose variables have other paths: those of `paths`."""
        trained, changed = (
            tuple(paths.get(path, path) for path in group) for group in (self.trained, self.changed)
        )
        return dataclasses.replace(self, trained=trained, changed=changed)


def holding(results: Iterable[StageResult], epoch: int) -> tuple[StageResult, int]:
    """The stage that an epoch of a run belongs to, the last one if none, and its epoch there."""
    for result in results:
        if epoch < result.epochs:
            break
        epoch -= result.epochs
    return result, epoch
