"""Grad-CAM: channels of a map weighted by how much the logit of a class grows with them."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit.explaining import evidence, found, graphs, parts
from tltoolkit.explaining.found import Choose, Found
from tltoolkit.layers import graph, private
from tltoolkit.model.network import Network


class GradCam:
    """Finds where the channels are active that a logit grows with (Selvaraju et al. 2017).

    Args:
        network: A functional one.
        ends: Block -> the map that it ends in; the last one is explained.
        multi_label: Whether an image may have several labels.
        by_block: Whether to explain the other blocks' maps too.
    """

    def __init__(
        self, network: Network, ends: Mapping[str, Any], multi_label: bool, by_block: bool
    ) -> None:
        self.network = network
        self.multi_label = multi_label
        self.by_block = by_block
        self.ends = dict(ends) if by_block else dict(list(ends.items())[-1:])
        self._model = graph.part(
            network.model, network.model.input, [network.output, *self.ends.values()]
        )
        pixels = graphs.images_of(network)
        self._forward = graphs.traced(
            lambda images: self._model(graphs.as_input(network, images), training=False)[0], pixels
        )
        row = (None,)
        self._gradient = graphs.traced(
            self._weighted, pixels, tf.TensorSpec(row, tf.int32), tf.TensorSpec(row, tf.float32)
        )

    def __call__(self, images: np.ndarray, choose: Choose) -> Found:
        """The evidence for the class that `choose` picks for each image."""
        pixels = tf.constant(images)
        values = self._forward(pixels).numpy()
        probabilities = self.network.probabilities(values, self.multi_label)
        targets = choose(probabilities)
        outputs, sign = found.outputs_of(targets, self.network.one_for_two(self.multi_label))
        maps = self._gradient(pixels, tf.constant(outputs, tf.int32), tf.constant(sign))
        blocks = {name: one.numpy() for name, one in zip(self.ends, maps, strict=True)}
        return Found(
            evidence=list(blocks.values())[-1],
            targets=targets,
            probabilities=found.of_targets(probabilities, targets),
            by_block=blocks if self.by_block else {},
        )

    def _weighted(self, images: Any, outputs: Any, sign: Any) -> list[Any]:
        """(B, S, S) for each map."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            pixels = graphs.as_input(self.network, images)
            # Whatever is computed of the pixels is then on the tape, the maps too.
            tape.watch(pixels)
            values, *maps = self._model(pixels, training=False)
            logits = _logits(values, self.network.from_logits, self.multi_label)
            score = tf.reduce_sum(tf.gather(logits, outputs, batch_dims=1) * sign)
        slopes = tape.gradient(score, maps, unconnected_gradients="zero")
        side = self.network.image_size
        return [_on_image(*pair, side) for pair in zip(maps, slopes, strict=True)]


def _on_image(activations: Any, slopes: Any, side: int) -> Any:
    count, channels = graph.area(activations), activations.shape[-1]
    rows = (-1, count, channels)
    weights = tf.reduce_mean(tf.reshape(tf.cast(slopes, tf.float32), rows), axis=1)
    x = tf.reshape(tf.cast(activations, tf.float32), rows)
    return evidence.on_image(evidence.of_mean(x, weights), parts.grid_of(activations), side)


def _logits(values: Any, from_logits: bool, multi_label: bool) -> Any:
    """The logits of outputs: those behind a softmax or sigmoid, or their nearest of kin."""
    if from_logits:
        return tf.cast(values, tf.float32)
    behind = private.logits_behind(values)
    if behind is not None:
        return tf.cast(behind, tf.float32)
    # Slopes of what has rounded to 0 or 1 are lost.
    p = tf.clip_by_value(tf.cast(values, tf.float32), keras.config.epsilon(), 1.0)
    several = multi_label or values.shape[-1] == 1
    return tf.math.log(p) - tf.math.log1p(keras.config.epsilon() - p) if several else tf.math.log(p)
