"""Contrast normalisation as Keras layers, saved with the model and part of its graph."""

from typing import Any

import keras
from keras import ops

from tltoolkit import _checks
from tltoolkit.augment import contrast
from tltoolkit.augment.terms import CONTRAST


@keras.saving.register_keras_serializable(package="tltoolkit")
class GlobalContrastNormalization(keras.layers.Layer):
    """`contrast.global_contrast` of each image of a batch: pixels in, pixels out.

    Takes (B, H, W, channels), values 0..255, uint8 or float, and returns the same shape,
    neither rounded nor clipped. It computes in float32 whatever the policy, since squares of
    pixels overflow in float16.

    Args:
        scale: standard deviation of the result in grey levels, > 0.
        offset: mean of the result in grey levels.
        regularizer: > 0, in squared grey levels; images of less variance stay faint.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        scale: float = contrast.SCALE,
        offset: float = contrast.OFFSET,
        regularizer: float = contrast.REGULARIZER,
        **kwargs: Any,
    ) -> None:
        _checks.arguments(CONTRAST, locals())
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.regularizer = regularizer

    def call(self, inputs: Any) -> Any:
        """Normalise a batch of (B, H, W, channels)."""
        # Whatever came: uint8 wraps around, and squares do not fit float16.
        pixels = ops.cast(inputs, "float32")
        centred = pixels - ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True)
        result = self.offset + self.scale * centred * ops.rsqrt(self.regularizer + variance)
        return ops.cast(result, self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> Any:
        """The input's shape in the layer's dtype."""
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in CONTRAST}


@keras.saving.register_keras_serializable(package="tltoolkit")
class LocalContrastNormalization(GlobalContrastNormalization):
    """`contrast.local_contrast` of each image of a batch: pixels in, pixels out.

    Takes (B, H, W, channels), values 0..255, uint8 or float, and returns the same shape,
    neither rounded nor clipped, computed in float32.

    Args:
        scale: contrast of the result in grey levels, > 0.
        offset: mean of the result in grey levels.
        regularizer: > 0, in squared grey levels; areas of less variance stay faint.
        window: side of the Gaussian window in pixels, odd, >= 3.
        **kwargs: of `keras.layers.Layer`.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        scale: float = contrast.SCALE,
        offset: float = contrast.OFFSET,
        regularizer: float = contrast.REGULARIZER,
        window: int = contrast.WINDOW,
        **kwargs: Any,
    ) -> None:
        contrast.check_window(window)
        super().__init__(scale, offset, regularizer, **kwargs)
        self.window = window

    def call(self, inputs: Any) -> Any:
        """Normalise a batch of (B, H, W, channels)."""
        pixels = ops.cast(inputs, "float32")
        centred = pixels - self._blur(ops.mean(pixels, axis=3, keepdims=True))
        square = ops.mean(ops.square(centred), axis=3, keepdims=True)
        deviation = ops.sqrt(self.regularizer + self._blur(square))
        floor = ops.mean(deviation, axis=(1, 2, 3), keepdims=True)
        result = self.offset + self.scale * centred / ops.maximum(deviation, floor)
        return ops.cast(result, self.compute_dtype)

    def _blur(self, planes: Any) -> Any:
        # Divided by what lies within the image, or its edges would come out dark.
        return self._total(planes) / self._total(ops.ones_like(planes))

    def _total(self, planes: Any) -> Any:
        weights = contrast.kernel(self.window)
        # Down, then across: 2 n products for each pixel in place of n squared.
        for shape in ((self.window, 1, 1, 1), (1, self.window, 1, 1)):
            planes = ops.conv(
                planes, weights.reshape(shape), padding="same", data_format="channels_last"
            )
        return planes

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return super().get_config() | {"window": self.window}
