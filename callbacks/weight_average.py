"""Averages of the weights over training, evaluated and kept instead of the last weights."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tltoolkit._checks import Integer, Number, OneOf, Table, arguments
from tltoolkit.layers import graph, traits

AVERAGE: Table = {
    "kind": OneOf("ema", "swa"),
    "decay": Number(above=0, below=1),
    "every": Integer(1),
    "start_epoch": Integer(0),
}


class MixedWeightAverage(keras.callbacks.Callback):
    """Average the weights while training, validate with the average, and end with it.

    - "ema": the exponential moving average, after every `every` steps
      a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)) in the n-th update (Polyak and
      Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992).
    - "swa": the plain mean, at the end of each epoch from `start_epoch` on
      a <- a + (w - a) / n (Izmailov et al., "Averaging Weights Leads to Wider Optima", 2018).

    From `start_epoch` on the validation inside `fit` sees the average, and so do callbacks that
    act between it and the next epoch's start: `EarlyStopping` and `ModelCheckpoint` keep the
    average if they come after this one in the list. Training itself goes on with the raw
    weights. BatchNormalization's moving statistics belong to the raw weights: with `batches`
    they are estimated anew for the average, at the end; without, they are averaged too.

    Args:
        kind: "ema" or "swa".
        decay: d of the moving average, 0 < decay < 1.
        every: steps between two updates of "ema".
        start_epoch: first epoch (from 0) that is averaged.
        batches: training inputs x for BatchNormalization: an iterable of arrays (or of tuples
            that begin with one), gone through once.

    Raises:
        ValueError: an argument out of its range.

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.compile(keras.optimizers.SGD(0.1), "mse")
    >>> model.set_weights([np.zeros((1, 1))])
    >>> x = np.ones((4, 1))
    >>> average = MixedWeightAverage("swa", start_epoch=0)
    >>> history = model.fit(x, x, epochs=2, verbose=0, callbacks=[average])
    >>> round(float(model.get_weights()[0][0, 0]), 4)  # 0.2 after one epoch, 0.36 after two
    0.28
    """

    def __init__(
        self,
        kind: str = "ema",
        *,
        decay: float = 0.999,
        every: int = 1,
        start_epoch: int = 0,
        batches: Iterable[Any] | None = None,
    ) -> None:
        super().__init__()
        arguments(AVERAGE, locals())
        self.kind = kind
        self.decay = decay
        self.every = every
        self.start_epoch = start_epoch
        self.batches = batches
        self._average: list[Any] = []
        # None while the model itself has the raw weights.
        self._raw: list[Any] | None = None
        self._updates = self._steps = 0
        self._averaging = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh."""
        self._average = []
        self._raw = None
        self._updates = self._steps = 0
        self._averaging = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Go on training with the raw weights."""
        # Before the first step, which has to go on from them.
        self._use_raw()
        self._averaging = epoch >= self.start_epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Update the moving average."""
        self._steps += 1
        if self._averaging and self.kind == "ema" and self._steps % self.every == 0:
            # A few updates make no average yet: at first it follows the weights closely.
            slow_start = (1 + self._updates) / (10 + self._updates)
            self._update(1 - min(self.decay, slow_start))

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Validate with the average, of this epoch too."""
        self._close_epoch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the average to the callbacks that follow."""
        self._close_epoch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the average in the model, with BatchNormalization estimated anew."""
        self._use_average()
        if self._raw is not None and self.batches is not None:
            estimate_batch_norm(self.model, self.batches)

    def get_state(self) -> dict[str, Any]:
        """The averages, and the raw weights if the model holds the average at the moment."""
        return {
            "average": [value.numpy() for value in self._average],
            "raw": None if self._raw is None else [value.numpy() for value in self._raw],
            "updates": self._updates,
            "steps": self._steps,
            "averaging": self._averaging,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        raw = state["raw"]
        self._average = [tf.constant(value) for value in state["average"]]
        self._raw = None if raw is None else [tf.constant(value) for value in raw]
        self._updates, self._steps = state["updates"], state["steps"]
        self._averaging = state["averaging"]

    def _weights(self) -> list[Any]:
        # A dropout rate follows its schedule and has no mean.
        inner = graph.layers_inside(self.model)
        rates = {id(layer.rate) for layer in inner if hasattr(layer, "set_rate")}
        return [weight for weight in self.model.weights if id(weight) not in rates]

    def _close_epoch(self) -> None:
        # Once per epoch: the raw weights are put aside until the next one begins.
        if self._averaging and self._raw is None:
            if self.kind == "swa":
                self._update(1 / (self._updates + 1))
            self._use_average()

    def _update(self, share: float) -> None:
        # Copies: an optimizer changes variables in place.
        weights = [tf.identity(weight.value) for weight in self._weights()]
        if not self._average:
            self._average = weights
        else:
            self._average = [
                _mix(old, new, share) for old, new in zip(self._average, weights, strict=True)
            ]
        self._updates += 1

    def _use_average(self) -> None:
        if self._average and self._raw is None:
            self._raw = [tf.identity(weight.value) for weight in self._weights()]
            self._assign(self._average)

    def _use_raw(self) -> None:
        if self._raw is not None:
            self._assign(self._raw)
            self._raw = None

    def _assign(self, values: list[Any]) -> None:
        for weight, value in zip(self._weights(), values, strict=True):
            weight.assign(value)


def _mix(old: Any, new: Any, share: float) -> Any:
    # Integers (counters, lookup tables) have no mean.
    return old + tf.cast(share, old.dtype) * (new - old) if old.dtype.is_floating else new


def estimate_batch_norm(model: Any, batches: Iterable[Any]) -> None:
    """Set the moving statistics of every trainable BatchNormalization to those of `batches`.

    Each becomes the plain mean over the batches. Frozen layers (`trainable=False`) keep theirs.

    Args:
        model: the model, with the weights that the statistics are for.
        batches: an iterable of x, or of tuples that begin with x.
    """
    norms = [norm for norm in traits.batch_norms(model) if norm.trainable]
    if not norms:
        return
    # Put back afterwards: a momentum of n / (n + 1) is how the layer takes a plain mean.
    momenta = [norm.momentum for norm in norms]
    others = list(model.variables)  # SpectralNormalization moves its kernel, which trains
    # Copies: the pass assigns to the variables themselves.
    kept = {id(w): tf.identity(w.value) for w in others}
    own = {id(w) for norm in norms for w in (norm.moving_mean, norm.moving_variance)}
    try:
        for number, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = number / (number + 1)  # the running mean of all batches so far
            # Not in a graph, which would keep the momentum of the first batch.
            model(batch[0] if isinstance(batch, tuple | list) else batch, training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for weight in others:  # whatever else a pass in training mode moves
            if id(weight) not in own:
                weight.assign(kept[id(weight)])
