"""Maps of values 0..1 in colours, and as small pictures to lay over others in a page."""

import base64
import io

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import fail

# Dark violet to yellow, equally bright steps in between: told apart in grey and by colour-blind
# eyes too (matplotlib's "plasma" at 0, 0.25, 0.5, 0.75 and 1).
COLOURS = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)])
STRENGTH = 0.7  # how much of a picture is covered where the map is 1
SIDE = 32  # pixels of a map in a page, finer than what most classifiers' maps are made from
LEVELS = 16  # colours of it, half a byte a pixel; the browser draws the steps in between
Floats = npt.NDArray[np.floating]


def coloured(values: Floats) -> Floats:
    """Values 0..1 of any shape as colours 0..255, float, three of them along a last axis."""
    at = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(values, at, channel) for channel in COLOURS.T], axis=-1)


def data_uri(values: Floats) -> str:
    """A map (H, W) of values 0..1 as a PNG data URI that covers more the greater they are."""
    from PIL import Image

    image = Image.fromarray(np.asarray(values, np.float32))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    steps = np.asarray(image).clip(0, 1) * (LEVELS - 1)
    levels = np.arange(LEVELS) / (LEVELS - 1)
    picture = Image.fromarray(steps.round().astype(np.uint8), "P")
    picture.putpalette(coloured(levels).round().astype(np.uint8).tobytes())
    encoded = io.BytesIO()
    covers = bytes((255 * STRENGTH * levels).round().astype(np.uint8))
    picture.save(encoded, "PNG", transparency=covers, bits=4, optimize=True)
    return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()


def checked(maps: npt.ArrayLike, count: int) -> Floats:
    """Maps (count, H, W) of values 0..1.

    Raises:
        ValueError: They are others.
    """
    made = np.asarray(maps)
    good = made.ndim == 3 and len(made) == count and np.issubdtype(made.dtype, np.floating)
    if not good or not bool(((made >= 0) & (made <= 1)).all()):
        raise fail("maps", f"a function that gives {count} maps of 0..1 for so many rows", made)
    return made
