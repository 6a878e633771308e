"""Maps to look at: scaled, and laid over images."""

import numpy as np

from tltoolkit.evaluation.heat import coloured

# Evidence that differs by less of its size is the same to float32, and no map.
ROUNDING = 1e-5


def scaled(evidence: np.ndarray) -> np.ndarray:
    """Evidence (N, S, S), each from its least to its greatest value as 0..1; float32."""
    low = evidence.min(axis=(1, 2), keepdims=True)
    spread = evidence.max(axis=(1, 2), keepdims=True) - low
    flat = spread <= ROUNDING * np.maximum(abs(low), abs(low + spread))
    values = (evidence - low).astype(np.float32, copy=False)
    values *= np.where(flat, 0, 1 / np.where(flat, 1, spread)).astype(np.float32)
    return values


def over(image: np.ndarray, values: np.ndarray, strength: float) -> np.ndarray:
    """(S, S, 3) uint8: an image covered with colours, the more the greater the values (S, S)."""
    share = strength * values[..., None]
    return ((1 - share) * image + share * coloured(values)).round().astype(np.uint8)
