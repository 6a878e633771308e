"""Images of any kind as a classifier sees them: decoded ahead of the model, the bad ones named."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image

from tltoolkit import _checks
from tltoolkit.augment import threads
from tltoolkit.data import ImageError, decode
from tltoolkit.data.decoding import MAX_PIXELS, from_pillow

Image = str | Path | bytes | PIL.Image.Image | np.ndarray
# Batches being decoded beyond the one in the model: enough for a slow file, little to hold.
AHEAD = 2
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class BadImage:
    """In the place of a prediction: an image that could not be read.

    Attributes:
        name: Its path, or its place in the images, such as `images[3]`.
        reason: Why it could not be read.
    """

    name: str
    reason: str


def good(answer: _T | BadImage) -> _T:
    """What stands for an image, unless that could not be read.

    Raises:
        ImageError: It could not.
    """
    if isinstance(answer, BadImage):
        raise ImageError(answer.name, answer.reason)
    return answer


def decoded(
    images: Iterable[Image],
    see: Callable[[Image, int], np.ndarray | BadImage],
    batch_size: int,
) -> Iterator[list[np.ndarray | BadImage]]:
    """Batches of what `see` makes of each image and its number, made ahead on all cores."""
    numbered = enumerate(images)
    waiting: deque[list[Future[np.ndarray | BadImage]]] = deque()
    with threads.pool(threads.cores()) as pool:
        while True:
            # Only a batch at a time is asked for: `images` may be endless.
            begun = [pool.submit(see, image, i) for i, image in islice(numbered, batch_size)]
            if begun:
                waiting.append(begun)
            if not waiting:
                return
            if not begun or len(waiting) > AHEAD:
                yield [work.result() for work in waiting.popleft()]


def check_several(images: Any, more: str = "") -> None:
    """Raise ValueError unless `images` is a sequence of images; `more` is added to the rule."""
    if is_one(images) or not hasattr(images, "__getitem__"):
        rule = "a sequence of paths, arrays or other images; of one image, [image]"
        raise _checks.fail("images", rule + more, images)


def is_one(images: Any) -> bool:
    """Whether this is one image where several are wanted: its rows would be taken for images."""
    if isinstance(images, np.ndarray):
        # A stack of grey images hardly is as narrow as colours are many.
        return images.ndim < 3 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return isinstance(images, (str, Path, bytes, PIL.Image.Image))


def pixels_of(image: Image, name: str, side: int) -> np.ndarray:
    """An image of any kind as an array (H, W, 3)."""
    # Files as those of a split are decoded for training and evaluation.
    if isinstance(image, bytes):
        return decode(image, name=name, side=side)
    if isinstance(image, (str, Path)):
        return decode(image, side=side)
    if isinstance(image, PIL.Image.Image):
        return from_pillow(image, name, MAX_PIXELS)
    if getattr(image, "ndim", 0) == 2 or getattr(image, "shape", ())[2:] == (1,):
        # Three equal channels: models and pipelines here take RGB.
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image


def seen(image: Image, i: int, makers: Sequence[Any]) -> np.ndarray | BadImage:
    """The versions (V, S, S, 3) of an image, one by each of `makers`, or why there are none."""
    try:
        pixels = pixels_of(image, f"images[{i}]", makers[0].image_size)
        return np.stack([make(pixels, view, i) for view, make in enumerate(makers)])
    except ImageError as error:
        return BadImage(name=error.path, reason=error.reason)
    except ValueError as error:  # an array of another form, or a path with a NUL
        name = repr(image) if isinstance(image, (str, Path)) else f"images[{i}]"
        return BadImage(name=name, reason=str(error))
