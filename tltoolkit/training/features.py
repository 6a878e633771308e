"""Activations at the freeze boundary: computed once, stored, fed to the layers that train."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow as tf

from tltoolkit import _checks
from tltoolkit.augment import keys
from tltoolkit.augment.dataset import untuned
from tltoolkit.layers import graph, private
from tltoolkit.model.network import RGB, as_channels
from tltoolkit.training.terms import STORAGE

Batch = tuple[np.ndarray, Any]
# A folded graph is up to 1.25 times faster, but folding takes as long as that many images gain.
IMAGES_PER_MB = 15
# However small the network: EfficientNet-Lite0 gains 0.3 ms an image of 64 pixels, for 0.6 s.
FEWEST = 1000
# All else that takes a variable may write it.
_READS = frozenset(("ReadVariableOp", "ResourceGather", "ResourceGatherNd"))
# Bytes written at once where room cannot be reserved in one call.
_BLOCK = 2**20


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
        _checks.fields(STORAGE, self)

    @property
    def memory_bytes(self) -> float:
        """`memory_gb` in bytes."""
        return self.memory_gb * 2**30

    def empty(self, shape: tuple[int, ...], batch_size: int, taken: int = 0) -> np.ndarray:
        """An array for activations, in memory or in a file.

        Args:
            shape: Views, images and the shape of an activation.
            batch_size: Images that are computed at a time.
            taken: Bytes of the memory that other arrays have.

        Raises:
            ValueError: Not even one batch fits the memory.
            OSError: The disk has no room for the file.
        """
        needed = int(np.prod(shape)) * np.dtype(self.dtype).itemsize
        batch = needed // (shape[0] * shape[1]) * batch_size
        if batch > self.memory_bytes:
            rule = f"a number of GiB of at least {batch / 2**30:.3g}, room for one batch"
            raise _checks.fail("memory_gb", rule, self.memory_gb)
        # Not zeroed: `compute` fills every row.
        if needed <= self.memory_bytes - taken:
            return np.empty(shape, self.dtype)
        return _mapped(shape, self.dtype, needed, self.directory)


def frozen_function(model: Any, cut: Any, images: int) -> Callable[[np.ndarray], np.ndarray]:
    """The part of `model` up to the tensor `cut` as a graph, its weights folded in if that pays.

    Takes (B, H, W, 3) uint8 pixels, returns the activations in inference mode. `images` is the
    number of them that a pass has.
    """
    lower = graph.part(model, model.input, cut)
    height, width, channels = model.inputs[0].shape[1:]
    # Of any batch size, so that the last batch needs no trace of its own.
    pixels = tf.TensorSpec((None, height, width, RGB), tf.uint8)
    # Without AutoGraph, as Keras trains: it takes longer than the tracing itself.
    traced = tf.function(
        lambda x: lower(tf.cast(as_channels(x, channels), tf.float32), training=False),
        autograph=False,
    )
    concrete = traced.get_concrete_function(pixels)
    weights_mb = lower.count_params() * 4 / 2**20
    # By size: folding copies every weight into the graph.
    if images < max(FEWEST, IMAGES_PER_MB * weights_mb) or _writes(concrete):
        return lambda images: concrete(tf.constant(images)).numpy()
    folded = private.folded(concrete)
    return lambda images: folded(tf.constant(images))[0].numpy()


def _writes(concrete: Any) -> bool:
    """Whether a graph may change variables, which a constant in their place cannot bear."""
    definition = concrete.graph.as_graph_def()
    # A function counts for no operation, and its own are gone through as well.
    bodies = [definition.node, *(part.node_def for part in definition.library.function)]
    return any(
        map(private.takes_resource, {node.op for nodes in bodies for node in nodes} - _READS)
    )


def compute(
    function: Callable[[np.ndarray], np.ndarray],
    views: Sequence[Iterable[Batch]],
    count: int,
    storage: Storage,
    taken: int = 0,
) -> np.ndarray:
    """Activations (K, count, ...) of all images of each of K `views`, in their order.

    `taken` is how many bytes of the storage's memory other arrays have.

    Raises:
        FloatingPointError: They are not finite, or too large for the storage's `dtype`.
    """
    out = None
    for k, batches in enumerate(views):
        start = 0
        for images, _ in batches:
            values = function(images)
            # Only the first batch tells the shape, which a model may leave open.
            if out is None:
                out = storage.empty((len(views), count, *values.shape[1:]), len(values), taken)
            # Too large for float16 is told below, with what to do about it.
            with np.errstate(over="ignore"):
                out[k, start : start + len(values)] = values
            if not np.isfinite(out[k, start : start + len(values)]).all():
                rule = "" if storage.dtype == "float32" else "; cache_dtype='float32' holds more"
                raise FloatingPointError(
                    f"the frozen part gives values that are not finite in {storage.dtype}{rule}"
                )
            start += len(values)
    assert out is not None
    return out


def feed(
    features: np.ndarray,
    targets: np.ndarray,
    batch_size: int,
    seed: int | None,
    start: tuple[int, int] = (0, 0),
    sample: Callable[[int], np.ndarray] | None = None,
) -> tf.data.Dataset:
    """Batches of stored activations; each pass over the data set is the next epoch.

    Epoch e takes the images in the order of `augment.Batches(shuffle=True)` with the same seed,
    or in their own where `seed` is None, and view e modulo K of each. As there, an epoch counts
    once its last batch is handed out. The first pass begins at the epoch and step of `start`.
    `sample` takes the epoch and returns the indices of its images, always the same number.
    """
    rows = _Rows(features, targets, batch_size, seed, start, sample)
    # TensorFlow never forgets a Python function, so that one must not keep the arrays alive;
    # and `from_generator` slows the whole process, see augment/dataset.py.
    weak, steps = weakref.proxy(rows), rows.steps

    def batch(step: Any) -> Any:
        x, y = tf.numpy_function(lambda step: weak.batch(step), [step], (tf.float32, tf.float32))
        shapes = (None, *features.shape[2:]), (None, *targets.shape[1:])
        return tf.ensure_shape(x, shapes[0]), tf.ensure_shape(y, shapes[1])

    def one_epoch(_: Any) -> Any:
        first = tf.numpy_function(lambda: weak.first_step(), [], tf.int64)
        return tf.data.Dataset.range(tf.ensure_shape(first, ()), steps).map(batch)

    dataset = tf.data.Dataset.from_tensors(0).flat_map(one_epoch)
    length = tf.data.experimental.assert_cardinality(steps)
    dataset = dataset.apply(length).with_options(untuned())
    # Somebody has to hold what the functions above refer to weakly.
    dataset.rows = rows
    return dataset


class _Rows:
    """Batches of stored activations by their step within the epoch."""

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        batch_size: int,
        seed: int | None,
        start: tuple[int, int],
        sample: Callable[[int], np.ndarray] | None,
    ) -> None:
        self.features, self.targets = features, targets.astype(np.float32)
        self.batch_size, self.seed, self.start = batch_size, seed, start
        self.epoch, self.ordered = start[0], -1
        self.sample = sample or (lambda _: np.arange(len(targets)))
        # Asked once here, for the number of rows, which is always the same.
        self.order = self.sample(self.epoch)
        self.steps = -(-len(self.order) // batch_size)

    def first_step(self) -> np.int64:
        epoch, step = self.start
        return np.int64(step if self.epoch == epoch else 0)

    def batch(self, step: int) -> Batch:
        if self.ordered != self.epoch and self.seed is not None:
            # The order of `augment.Batches`: what is stored changes no outcome.
            rng = keys.keyed(self.seed, keys.SHUFFLE, self.epoch)
            self.order, self.ordered = rng.permutation(self.sample(self.epoch)), self.epoch
        view = self.features[self.epoch % len(self.features)]
        rows = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        # With the last batch, as `fit` may never ask for another one.
        if step + 1 == self.steps:
            self.epoch += 1
        # float16 is for storing; layers that train compute in float32.
        return view[rows].astype(np.float32, copy=False), self.targets[rows]


def _mapped(shape: tuple[int, ...], dtype: str, needed: int, directory: Path | None) -> np.ndarray:
    where = Path(directory or tempfile.gettempdir())
    free = shutil.disk_usage(where).free
    full = f"activations need {needed / 2**30:.2f} GiB on disk, and {where} has "
    # Before reserving, which on some file systems writes all of it.
    if free < needed:
        raise OSError(f"{full}{free / 2**30:.2f}; lower cache_views or use float16")
    with tempfile.TemporaryFile(dir=where) as file:
        # Reserved now, because a write to a map that finds no room kills the process.
        try:
            _reserve(file, needed)
        except OSError as error:
            raise OSError(f"{full}less: {error.strerror}") from error
        # The map outlives the handle; the file, which has no name, is gone with the map.
        return np.memmap(file, dtype, "r+", shape=shape)


def _reserve(file: IO[bytes], needed: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, needed)
        return
    # macOS and Windows have none: only what is written is there.
    zeros = bytes(_BLOCK)
    for start in range(0, needed, _BLOCK):
        file.write(zeros[: needed - start])
    file.flush()
