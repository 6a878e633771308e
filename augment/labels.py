"""What a source of images is, and how its labels become training targets."""

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks


class Source(Protocol):
    """What images come from.

    `image` is called from several threads at once. A source with `labels`, (N,) int64 or (N, C)
    uint8, needs no `targets`; (N,) labels also need `class_counts`, whose length is C.

    An `image` with a parameter `side` is told there the side of the square, in pixels, that the
    image will be shrunk to, so that it need not decode more than that takes.
    """

    def __len__(self) -> int: ...

    def image(self, i: int, /) -> NDArray[np.uint8]:
        """The i-th image, (H, W, 3) uint8, of any size."""
        ...


def reader(source: Source, side: int) -> Callable[[int], NDArray[np.uint8]]:
    """`source.image`, told by its parameter `side`, if it has one, what the images are for."""
    # By its signature: a call to find out would decode an image.
    if not _checks.takes(source.image, "side"):
        return source.image
    told: Any = source
    return lambda i: cast(NDArray[np.uint8], told.image(i, side=side))


def as_targets(source: Source, targets: NDArray[Any] | None) -> NDArray[np.float32]:
    """Labels as (N, C) float32; see `Batches` for what `targets` and the source may be."""
    targets = np.asarray(_labels(source) if targets is None else targets, np.float32)
    if targets.ndim != 2 or len(targets) != len(source):
        raise ValueError(
            f"`targets` must be (N, C) labels of {len(source)} images. "
            f"Received shape: {targets.shape}"
        )
    return targets


def _labels(source: Source) -> NDArray[Any]:
    if not hasattr(source, "labels"):
        # No columns rather than None: batches of images alone have targets like all others.
        return np.zeros((len(source), 0))
    labels: NDArray[Any] = np.asarray(source.labels)
    if labels.ndim == 2:
        return labels
    if not hasattr(source, "class_counts"):
        raise ValueError(
            "`targets` must be given, (N, C), for a source with class indices but without "
            "`class_counts`: np.eye(n_classes)[labels]"
        )
    # By `class_counts`, since the last class may have no image in this part.
    one_hot: NDArray[np.float32] = np.eye(len(source.class_counts), dtype=np.float32)[labels]
    return one_hot
