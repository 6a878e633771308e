"""Let the momentum of an optimizer follow a schedule, in the compiled step."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tltoolkit import _checks
from tltoolkit.callbacks._optimizers import optimizers_of
from tltoolkit.callbacks._scheduled import KerasSchedule, ScheduledCallback


class LiveFloat(float):
    """A Python number that a compiled step reads anew each time it runs.

    Optimizers ask `momentum != 0` in Python and write it into their config, so it must stay a
    number; but a number is frozen into the step when that is traced. TensorFlow asks any object
    for `__tf_tensor__` first, and gets the variable.
    """

    dtype = "float32"

    def __init__(self, value: float) -> None:
        self.variable = tf.Variable(value, dtype=tf.float32, trainable=False)

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        return tf.cast(self.variable, dtype or tf.float32, name=name)

    def __rsub__(self, other: Any) -> Any:  # Adam: 1 - beta_1
        return other - tf.convert_to_tensor(self)


class MomentumSchedule(ScheduledCallback):
    """Set the momentum at the start of each epoch or step.

    momentum(t) = schedule(t), for `momentum` of SGD and RMSprop and `beta_1` of Adam, AdamW,
    Nadam, Adamax and Lion. Adam's bias correction uses the value of the moment. The last value
    stays after training. Source of the rising kind: Sutskever et al., "On the Importance of
    Initialization and Momentum in Deep Learning", 2013; of one-cycle's: Smith, "A Disciplined
    Approach to Neural Network Hyper-Parameters", 2018.

    Args:
        schedule: one of `tltoolkit.callbacks.schedules`, any Keras schedule, or a function from
            the number of epochs (or steps) done to a momentum in 0..1, below 1.
        by: "epoch" or "step"; a step is one update of the optimizer.

    Raises:
        ValueError: a value outside 0..1; an optimizer without momentum.

    >>> import keras, numpy as np
    >>> from tltoolkit.callbacks import schedules
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse")
    >>> rising = MomentumSchedule(schedules.piecewise_constant([0, 1], [0.5, 0.9, 0.99]))
    >>> x = np.ones((4, 1))
    >>> history = model.fit(x, x, epochs=3, verbose=0, callbacks=[rising])
    >>> [round(momentum, 2) for momentum in history.history["momentum"]]
    [0.5, 0.9, 0.99]
    """

    def __init__(self, schedule: KerasSchedule | Callable[[int], float], by: str = "epoch") -> None:
        super().__init__(schedule, by)
        self._live: list[tuple[Any, str, LiveFloat]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Make the momentum of the compiled step changeable."""
        self._live = []
        for optimizer in optimizers_of(self.model):
            name = _momentum_name(optimizer)
            live = LiveFloat(getattr(optimizer, name))
            # In place of the number: optimizers read it by its name in every step.
            setattr(optimizer, name, live)
            self._live.append((optimizer, name, live))
        # A step traced in an earlier fit has the old number in it.
        self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the momentum of this epoch into the logs."""
        if logs is not None:
            # Of the first: all of them have the same.
            logs["momentum"] = float(self._live[0][2].variable)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave a plain number behind."""
        for optimizer, name, live in self._live:
            setattr(optimizer, name, float(live.variable))

    def apply(self, value: float) -> None:
        """Set the momentum."""
        _checks.number("the value of schedule", value, 0, below=1)
        for _, _, live in self._live:
            live.variable.assign(value)


def _momentum_name(optimizer: Any) -> str:
    for name in ("momentum", "beta_1"):
        # Without momentum at the start, the optimizer makes no room to keep a velocity.
        if getattr(optimizer, name, 0) > 0:
            return name
    raise ValueError(
        f"{type(optimizer).__name__} has no momentum to schedule; compile it with momentum > 0"
    )
