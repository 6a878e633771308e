"""The one decoder: any image file becomes an upright (H, W, 3) uint8 RGB array, or an error."""

import io
import os
import stat
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tltoolkit import _checks
from tltoolkit.data import kinds
from tltoolkit.data.modes import to_rgb
from tltoolkit.data.terms import DECODE

# 150 MB as RGB, and every thread decodes one at a time. A file of 17 kB can hold 144 megapixels.
MAX_PIXELS = 50_000_000
# A JPEG is decoded at reduced scale as long as both sides stay so many times the wanted one: what
# is then left to shrink hides the difference (0.5 grey levels in the mean on photographs of 12
# megapixels at 224 pixels, 1.5 with 1 here), and a random crop of half the sides is still sharp.
OVERSAMPLING = 2


class ImageError(ValueError):
    """An image that cannot be read: `path` names it, `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = path
        self.reason = reason

    # Else pickle, between processes, calls it with its one text, and fails for want of a reason.
    def __reduce__(self) -> tuple[Any, ...]:
        return ImageError, (self.path, self.reason)


def decode(
    image: str | os.PathLike[str] | bytes,
    *,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
    side: int | None = None,
) -> NDArray[np.uint8]:
    """Decode one image to a read-only (H, W, 3) uint8 RGB array, upright, values 0..255.

    Reads JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF and, with the extra `heif`, HEIC, told by content.
    The EXIF orientation is applied, and the first frame or page taken. `modes.MODES` says how
    every colour mode becomes RGB, `depth` what more than 8 bits become. Colours are converted to
    sRGB by the file's own ICC profile; without one, or with a damaged one, they are taken as
    sRGB. Safe to call from many threads at once.

    Args:
        image: a path, or the bytes of an image file.
        name: what to call the image in an error; by default its path, or "image bytes".
        max_pixels: the largest width * height to decode; checked in the header, before the
            pixels are allocated. Pillow's own limit (179 megapixels) holds beside it.
        side: of the square, in pixels, that the image will be shrunk to. A JPEG is then decoded
            at the smallest of 1/1, 1/2, 1/4 and 1/8 of its size whose sides are both at least
            twice as long. The same file and `side` always give the same pixels. None decodes all.

    Raises:
        ImageError: the image cannot be read; it names the image and the reason.
    """
    _checks.arguments(DECODE, locals())
    _checks.instance("image", image, (str, os.PathLike, bytes), "a path or bytes")
    if isinstance(image, bytes):
        return _decode(io.BytesIO(image), len(image), name or "image bytes", max_pixels, side)
    path = os.fspath(image)
    name = printable(name or path)
    try:
        size = _regular_size(path)
        with open(path, "rb") as file:
            return _decode(file, size, name, max_pixels, side)
    except OSError as error:
        raise ImageError(name, error.strerror or str(error)) from error


def jpeg_shape(image: str | bytes) -> tuple[int, int] | None:
    """Height and width of a whole JPEG, upright, by its header alone; None for another image."""
    with io.BytesIO(image) if isinstance(image, bytes) else open(image, "rb") as file:
        if kinds.kind_of(file) != "JPEG":
            return None
        with Image.open(file, formats=["JPEG"]) as opened:
            width, height = opened.size
            turned = _orientation(opened) in _SIDEWAYS
    return (width, height) if turned else (height, width)


def printable(path: str) -> str:
    """The path with bytes that are no valid text shown as escapes, so that it can be printed."""
    return path.encode("utf-8", "backslashreplace").decode()


def _regular_size(path: str) -> int:
    """The file's size in bytes. Opening a pipe or a device could wait forever, so it is refused."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise OSError(0, f"it is {kind}, not a file")
    return status.st_size


def _decode(
    file: IO[bytes], size: int, name: str, max_pixels: int, side: int | None
) -> NDArray[np.uint8]:
    if size == 0:
        raise ImageError(name, "the file is empty")
    try:
        kind = kinds.kind_of(file)
    except (kinds.UnknownKindError, ImportError) as error:
        raise ImageError(name, str(error)) from error
    try:
        # One format alone: all others that Pillow knows would be more code to trust with any file.
        with Image.open(file, formats=[kinds.FORMATS[kind]]) as image:
            return _pixels(image, max_pixels, side, file)
    except MemoryError:
        raise  # no fault of the file, which may be read another time
    # Pillow's plugins raise nearly every type of exception on damaged files.
    except Exception as error:
        raise ImageError(name, kinds.fault(file, kind, error)) from error


def from_pillow(image: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels of an image that Pillow has opened, by the rules of `decode`.

    Raises:
        ImageError: its pixels cannot be read.
    """
    try:
        return _pixels(image, max_pixels)
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(name, str(error) or type(error).__name__) from error


def _pixels(
    image: Image.Image,
    max_pixels: int,
    side: int | None = None,
    file: IO[bytes] | None = None,
) -> NDArray[np.uint8]:
    _check_header(image, max_pixels)
    if side is not None:
        image.draft(None, (OVERSAMPLING * side, OVERSAMPLING * side))  # of a JPEG only
    image.load()
    turn = _orientation(image)
    rgb = to_rgb(image, file)
    return np.asarray(rgb.transpose(turn) if turn is not None else rgb)


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height == 0:
        raise ValueError(f"the image has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} pixels are more than max_pixels={max_pixels}")


# EXIF's orientations -> what sets them upright; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[orientation] for orientation in (5, 6, 7, 8)}


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Damaged EXIF data says nothing about the pixels: the image is taken as it is stored.
        return None
