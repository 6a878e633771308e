"""What a feature map says in all, whatever its size: statistics over its positions."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tltoolkit import _checks

STATISTICS = ("mean", "std", "max")
# Far below the variance of any channel that tells images apart; it bounds the slope of the root,
# which would be infinite for a constant map.
EPSILON = 1e-6


def checked(statistics: Sequence[str]) -> tuple[str, ...]:
    """The statistics in the order of `STATISTICS`.

    Raises:
        TypeError: No tuple or list.
        ValueError: None at all, an unknown one, or one twice.
    """
    _checks.instance("statistics", statistics, (tuple, list), f"a tuple of some of {STATISTICS}")
    for name in statistics:
        _checks.one_of("statistics", name, STATISTICS)
    if not statistics or len(set(statistics)) < len(statistics):
        raise _checks.fail("statistics", f"one or more of {STATISTICS}, each once", statistics)
    return tuple(name for name in STATISTICS if name in statistics)


def _std(x: Any, axes: tuple[int, ...]) -> Any:
    # Squares of differences: the mean of squares less the square of the mean would cancel in
    # float32 where a channel is far from zero.
    differences = x - ops.mean(x, axis=axes, keepdims=True)
    return ops.sqrt(ops.mean(ops.square(differences), axis=axes) + EPSILON)


_OF = {"mean": ops.mean, "std": _std, "max": ops.max}


@keras.saving.register_keras_serializable("tltoolkit")
class SpatialStatistics(keras.layers.Layer):
    """Statistics of each channel over all positions, side by side.

    Maps (B, H, W, C) or tokens (B, T, C) become (B, k * C): the C means, then the C standard
    deviations sqrt(variance + 1e-6), whose gradient is finite for a constant map too, then the C
    maxima, as far as they are asked for. A vector (B, C), which has no positions, is its own mean.

    Args:
        statistics: k different ones of `"mean"`, `"std"`, `"max"`; any order means this one.

    Raises:
        ValueError: Other statistics; others than the mean of a vector.
    """

    def __init__(self, statistics: Sequence[str] = ("mean",), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.statistics = checked(statistics)

    def build(self, shape: Any) -> None:
        """Look at the shape; there are no weights."""
        if len(shape) == 2 and self.statistics != ("mean",):
            raise _checks.fail("statistics", f"('mean',) for vectors {shape}", self.statistics)

    def call(self, inputs: Any) -> Any:
        """(B, ..., C) -> (B, k * C)."""
        if len(inputs.shape) == 2:
            return inputs
        axes = tuple(range(1, len(inputs.shape) - 1))
        parts = [_OF[name](inputs, axes) for name in self.statistics]
        return ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]

    def compute_output_shape(self, shape: Any) -> tuple[int | None, ...]:
        """(B, k * C)."""
        return (shape[0], len(self.statistics) * shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The settings."""
        return {**super().get_config(), "statistics": list(self.statistics)}
