"""Maps to look at: smoothed, scaled, and laid over images."""

import cv2
import numpy as np

from tltoolkit.evaluation.heat import coloured

# Evidence that differs by less of its size is the same to float32, and no map.
ROUNDING = 1e-5
# Of a Gaussian, as a share of the side: a quarter of a cell of 7 x 7, as most last maps have them.
# Maxima and deviations of early blocks are single dots otherwise, beside which nothing is seen.
BLUR = 1 / 28
# Percent of the places that are shown as 0, and as 1: a few extremes would leave all others alike.
CUT = 2.0


def scaled(evidence: np.ndarray) -> np.ndarray:
    """Evidence (N, S, S), smoothed, and each from nearly its least to its greatest as 0..1."""
    smooth = np.stack([_blurred(one) for one in evidence])
    low, high = np.percentile(smooth, (CUT, 100 - CUT), axis=(1, 2), keepdims=True)
    spread = high - low
    flat = spread <= ROUNDING * np.maximum(abs(low), abs(high))
    values = (smooth - low) * np.where(flat, 0, 1 / np.where(flat, 1, spread))
    return np.asarray(values.clip(0, 1), np.float32)


def _blurred(one: np.ndarray) -> np.ndarray:
    made = np.asarray(one, np.float32)
    return cv2.GaussianBlur(made, (0, 0), BLUR * len(made), borderType=cv2.BORDER_REPLICATE)


def over(image: np.ndarray, values: np.ndarray, strength: float) -> np.ndarray:
    """(S, S, 3) uint8: an image covered with colours, the more the greater the values (S, S)."""
    share = strength * values[..., None]
    return ((1 - share) * image + share * coloured(values)).round().astype(np.uint8)
