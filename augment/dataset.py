"""Batches as a tf.data.Dataset.

Not by `Dataset.from_generator`: in TensorFlow 2.21 its first use makes the C library of the whole
process hand memory back at once (M_TRIM_THRESHOLD), and the page faults that follow slow down
every decoded image.
"""

import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tltoolkit.augment.mixing import Batch


class Steps(Protocol):
    """What a dataset is made of: `feeder.Batches`, which stands above this file."""

    @property
    def first_step(self) -> int:
        """The step that the next iteration begins with."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def untuned() -> Any:
    """Options of a dataset that TensorFlow does not tune.

    The tuning thread of TensorFlow 2.21 sleeps for up to a minute between its rounds, and the end
    of an iteration waits for it: that stops the training for as long, at random epochs.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


class _Iterations:
    """Hands the batches to tf.data, one iteration after the other."""

    def __init__(self, batches: Steps) -> None:
        self.batches = batches
        self.number = 0
        self.current: Iterator[Batch] = iter(())

    def begin(self) -> tuple[np.int64, np.int64]:
        """Start the next iteration, end the one before; returns its number and first step."""
        # So that an older iteration, which shares the workers, finds that it is over.
        self.number += 1
        self.current = iter(self.batches)
        return np.int64(self.number), np.int64(self.batches.first_step)

    def next(self, number: int, step: int) -> Batch:
        """The next batch of the iteration of this number."""
        if number != self.number:
            raise RuntimeError("a dataset of augment.feed can be iterated only once at a time")
        try:
            batch = next(self.current)
        except Exception as error:
            # TensorFlow prints the traceback, twice; the whole one is in `batches.error`.
            raise RuntimeError(f"{type(error).__name__}: {error}") from None
        if step + 1 == len(self.batches):
            self.current = iter(())  # ends its threads
        return batch


def as_dataset(batches: Steps, image_size: int, n_classes: int) -> Any:
    """The batches as a `tf.data.Dataset`; see `Batches.to_dataset`."""
    iterations = _Iterations(batches)
    # TensorFlow never forgets a Python function that it was given, so the function must not keep
    # the images and the threads alive; the dataset object does.
    weak = weakref.proxy(iterations)

    def begin(_: Any) -> Any:
        # numpy_function forgets shapes, without which Keras can build nothing.
        begun = tf.numpy_function(lambda: weak.begin(), [], (tf.int64, tf.int64))
        return tuple(tf.ensure_shape(value, ()) for value in begun)

    def batch(number: Any, step: Any) -> Any:
        images, targets = tf.numpy_function(
            lambda number, step: weak.next(number, step), [number, step], (tf.uint8, tf.float32)
        )
        return (
            tf.ensure_shape(images, (None, image_size, image_size, 3)),
            tf.ensure_shape(targets, (None, n_classes)),
        )

    def one_epoch(number: Any, first: Any) -> Any:
        # By steps: `map` in order, and one call of Python at a time.
        return tf.data.Dataset.range(first, len(batches)).map(lambda step: batch(number, step))

    # Without prefetching by tf.data, what was handed out is what the model has seen, which is
    # what `Batches.epoch` counts. The workers are ahead already.
    options = untuned()
    options.experimental_optimization.inject_prefetch = False
    dataset = tf.data.Dataset.from_tensors(0).map(begin).flat_map(one_epoch)
    length = tf.data.experimental.assert_cardinality(len(batches))
    dataset = dataset.apply(length).with_options(options)
    # Held here and nowhere else: with the dataset it goes.
    dataset.iterations = iterations
    return dataset
