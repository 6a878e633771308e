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
    probe = keras.callbacks.EarlyStopping(monitor, patience=9)
    probe.set_model(model)
    probe.on_train_begin()
    probe.on_epoch_end(0, {monitor: 0.0})
    probe.on_epoch_end(1, {monitor: 1.0})
    return "max" if probe.best == 1.0 else "min"


def set_monitor_op(callback: Any) -> None:
    """Set `monitor_op` and the sign of `min_delta` as Keras' own callbacks do.

    Subclasses of theirs compare by the two.
    """
    falls = direction(callback.model, callback.monitor, callback.mode) == "min"
    callback.monitor_op = keras.ops.less if falls else keras.ops.greater
    # By its absolute value: it may have a sign already, from an earlier fit.
    callback.min_delta = -abs(callback.min_delta) if falls else abs(callback.min_delta)


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


def beats(callback: Any, value: float, reference: float | None) -> bool:
    """Whether a callback's value is better, by its `monitor_op` and the `min_delta` that it has.

    Those are Keras' public names, so that a subclass may set them. NaN and inf never are better.
    """
    if not math.isfinite(value):
        return False
    return reference is None or bool(callback.monitor_op(value - callback.min_delta, reference))


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
    # Compiled metrics lie in a group of their own within `model.metrics`.
    return monitor.removeprefix("val_") in [
        metric.name for group in model.metrics for metric in getattr(group, "metrics", [group])
    ]
