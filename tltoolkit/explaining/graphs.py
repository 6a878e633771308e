"""Graphs of TensorFlow for batches of any size, so that the last one needs no trace of its own."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tltoolkit.model.network import RGB, Network


def traced(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    """A function as a graph, for arguments of these specifications."""
    # Without AutoGraph, as Keras trains: it takes longer than the tracing itself.
    return tf.function(function, input_signature=arguments, autograph=False)


def images_of(network: Network) -> Any:
    """The specification of a batch of RGB images, uint8."""
    side = network.image_size
    return tf.TensorSpec((None, side, side, RGB), tf.uint8)


def as_input(network: Network, images: Any) -> Any:
    """Such images as the flat model of a network takes them, float32."""
    return tf.cast(network.as_input(images)[0], tf.float32)
