"""Values of more than 8 bits, brought to 8: the highest 8 of the bits that the file says it uses.

A file says so by the TIFF tag BitsPerSample, by MaxSampleValue where that is 2**n - 1 (any other
number is a statistic), and by a PNG's sBIT chunk where the values stand at the low end. Where it
says nothing, or has values beyond what it says, all bits of its format count.
"""

import sys
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

# The modes in which Pillow keeps more than 8 bits; of colours it keeps the high bytes alone.
_GREY = ("I;16", "I;16B", "I", "F")
# Numbers of a TIFF's tags, and values of them.
_COMPRESSION, _MAX_SAMPLE_VALUE, _PLANES = 259, 281, 284
_MIN_IS_WHITE, _SIGNED = 0, 2
# Of 16 bits; a 32-bit file has no agreed white beyond it.
_HIGHEST = 65535
# PNG's colour types, and how many values a pixel of each has.
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
# Pillow's names of 16-bit layouts by their order of bytes, "N" that of this machine.
_OTHER = "B" if sys.byteorder == "little" else "L"
_ORDERS = {
    f"{colours};16{one}": f"{colours};16{other}"
    for colours in ("RGB", "RGBX", "RGBA")
    for one, other in (("B", "L"), ("L", "B"), ("N", _OTHER))
}


def eight_bits(image: Image.Image, file: IO[bytes] | None = None) -> Image.Image:
    """The image in a mode of 8 bits; itself, if it is in one and its file has no more.

    Args:
        image: as Pillow has loaded it.
        file: what it was loaded from; None for an image that Pillow made in memory.

    Raises:
        ValueError: values without a defined brightness: negative ones, 32-bit ones above 65535,
            float ones outside 0..1; or inks or premultiplied colours of fewer than 16 bits in 16.
    """
    if image.mode in _GREY:
        return _grey(image, file)
    if image.mode == "L" and _tag(image, TiffImagePlugin.SAMPLEFORMAT) == _SIGNED:
        return _signed_bytes(image)
    bits = None if file is None else _told_bits(image, file)
    if bits is not None and _tag(image, _PLANES) == 2 and _tag(image, _COMPRESSION) == 1:
        # Pillow 13.0 reads their bytes as values of 8 bits.
        raise ValueError("colours of 16 bits in uncompressed planes are not supported")
    if file is None or bits is None or (bits == 16 and "transparency" not in image.info):
        return image  # Pillow has kept the highest 8 bits already
    return _colours(image, file, bits)


