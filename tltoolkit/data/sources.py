"""Where images come from: files or arrays, each decoded only when asked for."""

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tltoolkit.data.decoding import decode, jpeg_shape, printable


class Source(Protocol):
    """A numbered row of images, read concurrently by many threads.

    An `image` that decodes files may have a second parameter, `side`, as that of `decode`. Such a
    source then has a method `jpeg_shape` too: that of `decoding` for an index.
    """

    def __len__(self) -> int: ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image as read-only (H, W, 3) uint8 RGB; ImageError names one it cannot read."""

    def path(self, index: int) -> str | None:
        """The image's file, if it has one of its own."""
        return None

    def name(self, index: int) -> str:
        """What to call the image in an error or a report."""

    def size(self, index: int) -> int | None:
        """Bytes of content, cheaply; None if it cannot be read."""

    def stamp(self, index: int) -> list[int] | None:
        """What changes when the image's file or its verdict changes; None if nothing tells.

        Where it is None, verdicts on the image are not remembered.
        """
        return None

    def digest(self, index: int) -> str:
        """SHA-256 of the content, in hexadecimal. Raises OSError if it cannot be read."""


class Files:
    """Image files, by path."""

    def __init__(self, paths: Sequence[str], max_pixels: int) -> None:
        self._paths = tuple(paths)
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self._paths)

    def image(self, index: int, side: int | None = None) -> NDArray[np.uint8]:
        """The image as read-only (H, W, 3) uint8 RGB; ImageError names one it cannot read."""
        return decode(self._paths[index], max_pixels=self.max_pixels, side=side)

    def jpeg_shape(self, index: int) -> tuple[int, int] | None:
        """Height and width of a whole JPEG; None for another image."""
        return jpeg_shape(self._paths[index])

    def path(self, index: int) -> str:
        """The image's file."""
        return self._paths[index]

    def name(self, index: int) -> str:
        """The path, printable."""
        return printable(self._paths[index])

    def size(self, index: int) -> int | None:
        """Bytes of the file; None if it is no regular file."""
        stamp = self.stamp(index)
        return stamp[0] if stamp else None

    def stamp(self, index: int) -> list[int] | None:
        """Size, modification time in nanoseconds, and the pixel limit."""
        try:
            status = os.stat(self._paths[index])
        except OSError:
            return None
        regular = stat.S_ISREG(status.st_mode)
        # With the limit, since it decides whether the image counts as readable.
        return [status.st_size, status.st_mtime_ns, self.max_pixels] if regular else None

    def digest(self, index: int) -> str:
        """SHA-256 of the file."""
        with open(self._paths[index], "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


class Arrays(Source):
    """Images in memory, each (H, W, 3), (H, W, 1) or (H, W) uint8."""

    def __init__(self, images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image as (H, W, 3) uint8 RGB."""
        return as_rgb(self._images[index])

    def name(self, index: int) -> str:
        """The place in `images`."""
        return f"images[{index}]"

    def size(self, index: int) -> int:
        """Bytes of the array."""
        return int(self._images[index].nbytes)

    def digest(self, index: int) -> str:
        """SHA-256 of shape and pixels."""
        return pixel_digest(self._images[index])


def pixel_digest(image: NDArray[np.uint8]) -> str:
    """SHA-256 of shape and pixels, (H, W, C), or (H, W) which is the same as one channel."""
    # Pixels alone would be those of another shape, too: 2 x 8 black ones, and 4 x 4.
    shape = (*image.shape[:2], image[0, 0].size)
    return hashlib.sha256(repr(shape).encode() + image.tobytes()).hexdigest()


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A read-only (H, W, 3) version of (H, W, 3), (H, W, 1) or (H, W) pixels; grey is repeated."""
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    # A view: what the caller does to an image must not reach the user's arrays.
    view = image.view()
    view.setflags(write=False)
    return view
