"""Make the learning rate of a running model follow a schedule."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tltoolkit.callbacks._optimizers import has_schedule, optimizers_of, rate_names, rate_of
from tltoolkit.callbacks._scheduled import KerasSchedule, ScheduledCallback


class LearningRateDecay(ScheduledCallback):
    """Set the learning rate at the start of each epoch or step.

    rate(t) = schedule(t - warmup) * factor from t = warmup on, and before that
    schedule(0) * (t + 1) / (warmup + 1) * factor: a straight climb (Goyal et al., "Accurate,
    Large Minibatch SGD", 2017). `factor` is what other callbacks multiplied the rate by at the
    end of an epoch, so that `ReduceLROnPlateau`, Keras' or ours, composes with any schedule.
    Several rates of a `MultiOptimizer` keep their ratios; the schedule is the largest of them.

    Args:
        schedule: one of `tltoolkit.callbacks.schedules`, any Keras schedule, or a function from
            the number of epochs (or steps) done to a rate.
        by: "epoch" or "step"; a step is one update of the optimizer, counted as Keras counts.
        warmup: number of epochs or steps (as `by` says) to climb.

    The rate of each epoch is in the logs as `learning_rate`.

    Raises:
        ValueError: an argument out of its range; an optimizer that was made with a schedule.

    >>> import numpy as np
    >>> from tltoolkit.callbacks import schedules
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> decay = LearningRateDecay(schedules.step(0.1, decay_steps=2), warmup=1)
    >>> x = np.ones((4, 1))
    >>> history = model.fit(x, x, epochs=5, verbose=0, callbacks=[decay])
    >>> [round(rate, 3) for rate in history.history["learning_rate"]]
    [0.05, 0.1, 0.1, 0.05, 0.05]
    """

    def __init__(
        self,
        schedule: KerasSchedule | Callable[[int], float],
        by: str = "epoch",
        warmup: int = 0,
    ) -> None:
        super().__init__(schedule, by, warmup)
        self._optimizers: list[Any] = []
        self._factors: list[float] = []
        self._last: list[float] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the rates to set, and their ratios."""
        optimizers = optimizers_of(self.model)
        if any(has_schedule(optimizer) for optimizer in optimizers):
            raise ValueError(
                "the optimizer was compiled with a schedule as its learning_rate; compile it "
                "with a number, and give the schedule to LearningRateDecay"
            )
        # In a second fit the rates are where the schedule left them: the first ones count.
        if optimizers != self._optimizers:
            rates = [rate_of(optimizer) for optimizer in optimizers]
            self._ratios = [rate / max(rates) if max(rates) > 0 else 1.0 for rate in rates]
            self._optimizers = optimizers
        self._factors = list(self._ratios)
        self._last = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take in what others did to the rate, then apply the value of this epoch."""
        self._take_in_factors()
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the rates of this epoch into the logs."""
        if logs is not None and self._last is not None:
            logs.update(zip(rate_names(self._optimizers), self._last, strict=True))

    def apply(self, value: float) -> None:
        """Set the rates."""
        # As float32, which is what the optimizer keeps: a change by others is then exact to see.
        self._last = [float(np.float32(value * factor)) for factor in self._factors]
        for optimizer, rate in zip(self._optimizers, self._last, strict=True):
            # A third of the time that `optimizer.learning_rate = rate` takes, at every step.
            optimizer.learning_rate.value.assign(rate)

    def get_state(self) -> dict[str, Any]:
        """All that changes while training runs."""
        return {"factors": self._factors, "last": self._last}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        self._factors, self._last = state["factors"], state["last"]

    def _take_in_factors(self) -> None:
        if self._last is None:
            return
        for i, optimizer in enumerate(self._optimizers):
            now = rate_of(optimizer)
            # From a rate of 0 no factor can be told.
            if now != self._last[i] and self._last[i] > 0:
                self._factors[i] *= now / self._last[i]
