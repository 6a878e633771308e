"""Stop when validation no longer improves, and keep the best weights."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit._checks import SWITCH, Integer, Number, Table
from tltoolkit.callbacks._monitor import beats, direction, improved, number, set_monitor_op
from tltoolkit.callbacks.stopping import StoppingCriterion

EARLY_STOPPING: Table = {
    "min_delta": Number(),
    "patience": Integer(0),
    "baseline": Number() | None,
    "restore_best_weights": SWITCH,
    "start_from_epoch": Integer(0),
    "extra_epochs": Integer(0),
    "min_epochs": Integer(0),
    "patience_increase": Number(above=1) | None,
    "improvement_threshold": Number(0),
    "smooth": Integer(1),
}


class EarlyStopping(keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` with more ways to decide, and an answer to why.

    The first eight arguments, their defaults and what they do are Keras' own, with one
    difference: a value that is NaN or infinite is never the best, and its weights are never kept.

    The rule of patience: stop after epoch t when t - t_best >= patience, where an epoch is the
    best if its value beats the best so far by more than `min_delta`.

    Args:
        monitor: a name in the logs, or several. With several, training goes on while any of
            them improves; the best weights are those of the first.
        min_delta, patience, verbose, baseline, restore_best_weights, start_from_epoch: as in
            Keras. `baseline` speaks of the first monitor.
        mode: "auto", "min" or "max"; or one of these for each monitor.
        extra_epochs: epochs that are still trained after a rule said stop; the best of all
            epochs, these included, is what comes back.
        min_epochs: no rule is asked before this many epochs are done.
        patience_increase: if given, a clear improvement after epoch t (counted from 1) raises
            the patience to at least t * (patience_increase - 1) epochs: late improvements earn
            longer waits (Bengio, "Practical Recommendations for Gradient-Based Training of Deep
            Architectures", 2012). A number > 1, often 2.
        improvement_threshold: the relative change of the first monitor that is clear.
        smooth: compare the running mean of the last `smooth` values (fewer at the start),
            for noisy curves.
        criterion: a rule of `tltoolkit.callbacks.stopping`, asked beside the patience; with
            `patience=0` it decides alone. The error that it sees is the first monitor if
            that falls, or 1 - value if it rises; epochs with a NaN or inf are left out.

    Attributes:
        reason: what it did and why, in a sentence.
        stopped_epoch, best, best_epoch, best_weights, wait, monitor_op: as in Keras; the last one
            compares the first monitor, also where a subclass has set it.

    Raises:
        ValueError: an argument out of its range, or a direction that cannot be told.

    >>> import numpy as np
    >>> _ = keras.utils.set_random_seed(0)
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> stop = EarlyStopping("loss", patience=2, min_delta=100, restore_best_weights=True)
    >>> x = np.ones((4, 1))
    >>> history = model.fit(x, x, epochs=9, verbose=0, callbacks=[stop])
    >>> len(history.history["loss"]), stop.best_epoch
    (3, 0)
    """

    def __init__(
        self,
        monitor: str | Sequence[str] = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str | Sequence[str] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        extra_epochs: int = 0,
        min_epochs: int = 0,
        patience_increase: float | None = None,
        improvement_threshold: float = 0.005,
        smooth: int = 1,
        criterion: StoppingCriterion | None = None,
    ) -> None:
        self.monitors = (monitor,) if isinstance(monitor, str) else tuple(monitor)
        modes = (mode,) * len(self.monitors) if isinstance(mode, str) else tuple(mode)
        if not self.monitors or len(set(self.monitors)) != len(self.monitors):
            raise _checks.fail("monitor", "one name or several different names", monitor)
        if len(modes) != len(self.monitors):
            raise _checks.fail("mode", "one mode, or one for each monitor", mode)
        _checks.arguments(EARLY_STOPPING, locals())
        super().__init__(
            self.monitors[0],
            min_delta,
            patience,
            verbose,
            modes[0],
            baseline,
            restore_best_weights,
            start_from_epoch,
        )
        self.modes = (self.mode, *modes[1:])
        for name in self.modes:
            _checks.one_of("mode", name, ("auto", "min", "max"))
        self.extra_epochs = extra_epochs
        self.min_epochs = min_epochs
        self.patience_increase = patience_increase
        self.improvement_threshold = improvement_threshold
        self.smooth = smooth
        self.criterion = criterion
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_weights: list[Any] | None = None
        self.best_epoch = 0
        self.reason = "still training"
        self._why = ""
        self._directions: list[str] = []
        self._bests: list[float | None] = [None] * len(self.monitors)
        self._recent: list[list[float]] = [[] for _ in self.monitors]
        self._patience_now = self.patience
        self._fired_epoch: int | None = None
        self._errors: list[float] = []
        self._training_errors: list[float] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, remember the best, and stop if a rule says so."""
        # None unless a subclass has set one.
        if self.monitor_op is None:
            set_monitor_op(self)
        if not self._directions:
            # Asked of the operator, which a subclass may have turned round.
            first = "min" if self.monitor_op(0.0, 1.0) else "max"
            others = zip(self.monitors[1:], self.modes[1:], strict=True)
            self._directions = [first, *(direction(self.model, *other) for other in others)]
        given = self.get_monitor_value(logs)
        # Keras warns of a missing monitor itself.
        if given is None or epoch < self.start_from_epoch:
            return
        value = number(self.monitor, given)
        # A subclass may make the value of several logs.
        better = self._compare(epoch, {**(logs or {}), self.monitor: value})
        if self.criterion is not None and math.isfinite(value):
            self._remember_errors(logs or {})
        if self._fired_epoch is None and epoch + 1 >= self.min_epochs:
            self._ask_rules(epoch, better)
        if self._fired_epoch is not None and epoch >= self._fired_epoch + self.extra_epochs:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Bring the best weights back, if asked, and complete `reason`."""
        self.reason = self._why or "trained all epochs: no rule asked to stop"
        if self.best is not None:
            self.reason += f"; best {self.monitor} {self.best:.6g} in epoch {self.best_epoch + 1}"
        super().on_train_end(logs)

    def restore_best(self) -> None:
        """Bring the best weights back after a fit that an exception or Ctrl-C cut short."""
        if self.best_weights is None:
            raise ValueError("no best weights are kept: use restore_best_weights=True and train")
        self.model.set_weights(self.best_weights)

    def get_state(self) -> dict[str, Any]:
        """All that changes while training runs: JSON values and lists of arrays."""
        return {name: getattr(self, name) for name in _STATE}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        for name in _STATE:
            setattr(self, name, state[name])

    def _compare(self, epoch: int, logs: dict[str, Any]) -> bool:
        """Update the best values; whether any monitor improved."""
        before = self.best
        better = [self._improves(i, logs.get(name)) for i, name in enumerate(self.monitors)]
        self.best = self._bests[0]
        self.wait += 1
        if better[0]:
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            self._extend_patience(epoch, before)
        # As in Keras the baseline holds back the wait, not what counts as best.
        if any(better[1:]) or (better[0] and self._beats_baseline()):
            self.wait = 0
        return any(better)

    def _beats_baseline(self) -> bool:
        return self.baseline is None or beats(self, self._mean(0), self.baseline)

    def _improves(self, index: int, given: float | None) -> bool:
        value = math.nan if given is None else number(self.monitors[index], given)
        if not math.isfinite(value):
            return False
        # A new list: a checkpoint may hold the old one.
        self._recent[index] = [*self._recent[index], value][-self.smooth :]
        mean, best = self._mean(index), self._bests[index]
        if index == 0:
            better = beats(self, mean, best)
        else:
            better = improved(mean, best, self._directions[index], abs(self.min_delta))
        if better:
            self._bests[index] = mean
        return better

    def _mean(self, index: int) -> float:
        return sum(self._recent[index]) / len(self._recent[index])

    def _extend_patience(self, epoch: int, before: float | None) -> None:
        if self.patience_increase is None or before is None:
            return
        if abs(self._mean(0) - before) > self.improvement_threshold * abs(before):
            earned = math.ceil((epoch + 1) * (self.patience_increase - 1))
            # Never less: an early improvement must not shorten what was asked for.
            self._patience_now = max(self._patience_now, earned)

    def _remember_errors(self, logs: dict[str, Any]) -> None:
        name = self.monitor.removeprefix("val_")
        if name not in logs:
            raise ValueError(
                f"the criterion needs `{name}` of the training data. In the logs: {', '.join(logs)}"
            )
        if math.isfinite(logs[name]):
            falls = self._directions[0] == "min"
            self._errors.append(self._mean(0) if falls else 1 - self._mean(0))
            self._training_errors.append(float(logs[name] if falls else 1 - logs[name]))

    def _ask_rules(self, epoch: int, better: bool) -> None:
        # With patience=0, Keras' default, a criterion decides alone.
        asks_patience = self.criterion is None or self.patience > 0
        if asks_patience and not better and self.wait >= self._patience_now and epoch > 0:
            self._fired_epoch = epoch
            names = " or ".join(self.monitors)
            self._why = f"epoch {epoch + 1}: no better {names} for {self.wait} epochs"
        elif (
            self.criterion is not None
            and self._errors
            and self.criterion.fires(self._errors, self._training_errors)
        ):
            self._fired_epoch = epoch
            self._why = f"epoch {epoch + 1}: {self.criterion} fired"


# All that `_reset` sets but `reason`, which is made of them, and the directions.
_STATE = (
    "wait",
    "stopped_epoch",
    "best",
    "best_epoch",
    "best_weights",
    "_why",
    "_bests",
    "_recent",
    "_patience_now",
    "_fired_epoch",
    "_errors",
    "_training_errors",
)
