"""Small JPEGs inside the page, as few and as small as one file can bear."""

import base64
import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

SIDE = 128  # pixels of the longer side, about what the gallery shows
MOST = 800  # thumbnails in a page
MOST_BYTES = 6_000_000  # of their base64 text: little more than plotly beside them
_QUALITY = 80  # of a JPEG: more adds bytes that nobody sees at this size


def embed(
    image: Callable[[int], npt.NDArray[np.uint8]] | None, rows: Sequence[int]
) -> dict[int, str]:
    """Row -> data URI of the first of `rows`, as many as a page can bear; none without `image`."""
    images: dict[int, str] = {}
    if image is None:
        return images
    size = 0
    for row in rows[:MOST]:
        uri = data_uri(image(row))
        size += len(uri)
        # Stopped, not skipped: the rows come by urgency.
        if size > MOST_BYTES:
            break
        images[row] = uri
    return images


def data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 pixels as a JPEG data URI, shrunk to `SIDE`, never enlarged."""
    from PIL import Image

    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    picture.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
