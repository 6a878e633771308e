"""Let the rate of the scheduled dropout layers follow a schedule."""

from collections.abc import Callable, Sequence
from typing import Any

from tltoolkit import _checks
from tltoolkit.callbacks._scheduled import KerasSchedule, ScheduledCallback
from tltoolkit.layers import graph


class SpatialDropoutSchedule(ScheduledCallback):
    """Set the rate of dropout layers at the start of each epoch or step.

    rate(t) = schedule(t), for every layer of `tltoolkit.callbacks.layers` in the model, nested
    models included, without a new trace. The last rate stays in the model. Source of the
    rising kind: Morerio et al., "Curriculum Dropout", 2017.

    Args:
        schedule: one of `tltoolkit.callbacks.schedules` (`linear` climbs when its end lies above
            its start), any Keras schedule, or a function from the number of epochs (or steps)
            done to a rate, 0 <= rate < 1.
        by: "epoch" or "step"; a step is one update of the optimizer.
        layers: names of the layers to set, each layer of such a name; None for all.

    Raises:
        ValueError: a model without such layers, an unknown name, a rate out of range.

    >>> import numpy as np
    >>> from tltoolkit.callbacks.layers import ScheduledDropout
    >>> model = keras.Sequential([keras.Input((1,)), ScheduledDropout(0.0)])
    >>> model.compile("sgd", "mse")
    >>> ramp = SpatialDropoutSchedule(lambda epoch: min(0.1 * epoch, 0.3))
    >>> x = np.ones((4, 1))
    >>> history = model.fit(x, x, epochs=5, verbose=0, callbacks=[ramp])
    >>> round(float(model.layers[0].rate), 6)
    0.3
    """

    def __init__(
        self,
        schedule: KerasSchedule | Callable[[int], float],
        by: str = "epoch",
        layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__(schedule, by)
        self.layers = layers
        self._chosen: list[Any] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the layers."""
        found: dict[str, list[Any]] = {}
        for layer in graph.layers_inside(self.model):
            if hasattr(layer, "set_rate"):
                # Layers of nested models may have one name; all of them are set.
                found.setdefault(layer.name, []).append(layer)
        if not found:
            raise ValueError(
                "the model has no layer whose rate can change: use ScheduledSpatialDropout2D, "
                "ScheduledDropout, DropBlock2D or DropConnect of tltoolkit.callbacks.layers"
            )
        for name in self.layers or ():
            _checks.one_of("layers", name, found)
        names = found if self.layers is None else self.layers
        self._chosen = [layer for name in names for layer in found[name]]

    def apply(self, value: float) -> None:
        """Set the rates."""
        for layer in self._chosen:
            layer.set_rate(value)
