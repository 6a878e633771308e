"""What callbacks that follow a schedule share: when to look, and what the value is."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tltoolkit import _checks
from tltoolkit._checks import Integer, OneOf, Table

KerasSchedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule
SCHEDULED: Table = {"by": OneOf("epoch", "step"), "warmup": Integer(0)}
AHEAD = 1024  # values computed at once: one call per step would cost more than a small step


def is_keras_schedule(schedule: Any) -> bool:
    """Whether it is a schedule of tensors, and not a plain function."""
    return isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)


def schedule_values(schedule: Any, start: int, count: int) -> npt.NDArray[np.float32]:
    """The values of a Keras schedule at `start`, `start + 1`, ...: (count,) float32."""
    # int64, as the optimizer's own count.
    steps = tf.range(start, start + count, dtype=tf.int64)
    spec = tf.TensorSpec((), tf.float32)

    def value(step: Any) -> Any:
        return tf.cast(schedule(step), tf.float32)

    # Mapped, not given all at once: a schedule may branch on its step.
    compiled = tf.function(lambda s: tf.map_fn(value, s, fn_output_signature=spec))
    return np.asarray(compiled(steps))


class ScheduledCallback(keras.callbacks.Callback):
    """Applies the value of a schedule at the start of every epoch or step.

    A step is one update of the optimizer, counted by the optimizer: the schedule goes on over
    several fits until the model is compiled anew. With `steps_per_execution=n` the value is
    set once per execution.
    """

    def __init__(
        self, schedule: KerasSchedule | Callable[[int], float], by: str, warmup: int = 0
    ) -> None:
        super().__init__()
        if not callable(schedule):
            raise _checks.fail("schedule", "a Keras schedule or a function of one number", schedule)
        _checks.arguments(SCHEDULED, locals())
        self.schedule = schedule
        self.by = by
        self.warmup = warmup
        self._ahead: tuple[int, npt.NDArray[np.float32]] = (0, np.empty(0, np.float32))

    def value(self, t: int) -> float:
        """The value after `t` epochs or steps, warm-up included."""
        if t < self.warmup:
            # From a first part and not from 0, so that no step is lost.
            return self._scheduled(0) * (t + 1) / (self.warmup + 1)
        return self._scheduled(t - self.warmup)

    def apply(self, value: float) -> None:
        """Put the value where it works."""
        raise NotImplementedError

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Apply the value of this epoch."""
        if self.by == "epoch":
            self.apply(self.value(epoch))

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Apply the value of this step."""
        if self.by == "step":
            # Not `batch`: that begins at 0 in every epoch, and in a fit that was resumed too.
            steps = tf.convert_to_tensor(self.model.optimizer.iterations)
            self.apply(self.value(int(steps)))

    def _scheduled(self, t: int) -> float:
        ahead = self.by == "step" and is_keras_schedule(self.schedule)
        # An epoch is asked for once and costs one call; a function is not known to take tensors.
        value = float(self._looked_up(t) if ahead else self.schedule(t))
        # The optimizer would take it, and the weights would be lost in the next step.
        if not math.isfinite(value):
            raise ValueError(f"the schedule gives {value} at {self.by} {t}")
        return value

    def _looked_up(self, t: int) -> float:
        start, values = self._ahead
        if not start <= t < start + len(values):
            start, values = self._ahead = (t, schedule_values(self.schedule, t, AHEAD))
        return values[t - start]
