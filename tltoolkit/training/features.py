"""Activations at the freeze boundary: computed once, stored, fed to the layers that train."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tltoolkit import _checks
from tltoolkit.augment import keys
from tltoolkit.augment.dataset import untuned

Batch = tuple[np.ndarray, Any]
DTYPES = ("float32", "float16")


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where activations are kept.

    Args:
        memory_gb: They stay in memory up to so many GiB, > 0; more go to a file.
        directory: Where that file is made; None takes the system's temporary directory. It has
            no name there, so it is gone with the process, however that ends.
        dtype: `"float32"`, or `"float16"` for half the room and three significant digits.

    Raises:
        ValueError: A value out of range.
    """

    memory_gb: float = 2.0
    directory: Path | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        _checks.number("memory_gb", self.memory_gb, above=0)
        _checks.one_of("dtype", self.dtype, DTYPES)

    def empty(self, shape: tuple[int, ...], batch_size: int) -> np.ndarray:
        """An array for activations, in memory or in a file.

        Raises:
            ValueError: Not even one batch fits the memory.
            OSError: The disk has no room for the file.
        """
        needed = int(np.prod(shape)) * np.dtype(self.dtype).itemsize
        allowed = self.memory_gb * 2**30
        batch = needed // (shape[0] * shape[1]) * batch_size
        if batch > allowed:
            rule = f"a number of GiB of at least {batch / 2**30:.3g}, room for one batch"
            raise _checks.fail("memory_gb", rule, self.memory_gb)
        if needed <= allowed:
            return np.empty(shape, self.dtype)
        return _mapped(shape, self.dtype, needed, self.directory)


def frozen_function(model: Any, cut: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The part of `model` up to the tensor `cut` as a graph with its weights folded in.

    Takes (B, H, W, 3) uint8 pixels, returns the activations in inference mode.
    """
    lower = keras.Model(model.input, cut)
    pixels = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8)
    traced = tf.function(lambda x: lower(tf.cast(x, tf.float32), training=False))
    folded = convert_variables_to_constants_v2(traced.get_concrete_function(pixels))
    return lambda images: folded(tf.constant(images))[0].numpy()


def compute(
    function: Callable[[np.ndarray], np.ndarray],
    views: Sequence[Iterable[Batch]],
    count: int,
    storage: Storage,
) -> np.ndarray:
    """Activations (K, count, ...) of all images of each of K `views`, in their order."""
    out = None
    for k, batches in enumerate(views):
        start = 0
        for images, _ in batches:
            values = function(images)
            if out is None:
                out = storage.empty((len(views), count, *values.shape[1:]), len(values))
            out[k, start : start + len(values)] = values
            start += len(values)
    assert out is not None
    return out


def feed(
    features: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None
) -> tf.data.Dataset:
    """Batches of stored activations; each pass over the data set is the next epoch.

    Epoch e takes the images in the order of `augment.Batches(shuffle=True)` with the same seed,
    or in their own where `seed` is None, and view e modulo K of each. As there, an epoch counts
    once its last batch is handed out.
    """
    rows = _Rows(features, targets, batch_size, seed)
    # TensorFlow never forgets a Python function, so that one must not keep the arrays alive;
    # and `from_generator` slows the whole process, see augment/dataset.py.
    weak = weakref.proxy(rows)

    def batch(step: Any) -> Any:
        x, y = tf.numpy_function(lambda step: weak.batch(step), [step], (tf.float32, tf.float32))
        shapes = (None, *features.shape[2:]), (None, *targets.shape[1:])
        return tf.ensure_shape(x, shapes[0]), tf.ensure_shape(y, shapes[1])

    dataset = tf.data.Dataset.range(rows.steps).map(batch).with_options(untuned())
    dataset.rows = rows
    return dataset


class _Rows:
    """Batches of stored activations by their step within the epoch."""

    def __init__(
        self, features: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None
    ) -> None:
        self.features, self.targets = features, targets.astype(np.float32)
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        self.steps = -(-len(targets) // batch_size)
        self.order = np.arange(len(targets))

    def batch(self, step: int) -> Batch:
        if step == 0 and self.seed is not None:
            rng = keys.keyed(self.seed, keys.SHUFFLE, self.epoch)
            self.order = rng.permutation(len(self.targets))
        view = self.features[self.epoch % len(self.features)]
        rows = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        if step + 1 == self.steps:
            self.epoch += 1
        return view[rows].astype(np.float32, copy=False), self.targets[rows]


def _mapped(shape: tuple[int, ...], dtype: str, needed: int, directory: Path | None) -> np.ndarray:
    where = Path(directory or tempfile.gettempdir())
    free = shutil.disk_usage(where).free
    full = f"activations need {needed / 2**30:.2f} GiB on disk, and {where} has "
    if free < needed:
        raise OSError(f"{full}{free / 2**30:.2f}; lower cache_views or use float16")
    with tempfile.TemporaryFile(dir=where) as file:
        # Reserved now, because a write to a map that finds no room kills the process.
        try:
            os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            raise OSError(f"{full}less: {error.strerror}") from error
        return np.memmap(file, dtype, "r+", shape=shape)
