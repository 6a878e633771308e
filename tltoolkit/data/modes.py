"""How every colour mode of Pillow becomes 8-bit RGB in sRGB."""

from collections.abc import Callable
from typing import IO

from PIL import Image

from tltoolkit.data.depth import eight_bits
from tltoolkit.data.profiles import to_srgb


def to_rgb(image: Image.Image, file: IO[bytes] | None = None) -> Image.Image:
    """Convert a Pillow image of any mode to mode RGB, 8 bits, by the rules of `MODES`.

    More than 8 bits are brought to 8 first, then the image's colour profile is applied, and then
    transparent pixels are composed on white.

    Args:
        image: as Pillow has loaded it.
        file: what it was loaded from, which may tell how many bits its values use.

    Raises:
        ValueError: a mode, or values, without a rule.
    """
    if image.mode not in MODES:
        raise ValueError(f"colour mode {image.mode} is not supported")
    image = to_srgb(eight_bits(image, file), image.info.get("icc_profile"))
    if image.has_transparency_data and image.mode in ("1", "L", "RGB", "P"):
        return _on_white(image)
    return MODES[image.mode](image)


def _plain(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")


# Pillow's mode -> RGB. In each of them a colour profile in the file is applied first, which gives
# sRGB; a damaged one, or one of another colour space than the mode, is ignored.
MODES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "RGB": _plain,  # a colour marked transparent becomes white, also in the next three
    "L": _plain,  # grey, repeated three times
    "1": _plain,  # black and white
    "P": _plain,  # palette
    # Without a profile red is 255 - cyan, less black, and so on. A JPEG's values are taken as
    # inverted, as Adobe writes them.
    "CMYK": _plain,
    "YCbCr": _plain,
    "LA": _on_white,  # alpha, composed on white
    "PA": _on_white,
    "RGBA": _on_white,
    "RGBa": _on_white,  # premultiplied alpha
    # These four are grey of 8 bits by now, see `depth`.
    "I;16": _plain,  # the highest 8 of the bits that the file says it uses, of 16 if it does not
    "I;16B": _plain,
    "I": _plain,  # signed 16 bits: the highest 8 of 15; 32 bits: 0..65535 as 16 bits
    "F": _plain,  # 0..1 as 0..255
}
