"""Images of a split or of any other kind, as a classifier is shown them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts import seeing
from tltoolkit.artifacts.engine import Engine
from tltoolkit.artifacts.inference import versions_of
from tltoolkit.artifacts.seeing import BadImage
from tltoolkit.augment.labels import reader
from tltoolkit.data import ImageError, Split

Images = Sequence[seeing.Image] | Split


def check_some(images: Any) -> None:
    """Raise ValueError unless there are images: a `Split`, or a sequence, of one or more."""
    if not isinstance(images, Split):
        seeing.check_several(images)
    if len(images) == 0:
        raise _checks.fail("images", "one image or more", images)


def items_of(images: Images, side: int) -> tuple[Sequence[Any], Callable[[Any], Any]]:
    """What stands for each image, and what reads it for a square of `side` pixels."""
    if isinstance(images, Split):
        # By number, so that files are read in the threads that prepare images.
        return range(len(images)), reader(images, side)
    return images, lambda image: image


def seer(
    engine: Engine, read: Callable[[Any], seeing.Image]
) -> Callable[[Any, int], np.ndarray | BadImage]:
    """What prepares an item and its number for an engine: (1, S, S, 3), the plain version."""
    makers = versions_of(engine, None, 1)

    def see(item: Any, i: int) -> np.ndarray | BadImage:
        try:
            return seeing.seen(read(item), i, makers)
        except ImageError as error:  # of a split, whose files are read in `read`
            return BadImage(name=error.path, reason=error.reason)

    return see


def batches(engine: Engine, images: Images, batch_size: int) -> Iterator[np.ndarray]:
    """Images as (B, S, S, 3) uint8 for an engine, prepared ahead on all cores.

    Raises:
        ImageError: One cannot be read.
    """
    items, read = items_of(images, engine.image_size)
    for batch in seeing.decoded(items, seer(engine, read), batch_size):
        yield np.concatenate([seeing.good(item) for item in batch])
