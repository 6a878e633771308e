"""Lower the learning rate when validation stands still, whatever else sets the rate."""

import logging
import warnings
from typing import Any

import keras
import numpy as np

from tltoolkit.callbacks._monitor import beats, number, set_monitor_op
from tltoolkit.callbacks._optimizers import has_schedule, optimizers_of, rate_names, rate_of
from tltoolkit.layers import private


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
        # A variable, which the traced step reads anew.
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

    best: float | None
    wait: int
    cooldown_counter: int

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh; make the schedules of the optimizer scalable."""
        super().on_train_begin(logs)
        for optimizer in optimizers_of(self.model):
            schedule = private.rate_source(optimizer)
            if has_schedule(optimizer) and not isinstance(schedule, ScaledSchedule):
                optimizer.learning_rate = ScaledSchedule(schedule)
                # A step traced in an earlier fit has the old schedule in it.
                self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, and reduce the rate if the patience is over."""
        logs = {} if logs is None else logs
        optimizers = optimizers_of(self.model)
        for name, optimizer in zip(rate_names(optimizers), optimizers, strict=True):
            # Only where nobody has: `LearningRateDecay` logs the rate that the epoch had.
            logs.setdefault(name, rate_of(optimizer))
        if self.monitor_op is None:
            set_monitor_op(self)
        if self.monitor not in logs:
            warnings.warn(
                f"ReduceLROnPlateau watches `{self.monitor}`, which is not in the logs: "
                + ", ".join(logs),
                stacklevel=2,
            )
            return
        self._compare(epoch, number(self.monitor, logs[self.monitor]), optimizers)

    def get_state(self) -> dict[str, Any]:
        """All that changes while training runs."""
        schedules = [private.rate_source(one) for one in optimizers_of(self.model)]
        scaled = [s.get_config() for s in schedules if isinstance(s, ScaledSchedule)]
        counters = {name: getattr(self, name) for name in ("best", "wait", "cooldown_counter")}
        return {**counters, "scales": [config["scale"] for config in scaled]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        for name in ("best", "wait", "cooldown_counter"):
            setattr(self, name, state[name])
        schedules = [private.rate_source(one) for one in optimizers_of(self.model)]
        scaled = [s for s in schedules if isinstance(s, ScaledSchedule)]
        for schedule, scale in zip(scaled, state["scales"], strict=True):
            schedule.scale.assign(scale)

    def _compare(self, epoch: int, value: float, optimizers: list[Any]) -> None:
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if beats(self, value, self.best):
            self.best = value
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and self._reduce(epoch, optimizers):
                self.cooldown_counter = self.cooldown
                self.wait = 0

    def _reduce(self, epoch: int, optimizers: list[Any]) -> bool:
        """Lower every rate that is above `min_lr`; whether there was one."""
        # Optimizers keep the rate in float32, where a `min_lr` may be a little less or more.
        above = [one for one in optimizers if rate_of(one) > np.float32(self.min_lr)]
        for optimizer in above:
            rate = max(rate_of(optimizer) * self.factor, self.min_lr)
            _set_rate(optimizer, rate)
            if self.verbose > 0:
                name = f" {optimizer.name}" if len(optimizers) > 1 else ""
                _say(f"ReduceLROnPlateau reducing{name} learning rate to {rate}.", epoch)
        return bool(above)


def _set_rate(optimizer: Any, rate: float) -> None:
    if has_schedule(optimizer):
        scale = private.rate_source(optimizer).scale
        # By the ratio: the schedule itself goes on below it.
        scale.assign(scale * (rate / rate_of(optimizer)))
    else:
        optimizer.learning_rate = rate


def _say(text: str, epoch: int) -> None:
    """As Keras says it: on a line of its own beside the progress bar, or in its log."""
    said = f"\nEpoch {epoch + 1}: {text}"
    if keras.config.is_interactive_logging_enabled():
        print(said)
    else:
        logging.getLogger("absl").info(said)
