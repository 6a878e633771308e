"""What a file is, told by its first bytes, and what is wrong with one that cannot be read."""

import struct
import zlib
from typing import IO, Any

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, features

# What is read -> Pillow's name of the format.
FORMATS = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "GIF": "GIF",
    "BMP": "BMP",
    "WebP": "WEBP",
    "TIFF": "TIFF",
    "HEIC": "HEIF",
    "AVIF": "AVIF",
}
READ = "JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC or AVIF"
EXTRA = "pip install 'tltoolkit[heif]'"
# Enough for the list of brands at the start of a HEIC file.
_START = 512
# Bytes of an unknown beginning in an error: somebody who knows the format will see it.
_SHOWN = 16
_PNG = b"\x89PNG\r\n\x1a\n"
_SIGNS = {
    b"\xff\xd8\xff": "JPEG",
    _PNG: "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
}
# What people give an image's name, besides images.
_OTHERS = {
    b"%PDF": "a PDF",
    b"%!PS": "a PostScript file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"8BPS": "a Photoshop file",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\x01\0": "an icon",
    b"\x93NUMPY": "a NumPy array",
    b"\x1aE\xdf\xa3": "a video",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was not fetched",
}
# Brands, as a file of ISO/IEC 14496-12 lists them: still images, and sequences of such.
_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_SAMPLES = {1: "unsigned", 2: "signed", 3: "float"}


class UnknownKindError(ValueError):
    """A file that is none of `FORMATS`."""


def kind_of(file: IO[bytes]) -> str:
    """What the file is, one of `FORMATS`; it is read from its beginning, and set back there.

    Raises:
        UnknownKindError: it is something else; the message says what it looks like.
        ImportError: it is a HEIC or AVIF image, and what reads those is not installed.
    """
    file.seek(0)
    start = file.read(_START)
    file.seek(0)
    kind = _told(start)
    if kind not in FORMATS:
        begins = f"(it begins with {start[:_SHOWN]!r})"
        raise UnknownKindError(f"not a {READ} image but {kind} {begins}")
    if kind == "HEIC":
        _need_heif()
    if kind == "AVIF" and not features.check("avif"):
        raise ImportError(f"it is an AVIF image, which needs another Pillow: {EXTRA}")
    return kind


def _need_heif() -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise ImportError(f"it is a HEIC image, which needs pillow-heif: {EXTRA}") from error
    pillow_heif.register_heif_opener()


def _told(start: bytes) -> str:
    for sign, kind in (*_SIGNS.items(), *_OTHERS.items()):
        if start.startswith(sign):
            return kind
    # A container: what it holds stands behind its size.
    if start.startswith(b"RIFF"):
        return "WebP" if start[8:12] == b"WEBP" else "a video or sound"
    if start[4:8] == b"ftyp":
        return _of_brands(start)
    if not start.strip(b"\0"):
        return "nothing but zero bytes"
    return _text(start)


def _of_brands(start: bytes) -> str:
    length = int.from_bytes(start[:4], "big")
    # The four bytes after the first brand are a version.
    brands = {start[8:12], *(start[at : at + 4] for at in range(16, min(length, len(start)), 4))}
    # AVIF first: its files name mif1, which HEIC files have, too.
    if brands & _AVIF:
        return "AVIF"
    return "HEIC" if brands & _HEIC else "a video"


def _text(start: bytes) -> str:
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith(b"<?xml"):
        return "XML"
    return "JSON" if text.startswith((b"{", b"[")) else "something else"


def fault(file: IO[bytes], kind: str, error: Exception) -> str:
    """What is wrong with a file of `kind` that Pillow could not read: `error`."""
    article = "an" if kind == "AVIF" else "a"
    return f"{article} {kind}, but {_found(file, kind) or _said(error)}"


def _found(file: IO[bytes], kind: str) -> str | None:
    """A fault that the file itself tells better than Pillow."""
    look = {"PNG": _png_fault, "TIFF": _tiff_fault}.get(kind)
    try:
        file.seek(0)
        return look(file) if look else None
    except Exception:
        # Of a file so damaged, Pillow's own words are all there is.
        return None


def _said(error: Exception) -> str:
    # Its own text shows a Python object, not a fault.
    if isinstance(error, UnidentifiedImageError):
        return "its header is damaged"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels that Pillow opens"
    return str(error) or type(error).__name__


def _png_fault(file: IO[bytes]) -> str | None:
    """The first chunk that is cut off or whose checksum is wrong."""
    file.seek(len(_PNG))
    while True:
        head = file.read(8)
        if len(head) < 8:
            return "it is cut off"
        length, name = struct.unpack(">I4s", head)
        shown = name.decode("latin-1")
        if not name.isalpha():
            return f"it holds {name!r} where the name of a chunk belongs"
        content = file.read(length + 4)
        if len(content) < length + 4:
            return f"it is cut off in its chunk {shown}"
        if zlib.crc32(name + content[:-4]) != int.from_bytes(content[-4:], "big"):
            return f"its CRC is wrong in its chunk {shown}"
        if name == b"IEND":
            return None


def _tiff_fault(file: IO[bytes]) -> str | None:
    """The samples of a TIFF, if Pillow has no rule for them."""
    big = file.read(4)[2:] in (b"+\0", b"\0+")
    file.seek(0)
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if big else 8))
    file.seek(tags.next)
    tags.load(file)
    bits = tuple(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    samples = tuple(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)))
    # With one number for all samples, as Pillow compares them.
    known = {(key[2], key[4]) for key in TiffImagePlugin.OPEN_INFO}
    if ((samples[0],), bits) in known:
        return None
    what = _SAMPLES.get(samples[0], "undefined")
    return f"{what} samples of {bits[0]} bits, {len(bits)} a pixel, are not supported"
