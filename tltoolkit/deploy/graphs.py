"""A classifier as one Keras model whose outputs are probabilities, whatever its own are."""

from typing import Any

import keras
import numpy as np

from tltoolkit.artifacts.keras_engine import KerasEngine
from tltoolkit.model import outputs
from tltoolkit.model.network import Network, as_channels
from tltoolkit.solving.familiarity import Distance


def of(engine: KerasEngine, familiarity: bool = False) -> Any:
    """A model from RGB pixels (B, S, S, 3), float32 of 0..255, to probabilities (B, C).

    What the toolkit does around a model of the user's own in NumPy (grey images, a softmax of
    logits, two classes of one output) becomes part of the graph.

    Args:
        engine: The classifier.
        familiarity: Whether a second output gives the distance (B, 1) of each image from those
            of training, of an engine that knows it.
    """
    network = engine.network
    if familiarity and engine.familiarity is not None:
        # Flat, as that of `features` is.
        model = network.model
        distance = _distance(engine.familiarity.distance, engine.features)
        return keras.Model(model.input, [model.output, distance])
    if network.settings is not None:
        return engine.model
    pixels = keras.Input((network.image_size, network.image_size, 3), name="pixels")
    images = as_channels(pixels, network.channels)
    if network.output is not None:
        # A functional model says what it takes, which may be whole numbers.
        images = keras.ops.cast(images, network.model.inputs[0].dtype)
    return keras.Model(pixels, _probabilities(network, engine.model(images), engine.multi_label))


def _distance(known: Distance, features: Any) -> Any:
    """`Distance.__call__` as operations of a graph, (B, F) -> (B, 1)."""
    ops, centres = keras.ops, known.centres
    scaled = (ops.cast(features, "float32") - known.mean) * known.factor
    along = ops.matmul(scaled, known.axes)
    left = ops.relu(_energy(scaled) - _energy(along))
    at = ops.matmul(along, known.white)
    # As products, where differences to each class would take a tensor of three dimensions.
    cross = ops.matmul(at, np.ascontiguousarray(-2 * centres.T))
    nearest = ops.min(cross + np.square(centres).sum(1), axis=1, keepdims=True) + _energy(at)
    return ops.relu(nearest) + left * known.rest


def _energy(rows: Any) -> Any:
    return keras.ops.sum(keras.ops.square(rows), axis=1, keepdims=True)


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
