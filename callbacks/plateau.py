"""Lower the learning rate when validation stands still, whatever else sets the rate."""

import warnings
from typing import Any

import keras
import numpy as np

from tltoolkit.callbacks._monitor import direction, improved
from tltoolkit.callbacks._optimizers import has_schedule, inner_optimizers, rate_names, rate_of


@keras.saving.register_keras_serializable("tltoolkit")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """schedule(t) * scale, where the scale can be changed while the model trains.

    >>> from tltoolkit.callbacks import schedules
    >>> scaled = ScaledSchedule(schedules.linear(0.1, 10))
    >>> _ = scaled.scale.assign(0.5)
    >>> round(float(scaled(0)), 6)
    0.05
    """

    def __init__(self, schedule: Any, scale: float = 1.0) -> None:
        self.schedule = schedule
        self.scale = keras.Variable(scale, dtype="float32", trainable=False, name="scale")

    def __call__(self, step: Any) -> Any:
        """The rate at `step`."""
        return self.schedule(step) * self.scale

    def get_config(self) -> dict[str, Any]:
        """The schedule and the scale of now."""
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "scale": float(keras.ops.convert_to_numpy(self.scale))}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ScaledSchedule":
        """Make it again from `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["scale"])


class ReduceLROnPlateau(keras.callbacks.ReduceLROnPlateau):
    """`keras.callbacks.ReduceLROnPlateau` that works with every schedule.

    After `patience` epochs without an improvement by more than `min_delta`:
    rate <- max(rate * factor, min_lr). All arguments are Keras'. What differs: an optimizer that
    was compiled with a schedule is scaled instead of raising TypeError (`min_lr` then bounds the
    rate of that moment); `LearningRateDecay` keeps the reduction; NaN and inf are never the best.

    >>> import numpy as np
    >>> from tltoolkit.callbacks import schedules
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(schedules.linear(0.1, 100)), "mse")
    >>> plateau = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100)
    >>> x = np.ones((4, 1))
    >>> history = model.fit(x, x, epochs=2, verbose=0, callbacks=[plateau])
    >>> round(float(model.optimizer.learning_rate), 4)  # after 2 of 100 steps
    0.049
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh; make the schedules of the optimizer scalable."""
        self.best: float | None = None
        self.cooldown_counter = 0
        self.wait = 0
        self._direction: str | None = None
        for optimizer in inner_optimizers(self.model.optimizer):
            schedule = optimizer._learning_rate
            if has_schedule(optimizer) and not isinstance(schedule, ScaledSchedule):
                optimizer.learning_rate = ScaledSchedule(schedule)
                self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, and reduce the rate if the patience is over."""
        logs = {} if logs is None else logs
        optimizers = inner_optimizers(self.model.optimizer)
        for name, optimizer in zip(rate_names(optimizers), optimizers, strict=True):
            logs.setdefault(name, rate_of(optimizer))
        if self._direction is None:
            self._direction = direction(self.model, self.monitor, self.mode)
        if self.monitor not in logs:
            warnings.warn(
                f"ReduceLROnPlateau watches `{self.monitor}`, which is not in the logs: "
                + ", ".join(logs),
                stacklevel=2,
            )
            return
        self._compare(epoch, logs[self.monitor], optimizers)

    def get_state(self) -> dict[str, Any]:
        """All that changes while training runs."""
        schedules = [o._learning_rate for o in inner_optimizers(self.model.optimizer)]
        scaled = [s.get_config() for s in schedules if isinstance(s, ScaledSchedule)]
        counters = {name: getattr(self, name) for name in ("best", "wait", "cooldown_counter")}
        return {**counters, "scales": [config["scale"] for config in scaled]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        for name in ("best", "wait", "cooldown_counter"):
            setattr(self, name, state[name])
        schedules = [o._learning_rate for o in inner_optimizers(self.model.optimizer)]
        scaled = [s for s in schedules if isinstance(s, ScaledSchedule)]
        for schedule, scale in zip(scaled, state["scales"], strict=True):
            schedule.scale.assign(scale)

    def _compare(self, epoch: int, value: float, optimizers: list[Any]) -> None:
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if improved(value, self.best, str(self._direction), abs(self.min_delta)):
            self.best = value
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch, optimizers):
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def _reduce(self, epoch: int, optimizers: list[Any]) -> bool:
        """Lower every rate that is above `min_lr`; whether there was one."""
        old = {optimizer: rate_of(optimizer) for optimizer in optimizers}
        above = [optimizer for optimizer in optimizers if old[optimizer] > np.float32(self.min_lr)]
        for optimizer in above:
            new = max(old[optimizer] * self.factor, self.min_lr)
            if has_schedule(optimizer):
                scale = optimizer._learning_rate.scale
                scale.assign(scale * (new / old[optimizer]))
            else:
                optimizer.learning_rate = new
            if self.verbose > 0:
                print(f"\nEpoch {epoch + 1}: learning rate of {optimizer.name} reduced to {new:g}.")
        return bool(above)
