"""Dropout layers whose rate can change while a compiled model trains.

Each keeps its rate in a float32 weight that is not trained and that `call` reads, so a new rate
needs no new trace. Without training every layer gives back its input (for `DropConnect`: what the
wrapped layer gives), bit for bit. A weights file saved without these layers loads into a
model that has them: they keep their rate.
"""

from typing import Any

import keras
from keras import ops

from tltoolkit._checks import Integer, Number, Table, arguments

# Keras' generators take any whole number for a seed.
DROPOUT: Table = {"rate": Number(0, below=1), "seed": Integer() | None}
BLOCK: Table = {**DROPOUT, "block_size": Integer(1)}


class _ScheduledRate:
    """The rate as a weight; mixed into a Keras layer before the layer's class."""

    def _add_rate(self: Any, rate: float, seed: int | None) -> None:
        arguments(DROPOUT, locals())
        self.seed = seed
        # Of its own, so that its draws do not depend on other layers.
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.rate = self.add_weight(
            name="rate",
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(rate),
            trainable=False,
            autocast=False,  # float16 would round the rate
        )

    def set_rate(self: Any, rate: float) -> None:
        """Drop this share from the next step on; 0 <= rate < 1."""
        DROPOUT["rate"].check("rate", rate)
        self.rate.value.assign(rate)

    def _kept(self: Any, shape: Any, dropped: Any) -> Any:
        """1.0 where kept, 0.0 where dropped, each dropped with this probability."""
        # In float32 under every policy: half precision is too coarse for a small share.
        drawn = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        # `>=`, so that a rate of 0 keeps a draw of exactly 0.
        return ops.cast(drawn >= dropped, "float32")

    def get_config(self: Any) -> dict[str, Any]:
        """The settings; `rate` is the one of this moment."""
        config = super().get_config()  # type: ignore[misc]
        return {**config, "rate": float(ops.convert_to_numpy(self.rate)), "seed": self.seed}

    def load_own_variables(self: Any, store: Any) -> None:
        """Load the rate; a file that was saved without this layer leaves it as it is."""
        # Keras raises for a layer that a weights file does not have.
        if len(store.keys()) > 0:
            super().load_own_variables(store)  # type: ignore[misc]


@keras.saving.register_keras_serializable("tltoolkit")
class ScheduledDropout(_ScheduledRate, keras.layers.Layer):
    """Dropout with a changeable rate: y = x m / (1 - rate), m in {0, 1}, P(m = 0) = rate.

    Source: Srivastava et al., "Dropout", 2014.

    Args:
        rate: share that is dropped, 0 <= rate < 1.
        seed: seed of its own generator; None draws one.

    >>> layer = ScheduledDropout(0.0)
    >>> layer.set_rate(0.5)
    >>> sorted(set(layer(np.ones((4, 100)), training=True).numpy().ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_rate(rate, seed)
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop while training."""
        if not training:
            return inputs
        factor = self._kept(self._mask_shape(inputs), self.rate) / (1 - self.rate)
        # The factor is made in float32 and only then rounded to the inputs' type.
        return inputs * ops.cast(factor, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input."""
        return input_shape

    def _mask_shape(self, inputs: Any) -> Any:
        return ops.shape(inputs)


@keras.saving.register_keras_serializable("tltoolkit")
class ScheduledSpatialDropout2D(ScheduledDropout):
    """Drops whole feature maps of (batch, height, width, channels), as SpatialDropout2D does.

    y = x m / (1 - rate) with one m per image and channel. Source: Tompson et al., "Efficient
    Object Localization Using Convolutional Networks", 2015.

    Args:
        rate: share of the maps that is dropped, 0 <= rate < 1.
        seed: seed of its own generator; None draws one.

    >>> layer = ScheduledSpatialDropout2D(0.5, seed=0)
    >>> y = layer(np.ones((1, 4, 4, 8)), training=True).numpy()
    >>> bool((y == y[:, :1, :1]).all())  # every map is all kept or all dropped
    True
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed, **kwargs)
        self.input_spec = keras.InputSpec(ndim=4)

    def _mask_shape(self, inputs: Any) -> Any:
        batch, _, _, channels = ops.shape(inputs)
        return (batch, 1, 1, channels)


