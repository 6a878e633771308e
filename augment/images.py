"""What an image is here, (H, W, 3) uint8, and the one way to make it square."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment.terms import RESIZE, SQUASH

# Longest side that is padded as it is; a strip of 1 x 100,000 pixels would become 30 GB.
LARGEST = 4096


def resize(image: NDArray[np.uint8], size: int, fit: str = SQUASH) -> NDArray[np.uint8]:
    """Make an image square, the same way for training, evaluation, prediction and caches.

    Sides that shrink are averaged over areas, so nothing aliases; sides that grow are interpolated
    linearly, so nothing overshoots. Always returns memory of its own.

    Args:
        image: (H, W, 3) uint8.
        size: side of the result in pixels, >= 1.
        fit: "squash" keeps the whole picture and gives up its proportions; "crop" keeps the
            proportions and the central square; "pad" keeps both and adds black bars (around
            an image that is shrunk first where a side is longer than `LARGEST`).

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: for another kind of image, size or fit.
    """
    check_image(image)
    _checks.arguments(RESIZE, locals())
    return scale(square(image, fit), size)


def scale(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """`resize` by squashing, without the checks."""
    height, width = image.shape[:2]
    # A copy: whoever gets it may write into it, and the source must stay.
    if height == width == size:
        return image.copy()
    result = image
    if height > size or width > size:
        shrunk = (min(width, size), min(height, size))
        # Only the sides that shrink: INTER_AREA enlarges in blocks.
        result = cv2.resize(result, shrunk, interpolation=cv2.INTER_AREA)
    if height < size or width < size:
        result = cv2.resize(result, (size, size), interpolation=cv2.INTER_LINEAR)
    return result


def square(image: NDArray[np.uint8], fit: str) -> NDArray[np.uint8]:
    """The part of `resize` that keeps proportions: cropped or padded to a square, or as it was."""
    height, width = image.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return image[top : top + side, left : left + side]
    if fit == "pad":
        if max(height, width) > LARGEST:
            image = _shrunk(image)
            height, width = image.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = np.zeros((side, side, 3), np.uint8)
        square[top : top + height, left : left + width] = image
        return square
    return image


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its longest side at `LARGEST`."""
    height, width = image.shape[:2]
    factor = LARGEST / max(height, width)
    sides = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(image, sides, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def check_image(image: Any, advice: str = "") -> None:
    """Raise ValueError unless `image` is a (H, W, 3) uint8 array with at least one pixel."""
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or image.size == 0
    ):
        raise ValueError(
            f"`image` must be a (H, W, 3) uint8 array of pixels 0..255{advice}. "
            f"Received: image={_describe(image)}"
        )


def _describe(image: Any) -> str:
    if not isinstance(image, np.ndarray):
        return f"a {type(image).__name__}"
    text = f"{image.dtype} array of shape {image.shape}"
    if image.size and np.issubdtype(image.dtype, np.number):
        text += f", values {image.min():g} to {image.max():g}"
        if np.issubdtype(image.dtype, np.floating) and np.isnan(image).any():
            text += ", with NaN"
    return text
