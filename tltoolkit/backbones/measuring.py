"""How long a backbone takes for an image on this machine."""

import statistics
import time

import keras
import numpy as np

from tltoolkit import _checks
from tltoolkit.backbones.assemble import build
from tltoolkit.backbones.table import get

# Batches after the first, which compiles; the median of three is not moved by one disturbance.
BATCHES = 3


def milliseconds(name: str, *, image_size: int | None = None, batch_size: int = 8) -> float:
    """Time a backbone needs for one image, in milliseconds, on this machine as it is now.

    What the weights are does not matter to it, so none are needed.

    Args:
        name: a name of the table, see `names`.
        image_size: side of the images in pixels; None takes the backbone's own.
        batch_size: images at once, >= 1.

    Returns:
        The median over a few batches, divided by the images of one.

    Raises:
        ValueError: an argument is not as said.
    """
    backbone = get(name)
    size = backbone.image_size if image_size is None else image_size
    _checks.integer("image_size", size, backbone.min_size)
    _checks.integer("batch_size", batch_size, 1)
    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, build(name, inputs, weights=None))
    images = np.zeros((batch_size, size, size, 3), np.uint8)
    model.predict_on_batch(images)
    taken = []
    for _ in range(BATCHES):
        started = time.perf_counter()
        model.predict_on_batch(images)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken) / batch_size
