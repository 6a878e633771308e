"""Contrast normalisation in plain NumPy: the reference of the transforms and the Keras layers."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment.terms import WINDOWS

# What normalised pixels are by default: a middle grey with a quarter of the range as deviation,
# so that nearly all values stay within 0..255. The regularizer is that of Coates et al. for pixels
# 0..255, the window that of Jarrett et al.
SCALE, OFFSET, REGULARIZER, WINDOW = 64.0, 127.5, 10.0, 9


def check_window(window: int) -> None:
    """Raise ValueError unless the window is an odd number of pixels, >= 3."""
    WINDOWS.check("window", window)
    if window % 2 == 0:
        raise _checks.fail("window", "odd", window)


def global_contrast(
    image: NDArray[Any],
    *,
    scale: float = SCALE,
    offset: float = OFFSET,
    regularizer: float = REGULARIZER,
) -> NDArray[np.float32]:
    """Give the whole image one mean and one standard deviation.

    y = offset + scale (x - mean(x)) / sqrt(regularizer + var(x)), with mean and variance over
    all pixels and channels (Goodfellow, Bengio and Courville 2016, Deep Learning, equation
    12.3; Coates, Ng and Lee 2011).

    Args:
        image: (H, W, channels), values 0..255.
        scale: standard deviation of the result in grey levels, > 0.
        offset: mean of the result in grey levels.
        regularizer: > 0, in squared grey levels; images of less variance stay faint, so that
            the noise of an empty picture is not blown up.

    Returns:
        (H, W, channels) float32, not rounded and not clipped.
    """
    # float32 would lose digits in the sum of a megapixel.
    centred = image - image.mean(dtype=np.float64)
    variance = np.square(centred).mean()
    gain = scale / np.sqrt(regularizer + variance)
    result: NDArray[np.float32] = (offset + gain * centred).astype(np.float32)
    return result


def local_contrast(
    image: NDArray[Any],
    *,
    scale: float = SCALE,
    offset: float = OFFSET,
    regularizer: float = REGULARIZER,
    window: int = WINDOW,
) -> NDArray[np.float32]:
    """Remove local brightness and divide by local contrast.

    v = x - blur(x), s = sqrt(regularizer + blur(v^2)), y = offset + scale v / max(s, mean(s)),
    with one blur over all channels: a Gaussian window, cut at the edges of the image (Jarrett
    et al. 2009, What is the Best Multi-Stage Architecture for Object Recognition?, section 2).

    Args:
        image: (H, W, channels), values 0..255.
        scale: contrast of the result in grey levels, > 0.
        offset: mean of the result in grey levels.
        regularizer: > 0, in squared grey levels; areas of less variance stay faint.
        window: side of the Gaussian window in pixels, odd, >= 3; its deviation is a quarter.

    Returns:
        (H, W, channels) float32, not rounded and not clipped.
    """
    # Differences of uint8 would wrap around.
    pixels = image.astype(np.float32)
    # One plane for all channels: each by itself would lose the colour.
    centred = pixels - _blur(pixels.mean(axis=2), window)[:, :, None]
    deviation = np.sqrt(regularizer + _blur(np.square(centred).mean(axis=2), window))
    # Not below the mean, so that flat areas are not blown up into noise.
    strongest = np.maximum(deviation, deviation.mean())[:, :, None]
    result: NDArray[np.float32] = (offset + scale * centred / strongest).astype(np.float32)
    return result


def kernel(window: int) -> NDArray[np.float32]:
    """(window,) Gaussian weights of sum 1, with a standard deviation of a quarter of it."""
    distance = np.arange(window) - window // 2
    weights = np.exp(-0.5 * np.square(distance / (window / 4)))
    result: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return result


def _blur(plane: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    # Divided by what lies within the image, or its edges would come out dark.
    weights = kernel(window)

    def total(values: NDArray[np.float32]) -> NDArray[np.float32]:
        # Two passes in one direction each: a Gaussian is their product.
        sums: NDArray[np.float32] = cv2.sepFilter2D(
            values, -1, weights, weights, borderType=cv2.BORDER_CONSTANT
        )
        return sums

    return total(plane) / total(np.ones_like(plane))
