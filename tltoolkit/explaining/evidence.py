"""What each position of a map adds to a logit: the mean over the positions is all that it adds.

Activations are (B, P, C), with the P positions in a row, and weights (B, C) those of one class for
each image; evidence is (B, P).
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tltoolkit.layers.spatial import EPSILON

Evidence = Callable[[Any, Any], Any]


def of_mean(x: Any, weights: Any) -> Any:
    """Of weights x means: the weighted activations (Zhou et al. 2016)."""
    return tf.einsum("bpc,bc->bp", x, weights)


def of_std(x: Any, weights: Any) -> Any:
    """Of weights x standard deviations: each position's share of the variance.

    With s = sqrt(mean((x - m)^2) + 1e-6), position p adds ((x_p - m)^2 + 1e-6) / s.
    """
    squares = tf.math.squared_difference(x, _mean(x))
    scale = weights / tf.sqrt(_mean(squares)[:, 0] + EPSILON)
    return of_mean(squares, scale) + EPSILON * tf.reduce_sum(scale, axis=1, keepdims=True)


def of_max(x: Any, weights: Any) -> Any:
    """Of weights x maxima: all of it where the maximum is, in equal shares where it is twice."""
    top = tf.reduce_max(x, axis=1)
    there = tf.cast(x == top[:, None], x.dtype)
    count = tf.cast(tf.shape(x)[1], x.dtype)
    return of_mean(there, count * weights * top / tf.reduce_sum(there, axis=1))


def of_each(x: Any, weights: Any) -> Any:
    """Of weights (B, P, C), one for each position and channel, as after a Flatten."""
    return tf.cast(tf.shape(x)[1], x.dtype) * tf.einsum("bpc,bpc->bp", x, weights)


def _mean(x: Any) -> Any:
    """(B, 1, C). As a product, which all cores compute: three times as fast as `reduce_mean`."""
    shape = tf.shape(x)
    return tf.matmul(tf.fill((shape[0], 1, shape[1]), 1 / tf.cast(shape[1], x.dtype)), x)


OF: dict[str, Evidence] = {"mean": of_mean, "std": of_std, "max": of_max, "each": of_each}


def on_image(evidence: Any, grid: tuple[int, int], side: int) -> Any:
    """Evidence (B, P) of the positions of a map or of tokens as (B, side, side).

    It is interpolated bilinearly, and its mean is kept. A token beside those of the grid, the
    first one, belongs to no place: what it adds is spread over all.
    """
    height, width = grid
    count = tf.shape(evidence)[1]
    mean = tf.reduce_mean(evidence, axis=1)[:, None, None]
    on_map = tf.reshape(evidence[:, count - height * width :], (-1, height, width, 1))
    large = tf.image.resize(on_map, (side, side), "bilinear")[..., 0]
    shared = large * tf.cast(height * width / count, large.dtype)
    # Where sides are no multiples of one another, the interpolation alone would change the mean.
    return shared + mean - tf.reduce_mean(shared, axis=(1, 2), keepdims=True)