def _grey(image: Image.Image, file: IO[bytes] | None) -> Image.Image:
    values, bits = np.asarray(image), 8
    if image.mode == "F":
        values = _of_floats(values)
    else:
        bits = _used_bits(values, image, file)
    key = image.info.get("transparency")
    seen = None if key is None else values != key
    if _tag(image, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _MIN_IS_WHITE:
        values = 2**bits - 1 - values  # Pillow 13.0 does so for 8 bits only
    return _with_alpha(Image.fromarray(_highest(values, bits)), seen)


def _colours(image: Image.Image, file: IO[bytes], told: int) -> Image.Image:
    values = _sixteen_bits(image, file)
    colours, alpha = values[..., :3], values[..., 3:]
    bits = _within(colours, told, image)
    key = image.info.get("transparency")
    seen = None if key is None else (colours != np.array(key)).any(axis=-1)
    result = _with_alpha(Image.fromarray(_highest(colours, bits)), seen)
    if alpha.size:
        opaque = bits if alpha.max() < 1 << bits else 16
        result.putalpha(Image.fromarray(_highest(alpha[..., 0], opaque)))
    return result


def _with_alpha(image: Image.Image, seen: NDArray[np.bool_] | None) -> Image.Image:
    if seen is not None:
        image.putalpha(Image.fromarray(np.where(seen, 255, 0).astype(np.uint8)))
    return image


def _of_floats(values: NDArray[Any]) -> NDArray[np.uint8]:
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("float values that are NaN or outside 0..1 have no defined brightness")
    return np.rint(values * 255).astype(np.uint8)


def _signed_bytes(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.max() > 127:  # which is negative
        raise ValueError("negative values have no defined brightness")
    return Image.fromarray(values * np.uint8(2))


def _used_bits(values: NDArray[Any], image: Image.Image, file: IO[bytes] | None) -> int:
    if values.min() < 0:
        raise ValueError("negative values have no defined brightness")
    if values.max() > _HIGHEST:
        raise ValueError("32-bit values outside 0..65535 have no defined brightness")
    told = None if file is None else _told_bits(image, file)
    return 16 if told is None else _within(values, told, image)


def _within(values: NDArray[Any], bits: int, image: Image.Image) -> int:
    """`bits`, or 16 where the values are beyond that.

    A PNG's writer should move shorter values to the high end, where the low bits stay zero; so
    in a PNG, values with zeros there are taken as moved.
    """
    moved = image.format == "PNG" and not (values & ((1 << (16 - bits)) - 1)).any()
    return 16 if moved or values.max() >= 1 << bits else bits


def _told_bits(image: Image.Image, file: IO[bytes]) -> int | None:
    """How many bits, 8 to 16, the file says that its 16-bit values use; None for other files."""
    if image.format == "PNG":
        return _png_bits(file)
    bits = _tag(image, TiffImagePlugin.BITSPERSAMPLE)
    if bits not in (12, 16):
        return None
    if _tag(image, TiffImagePlugin.SAMPLEFORMAT) == _SIGNED:
        bits -= 1
    told = {2**n - 1: n for n in range(8, 17)}
    return min(bits, told.get(_tag(image, _MAX_SAMPLE_VALUE), 16))


def _tag(image: Image.Image, number: int) -> Any:
    """The value of a TIFF's tag, the largest of several; None for another file."""
    value = image.tag_v2.get(number) if hasattr(image, "tag_v2") else None
    return max(value) if isinstance(value, tuple) and value else value


def _png_bits(file: IO[bytes]) -> int | None:
    file.seek(16 + 8)  # what a PNG has at its beginning, up to its depth
    depth, colour = file.read(2)
    if depth != 16:
        return None
    file.seek(8)
    while True:
        length, name = int.from_bytes(file.read(4), "big"), file.read(4)
        if name in (b"", b"IDAT", b"IEND"):
            return 16
        if name == b"sBIT" and length == _CHANNELS.get(colour):
            return max(8, min(16, max(file.read(length))))
        file.seek(length + 4, 1)


def _highest(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return (values >> (bits - 8)).astype(np.uint8)


def _sixteen_bits(image: Image.Image, file: IO[bytes]) -> NDArray[np.uint16]:
    """The whole values of colours, (H, W, 3 or 4)."""
    # Pillow 13.0 has no mode for them and keeps the high bytes. Told that the file has the other
    # order of bytes, it keeps what are really the low ones.
    file.seek(0)
    with Image.open(file, formats=[str(image.format)]) as again:
        raw = {_raw(tile.args) for tile in again.tile}
        if raw == {"LA;16B"}:
            # Grey and alpha of two bytes each fill a pixel of four.
            again.tile = [tile._replace(args="RGBA") for tile in again.tile]
            high, low = np.asarray(again)[..., ::2], np.asarray(again)[..., 1::2]
            high, low = high[..., [0, 0, 0, 1]], low[..., [0, 0, 0, 1]]
        elif raw <= _ORDERS.keys():
            again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
            high, low = np.asarray(image), np.asarray(again)
        else:
            raise ValueError(f"colours of fewer than 16 bits in {', '.join(raw)} are not supported")
        return high.astype(np.uint16) << 8 | low


def _raw(args: Any) -> str:
    return str(args if isinstance(args, str) else args[0])


def _other_order(args: Any) -> Any:
    other = _ORDERS[_raw(args)]
    return other if isinstance(args, str) else (other, *args[1:])