@keras.saving.register_keras_serializable("tltoolkit")
class DropBlock2D(ScheduledSpatialDropout2D):
    """Drops squares of `block_size` pixels in each feature map of (batch, H, W, channels).

    A square starts at a position with probability gamma = 1 - (1 - rate) ** (1 / block_size ** 2),
    also at positions up to block_size - 1 outside the map, so that every pixel, at the border
    too, is dropped with probability `rate` exactly. What is kept is scaled by size / kept.
    Source: Ghiasi et al., "DropBlock", 2018, whose gamma is an approximation of this one.

    Args:
        rate: share of the pixels that is dropped, 0 <= rate < 1.
        block_size: side of the squares in pixels of the feature map; one larger than the map
            drops whole maps.
        seed: seed of its own generator; None draws one.

    >>> layer = DropBlock2D(0.3, block_size=3, seed=0)
    >>> y = layer(np.ones((8, 16, 16, 8)), training=True).numpy()
    >>> 0.2 < float((y == 0).mean()) < 0.4
    True
    """

    def __init__(
        self, rate: float, block_size: int = 7, seed: int | None = None, **kwargs: Any
    ) -> None:
        arguments(BLOCK, locals())
        super().__init__(rate, seed, **kwargs)
        self.block_size = block_size

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop while training."""
        if not training:
            return inputs
        batch, height, width, channels = ops.shape(inputs)
        margin = self.block_size - 1
        gamma = 1 - (1 - self.rate) ** (1 / self.block_size**2)
        # Beyond the edges, or pixels near them would be dropped less often.
        starts = 1 - self._kept((batch, height + margin, width + margin, channels), gamma)
        kept = 1 - ops.max_pool(starts, self.block_size, strides=1, padding="valid")
        # If all is dropped there is nothing to scale, but 0 times infinity would be NaN.
        scale = 1 / ops.maximum(ops.mean(kept), 1e-6)
        return inputs * ops.cast(kept * scale, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """The settings."""
        return {**super().get_config(), "block_size": self.block_size}


@keras.saving.register_keras_serializable("tltoolkit")
class DropConnect(_ScheduledRate, keras.layers.Wrapper):
    """Drops weights of the layer inside: W m / (1 - rate), one m per weight and step.

    It works on the `kernel` of a Dense or convolution layer; the bias stays. All images of a
    batch share the mask, where the paper draws one per image. Source: Wan et al.,
    "Regularization of Neural Networks using DropConnect", 2013.

    Args:
        layer: a layer with a `kernel`.
        rate: share of the weights that is dropped, 0 <= rate < 1.
        seed: seed of its own generator; None draws one.

    >>> layer = DropConnect(keras.layers.Dense(100, kernel_initializer="ones"), 0.5, seed=0)
    >>> sorted(set(layer(np.ones((1, 1)), training=True).numpy().ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(
        self, layer: keras.layers.Layer, rate: float, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(layer, **kwargs)
        self._add_rate(rate, seed)

    def build(self, input_shape: Any = None) -> None:
        """Build the layer inside."""
        super().build(input_shape)
        if not hasattr(self.layer, "kernel"):
            raise ValueError(f"DropConnect needs a layer with a kernel. Received: {self.layer}")

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Apply the layer, with weights dropped while training."""
        if not training:
            return self.layer(inputs)
        layer, kernel = self.layer, self.layer.kernel
        # One for the batch: a mask for each image would need as many kernels.
        mask = self._kept(kernel.shape, self.rate) / (1 - self.rate)

        def values(variables: list[Any]) -> list[Any]:
            return [v * ops.cast(mask, v.dtype) if v is kernel else v.value for v in variables]

        # Called with other values, through which the gradient reaches the kernel itself.
        outputs, state = layer.stateless_call(
            values(layer.trainable_variables), values(layer.non_trainable_variables), inputs
        )
        for variable, value in zip(layer.non_trainable_variables, state, strict=True):
            # A frozen kernel is among them, and must not keep its holes.
            if variable is not kernel:
                variable.assign(value)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape that the layer inside gives."""
        return self.layer.compute_output_shape(input_shape)
