"""Colours by a file's own ICC profile, converted to sRGB."""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# The profiles of a data set are few; each with its transform takes up to a few MiB.
_KEPT = 32
# Grey levels within which a profile is taken for sRGB itself: its conversion only rounds.
_SAME = 2
# A profile's colour space -> the modes of Pillow that have it, and the mode they become.
_SPACES = {
    "RGB": {"RGB": "RGB", "RGBA": "RGBA"},
    "GRAY": {"L": "RGB"},
    "CMYK": {"CMYK": "RGB"},
}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB: itself, or of mode RGB or RGBA where `profile` says other colours.

    A profile that is damaged, or of another colour space than the pixels, is ignored. Safe to
    call from many threads at once.

    Args:
        image: of 8 bits, any mode.
        profile: the content of an ICC profile, as `image.info["icc_profile"]` has it.
    """
    if not profile:
        return image
    colours = _colours(image)
    # Pillow 13.0 builds no transform for LA ("cannot build transform"), but takes RGBA.
    grey, alpha = colours.split() if colours.mode == "LA" else (colours, None)
    transform = _transform(bytes(profile), grey.mode)
    if transform is None:
        return image
    result = transform.apply(grey)
    if alpha is not None:
        result.putalpha(alpha)
    return result


def _colours(image: Image.Image) -> Image.Image:
    """The image in a mode that a profile can be of."""
    if image.has_transparency_data and image.mode in ("P", "PA", "RGB", "RGBa"):
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("LA" if image.has_transparency_data else "L")
    return image.convert("RGB") if image.mode in ("P", "YCbCr") else image


@lru_cache(_KEPT)
def _transform(profile: bytes, mode: str) -> Any:
    """What turns pixels of a mode into sRGB; None where there is nothing to do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        result = _SPACES.get(source.profile.xcolor_space.strip(), {}).get(mode)
        if result is None:
            return None
        transform = ImageCms.ImageCmsTransform(source, _srgb(), mode, result)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    # CMYK is no sRGB, so that its profile always counts.
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


@lru_cache(1)
def _srgb() -> Any:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _changes_nothing(transform: Any, mode: str) -> bool:
    # Each 15th from 0 to 255, in all mixtures: 5832 colours.
    levels = np.arange(0, 256, 15).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    colours = Image.fromarray(levels[None] if mode == "L" else grid)
    before = np.asarray(colours.convert("RGB"), int)
    after = np.asarray(transform.apply(colours.convert(mode)).convert("RGB"), int)
    return bool(np.abs(after - before).max() <= _SAME)
