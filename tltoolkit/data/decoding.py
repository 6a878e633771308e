"""The one decoder: any image file becomes an upright (H, W, 3) uint8 RGB array, or an error."""

import io
import os
import stat
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from tltoolkit import _checks

# Told by content, never by the file's name.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
MAX_PIXELS = 50_000_000


class ImageError(ValueError):
    """An image that cannot be read: `path` names it, `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"cannot read {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageError, (self.path, self.reason)


def decode(
    image: str | os.PathLike[str] | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode one image to a read-only (H, W, 3) uint8 RGB array, upright, values 0..255.

    Reads JPEG, PNG, GIF, BMP, WebP and TIFF, told by content. The EXIF orientation is applied,
    and the first frame of an animation taken; `MODES` says how every colour mode becomes RGB.
    Colour profiles are ignored. Safe to call from many threads at once.

    Args:
        image: a path, or the bytes of an image file.
        name: what to call the image in an error; by default its path, or "image bytes".
        max_pixels: the largest width * height to decode; checked in the header, before the
            pixels are allocated. Pillow's own limit (179 megapixels) holds beside it.

    Raises:
        ImageError: the image cannot be read; it names the image and the reason.
    """
    _checks.integer("max_pixels", max_pixels, 1)
    _checks.instance("image", image, (str, os.PathLike, bytes), "a path or bytes")
    if isinstance(image, bytes):
        return _decode(io.BytesIO(image), len(image), name or "image bytes", max_pixels)
    path = os.fspath(image)
    name = printable(name or path)
    try:
        size = _regular_size(path)
        with open(path, "rb") as file:
            return _decode(file, size, name, max_pixels)
    except OSError as error:
        raise ImageError(name, error.strerror or str(error)) from error


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


def _decode(file: IO[bytes], size: int, name: str, max_pixels: int) -> NDArray[np.uint8]:
    if size == 0:
        raise ImageError(name, "the file is empty")
    try:
        with Image.open(file, formats=FORMATS) as image:
            return _pixels(image, max_pixels)
    except UnidentifiedImageError as error:
        file.seek(0)
        start = file.read(16)
        reason = f"not a JPEG, PNG, GIF, BMP, WebP or TIFF image (it begins with {start!r})"
        raise ImageError(name, reason) from error
    except MemoryError:
        raise
    # Pillow's plugins raise nearly every type of exception on damaged files.
    except Exception as error:
        raise ImageError(name, str(error) or type(error).__name__) from error


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


def _pixels(image: Image.Image, max_pixels: int) -> NDArray[np.uint8]:
    _check_header(image, max_pixels)
    image.load()
    turn = _orientation(image)
    rgb = to_rgb(image)
    return np.asarray(rgb.transpose(turn) if turn is not None else rgb)


def _check_header(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height == 0:
        raise ValueError(f"the image has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ValueError(f"{width} x {height} pixels are more than max_pixels={max_pixels}")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # Damaged EXIF data says nothing about the pixels: the image is taken as it is stored.
        return None


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a Pillow image of any mode to mode RGB, 8 bits, by the rules of `MODES`."""
    if image.mode not in MODES:
        raise ValueError(f"colour mode {image.mode} is not supported")
    if image.has_transparency_data and image.mode in ("1", "L", "RGB", "P"):
        return _on_white(image)
    return MODES[image.mode](image)


def _plain(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")


def _high_byte(image: Image.Image) -> Image.Image:
    return _from_values(np.asarray(image) >> 8)


def _wide_integers(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit values outside 0..65535 have no defined brightness")
    return _from_values(values >> 8)


def _floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("float values that are NaN or outside 0..1 have no defined brightness")
    return _from_values(np.rint(values * 255))


def _from_values(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


# Pillow's mode -> RGB. 16-bit colour images never get here: Pillow keeps the high byte of each
# value itself, so grey ones are treated alike.
MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "RGB": _plain,  # a colour marked transparent becomes white, also in the next three
    "L": _plain,  # grey, repeated three times
    "1": _plain,  # black and white
    "P": _plain,  # palette
    "CMYK": _plain,  # a JPEG's values are taken as inverted, as Adobe writes them
    "YCbCr": _plain,
    "LA": _on_white,  # alpha, composed on white
    "PA": _on_white,
    "RGBA": _on_white,
    "RGBa": _on_white,  # premultiplied alpha
    "I;16": _high_byte,  # 16-bit grey: value // 256
    "I;16B": _high_byte,
    "I": _wide_integers,  # 32-bit grey: 0..65535 as 16-bit, anything else is an error
    "F": _floats,  # float grey: 0..1 as 0..255, anything else is an error
}
