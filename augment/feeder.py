"""Batches: a source of images through a pipeline into batches, on one thread per core."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment import keys, labels, threads
from tltoolkit.augment.labels import Source
from tltoolkit.augment.mixing import Batch
from tltoolkit.augment.pipeline import Pipeline
from tltoolkit.augment.terms import BATCHES

# Batches under way beyond the one handed out: enough to ride out a slow file, little to hold.
_AHEAD = 2


class Batches:
    """Batches of a source, one epoch for each time it is iterated; needs no TensorFlow.

    The batches depend on the arguments and the epoch alone: not on the number of workers, nor
    on the threads' timing, nor on what ran before. An epoch counts once its last batch has been
    handed out; an iteration that was left earlier is repeated by the next one. Set `epoch` to
    choose what comes next.

    While batches are made, OpenCV's own threads are off in the whole process: the workers
    already keep every core busy. A few batches are prepared ahead, so memory does not grow with
    the number of images. Leaving an iteration early ends its threads.

    Args:
        source: `len(source)` images, `source.image(i)` gives the i-th, see `Source`.
        pipeline: makes each image square, random or not.
        batch_size: images per batch, >= 1; the last batch may be smaller.
        shuffle: whether each epoch has its own random order.
        seed: of the order and the mixing, >= 0; the pipeline has its own.
        epochs_from: number of the first epoch, >= 0.
        steps_from: batches of that first epoch that are passed over without being made, >= 0 and
            less than an epoch has: where an interrupted training goes on.
        augment_from: what the pipeline adds to the number of the epoch, >= 0: a training of
            several parts, each with epochs of its own, shows new versions in each.
        workers: threads, >= 1; None is one per core.
        targets: (N, C) labels, soft ones too. None takes `source.labels`, one-hot if they are
            class indices; a source without labels gives (B, 0) targets.
        sample: takes the epoch and returns the indices of its images, for resampling; always
            the same number. An image that comes twice is augmented in two ways.
        mix: takes (images, targets, rng) of a batch and returns its images and targets, as
            `mixup` and `cutmix` do.

    Raises:
        ValueError: for other values, or labels that do not fit the source.
    """

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        epochs_from: int = 0,
        steps_from: int = 0,
        augment_from: int = 0,
        workers: int | None = None,
        targets: NDArray[Any] | None = None,
        sample: Callable[[int], NDArray[np.int64]] | None = None,
        mix: Callable[[NDArray[np.uint8], NDArray[np.float32], np.random.Generator], Batch]
        | None = None,
    ) -> None:
        _checks.arguments(BATCHES, locals())
        self.source = source
        self.pipeline = pipeline
        self._image = labels.reader(source, pipeline.image_size)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epochs_from
        # For the first epoch alone: later ones begin at 0.
        self._start = epochs_from, steps_from
        self.augment_from = augment_from
        self.workers = threads.cores() if workers is None else workers
        self.targets = labels.as_targets(source, targets)
        self.sample = sample
        self.mix = mix
        self.error: Exception | None = None
        self._n_images = len(self._chosen(epochs_from))
        if not self._n_images:
            raise ValueError("`source` must have at least one image. Received: 0 images")
        _checks.integer("steps_from", steps_from, 0, len(self) - 1)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self._n_images // self.batch_size)

    @property
    def first_step(self) -> int:
        """The step that the next iteration begins with: 0 but in the epoch of `steps_from`."""
        epoch, step = self._start
        return step if self.epoch == epoch else 0

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The indices of an epoch's images, in the order in which they come."""
        chosen = self._chosen(epoch)
        if len(chosen) != self._n_images:
            raise ValueError(
                f"`sample` must return the same number of indices for every epoch, "
                f"{self._n_images}. Received: {len(chosen)} for epoch {epoch}"
            )
        if self.shuffle:
            # By the epoch, so that a resumed run has the order of an uninterrupted one.
            chosen = keys.keyed(self.seed, keys.SHUFFLE, epoch).permutation(chosen)
        return chosen

    def _chosen(self, epoch: int) -> NDArray[np.int64]:
        if self.sample is None:
            return np.arange(len(self.source))
        indices = np.asarray(self.sample(epoch))
        integers = indices.ndim == 1 and np.issubdtype(indices.dtype, np.integer)
        if not integers or ((indices < 0) | (indices >= len(self.source))).any():
            raise _checks.fail(
                "sample", f"a function that returns indices in 0..{len(self.source) - 1}", indices
            )
        return indices.astype(np.int64)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch: (B, S, S, 3) uint8 and (B, C) float32."""
        epoch, order = self.epoch, self.order(self.epoch)
        # The second time that an epoch shows an image, it is augmented as another one.
        indices = order + len(self.source) * _repetition(order)
        steps, size = range(self.first_step, len(self)), self.batch_size
        parts = [slice(step * size, (step + 1) * size) for step in steps]
        with threads.pool(self.workers) as pool:
            # A generator: a batch is begun only when `_ahead` asks for it.
            begun = (self._begin(pool, epoch, order[part], indices[part]) for part in parts)
            for step, work in zip(steps, _ahead(begun, _AHEAD), strict=True):
                batch = self._finish(work, epoch, step)
                if step + 1 == len(self):
                    # Before the last batch is handed out: `fit` may never ask for another.
                    self.epoch = epoch + 1
                yield batch

    def _begin(
        self, pool: ThreadPoolExecutor, epoch: int, order: NDArray[np.int64], indices: Any
    ) -> "_Work":
        size = self.pipeline.image_size
        images = np.empty((len(order), size, size, 3), np.uint8)
        # Each thread writes rows of its own, so that no lock and no copy is needed.
        futures = [
            pool.submit(self._fill, images, row, int(i), epoch, int(index))
            for row, (i, index) in enumerate(zip(order, indices, strict=True))
        ]
        return _Work(images, self.targets[order], futures)

    def _fill(self, images: NDArray[np.uint8], row: int, i: int, epoch: int, index: int) -> None:
        try:
            images[row] = self.pipeline(self._image(i), self.augment_from + epoch, index)
        except Exception as error:
            # A note keeps the type, by which callers catch it.
            error.add_note(f"This was image {i} of the source.")
            raise

    def _finish(self, work: "_Work", epoch: int, step: int) -> Batch:
        try:
            for future in work.futures:
                # Waits, and raises what happened in the thread.
                future.result()
        except Exception as error:
            self.error = error
            raise
        if self.mix is None:
            return work.images, work.targets
        # By step, not by thread or time: mixing is repeatable too.
        rng = keys.keyed(self.seed, keys.MIX, epoch, step)
        return self.mix(work.images, work.targets, rng)

    def to_dataset(self) -> Any:
        """The same batches as a `tf.data.Dataset` of known length, one epoch per iteration.

        Iterate it once at a time: a new iteration ends the one before. tf.data turns an
        exception into one of its own, with a long text; see `own_errors`.

        Raises:
            ValueError: if there are no targets to train on.
        """
        n_classes = self.targets.shape[1]
        if not n_classes:
            raise ValueError("`targets` must be given for a source without labels")
        from tltoolkit.augment.dataset import as_dataset

        return as_dataset(self, self.pipeline.image_size, n_classes)

    @contextlib.contextmanager
    def own_errors(self) -> Iterator[None]:
        """Within it, an error of the source or the pipeline comes out as it was raised.

        Around `model.fit(batches.to_dataset())` this replaces TensorFlow's wall of text.
        """
        self.error = None
        try:
            yield
        except Exception:
            if self.error is not None:
                # Without TensorFlow's error behind it, which only repeats this one.
                raise self.error from None
            raise


def feed(source: Source, pipeline: Pipeline, **options: Any) -> Any:
    """`Batches(source, pipeline, **options).to_dataset()`: a `tf.data.Dataset` for `fit`."""
    return Batches(source, pipeline, **options).to_dataset()


class _Work(NamedTuple):
    images: NDArray[np.uint8]
    targets: NDArray[np.float32]
    futures: list[Future[None]]


def _ahead(items: Iterator[_Work], n: int) -> Iterator[_Work]:
    """The same items, with n more of them begun than handed out."""
    waiting: deque[_Work] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > n:
            yield waiting.popleft()
    yield from waiting


def _repetition(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each entry, how often the same value came before it."""
    by_value = np.argsort(order, kind="stable")
    values = order[by_value]
    # Sorted by value, the entries before the first of its kind are other values.
    first = np.searchsorted(values, values)
    result = np.empty_like(order)
    result[by_value] = np.arange(len(order)) - first
    return result
