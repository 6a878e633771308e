"""The best epoch over all stages, and its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tltoolkit.callbacks import training_state

# Macro, so that an epoch which gives up a rare class is not the best.
BEST_BY = "val_f1_macro"


@dataclass
class Best:
    """The weights of the best epoch so far: highest macro F1, ties by validation loss.

    Without validation data every epoch counts as better than the one before.
    """

    score: tuple[float, float] = (-np.inf, -np.inf)
    epoch: int = 0
    weights: list[np.ndarray] = field(default_factory=list)

    def consider(self, model: Any, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep a copy of the model's weights if this epoch is the best."""
        # Keras' EarlyStopping and ModelCheckpoint take a first NaN for the best one (3.15.1).
        if not np.isfinite(logs.get("loss", np.nan)):
            return
        # The first one is better than none, also where its outputs have no score.
        # `>`, so that of equal epochs the earlier one stays.
        if BEST_BY not in logs or not self.weights or score(logs) > self.score:
            self.score = score(logs)
            self.epoch = epoch
            self.weights = training_state.values(training_state.model_variables(model))

    def take(self, model: Any, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep a copy of the model's weights as the best, whatever was better by score."""
        self.score, self.epoch = score(logs), epoch
        self.weights = training_state.values(training_state.model_variables(model))

    def restore(self, model: Any) -> None:
        """Give the model the weights of the best epoch."""
        training_state.assign(training_state.model_variables(model), self.weights)


class KeepBest(keras.callbacks.Callback):
    """Shows each epoch to `Best`."""

    def __init__(self, kept: Any, best: Best, first_epoch: int) -> None:
        super().__init__()
        # The whole model, where `self.model` is the part above what is frozen.
        self.kept = kept
        self.best = best
        self.first_epoch = first_epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Compare, and keep a copy where better."""
        self.best.consider(self.kept, self.first_epoch + epoch, logs or {})


def score(logs: Mapping[str, float]) -> tuple[float, float]:
    """What makes one epoch better than another."""
    values = logs.get(BEST_BY, -np.inf), -logs.get("val_loss", np.inf)
    # NaN is not less than anything: no epoch could be better than one with it.
    f1, loss = (-np.inf if np.isnan(value) else value for value in values)
    return f1, loss


def best_epoch(history: Mapping[str, list[float]]) -> int:
    """The best epoch of a stage, from 0; the last one without validation data."""
    epochs = range(len(history["loss"]))
    if BEST_BY not in history:
        return epochs[-1]
    scores = [score({name: values[i] for name, values in history.items()}) for i in epochs]
    return scores.index(max(scores))
