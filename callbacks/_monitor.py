"""What callbacks that watch a logged value share: its direction and whether it improved."""

import math
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks

# Names of ValidationMetrics, which Keras cannot place because no Keras metric carries them.
HIGHER_IS_BETTER = ("f1", "precision", "recall", "average_precision", "roc_auc")


def direction(model: Any, monitor: str, mode: str) -> str:
    """Tell whether `monitor` should fall or rise: "min" or "max".

    `mode="auto"` asks Keras for the metrics that it knows.

    Raises:
        ValueError: Keras' own, asking for `mode`, if the direction cannot be told.
    """
    if mode != "auto":
        return mode
    if monitor.removeprefix("val_").startswith(HIGHER_IS_BETTER) and not _is_metric(model, monitor):
        return "max"
    # Two made-up epochs through Keras' own callback show which way it compares.
    # With patience, so that it never gets to tell the model to stop.
    probe = keras.callbacks.EarlyStopping(monitor, patience=9)
    probe.set_model(model)
    probe.on_train_begin()
    probe.on_epoch_end(0, {monitor: 0.0})
    probe.on_epoch_end(1, {monitor: 1.0})
    return "max" if probe.best == 1.0 else "min"


class FiniteBest:
    """Mixed into Keras' callbacks that watch a value: NaN and inf are never the best.

    The names are private ones of Keras (3.15.1), whose own code and subclasses call them.
    """

    def _set_monitor_op(self: Any) -> None:
        """Set `monitor_op` and the sign of `min_delta`, by which subclasses of Keras' compare."""
        falls = direction(self.model, self.monitor, self.mode) == "min"
        self.monitor_op = keras.ops.less if falls else keras.ops.greater
        self.min_delta = -abs(self.min_delta) if falls else abs(self.min_delta)

    def _is_improvement(self: Any, monitor_value: float, reference_value: float | None) -> bool:
        finite = math.isfinite(monitor_value)
        return finite and bool(super()._is_improvement(monitor_value, reference_value))  # type: ignore[misc]


def number(monitor: str, value: Any) -> float:
    """The value of a monitor; a metric may log it as an array of one number.

    Raises:
        ValueError: Several numbers, of which none can be the best.
    """
    values = np.asarray(value)
    if values.size != 1:
        rule = "a name with one number per epoch; F1Score and its like need average='macro'"
        raise _checks.fail("monitor", f"{rule}. {monitor} has {values.size}", monitor)
    return float(values.item())


def improved(value: float, best: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Whether `value` is better than `best` by more than `min_delta`; NaN and inf never are."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    # Keras compares float32 tensors; so does this, or last-digit differences would disagree.
    if mode == "min":
        return bool(np.float32(value + min_delta) < np.float32(best))
    return bool(np.float32(value - min_delta) > np.float32(best))


def _is_metric(model: Any, monitor: str) -> bool:
    return monitor.removeprefix("val_") in [
        metric.name for group in model.metrics for metric in getattr(group, "metrics", [group])
    ]
