"""A classifier as one Keras model whose outputs are probabilities, whatever its own are."""

from typing import Any

import keras

from tltoolkit.artifacts.keras_engine import KerasEngine
from tltoolkit.model import outputs
from tltoolkit.model.network import Network, as_channels


def of(engine: KerasEngine) -> Any:
    """A model from RGB pixels (B, S, S, 3), float32 of 0..255, to probabilities (B, C).

    What the toolkit does around a model of the user's own in NumPy (grey images, a softmax of
    logits, two classes of one output) becomes part of the graph.
    """
    network = engine.network
    if network.settings is not None:
        return engine.model
    pixels = keras.Input((network.image_size, network.image_size, 3), name="pixels")
    images = as_channels(pixels, network.channels)
    if network.output is not None:
        # A functional model says what it takes, which may be whole numbers.
        images = keras.ops.cast(images, network.model.inputs[0].dtype)
    return keras.Model(pixels, _probabilities(network, engine.model(images), engine.multi_label))


def _probabilities(network: Network, values: Any, multi_label: bool) -> Any:
    """`Network.probabilities` as operations of a graph."""
    coarse = values.dtype != "float32"
    values = keras.ops.cast(values, "float32")
    if network.from_logits and multi_label:
        return keras.ops.sigmoid(values)
    if network.from_logits:
        if network.one_for_two(multi_label):
            values = keras.ops.concatenate([keras.ops.zeros_like(values), values], axis=1)
        return keras.ops.softmax(values, axis=1)
    if network.one_for_two(multi_label):
        return keras.ops.concatenate([1 - values, values], axis=1)
    if coarse and network.activation == outputs.SOFTMAX:
        # Those in half precision sum to 1 again.
        return values / keras.ops.sum(values, axis=1, keepdims=True)
    return values
