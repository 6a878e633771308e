"""Maps to look at: scaled, coloured, laid over images, written as small pictures."""

import numpy as np

# Evidence that differs by less of its size is the same to float32, and no map.
ROUNDING = 1e-5
# Dark violet to yellow, equally bright steps in between: told apart in grey and by colour-blind
# eyes too (the colours of matplotlib's "plasma" at 0, 0.25, 0.5, 0.75 and 1).
COLOURS = np.array([(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)])


def scaled(evidence: np.ndarray) -> np.ndarray:
    """Evidence (N, S, S), each from its least to its greatest value as 0..1; float32."""
    low = evidence.min(axis=(1, 2), keepdims=True)
    spread = evidence.max(axis=(1, 2), keepdims=True) - low
    flat = spread <= ROUNDING * np.maximum(abs(low), abs(low + spread))
    values = (evidence - low).astype(np.float32, copy=False)
    values *= np.where(flat, 0, 1 / np.where(flat, 1, spread)).astype(np.float32)
    return values


def coloured(values: np.ndarray) -> np.ndarray:
    """Values 0..1 of any shape as colours 0..255, float, with three channels more."""
    at = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.interp(values, at, channel) for channel in COLOURS.T], axis=-1)


def over(image: np.ndarray, values: np.ndarray, strength: float) -> np.ndarray:
    """(S, S, 3) uint8: an image covered with colours, the more the greater the values (S, S)."""
    share = strength * values[..., None]
    return ((1 - share) * image + share * coloured(values)).round().astype(np.uint8)
