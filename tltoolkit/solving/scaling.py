"""Features on a common scale, and the way back: a head on scaled features as one on raw ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Of the median spread of its part: a feature that hardly varies is mostly noise, and unit variance
# would make as much of it as of the others.
FLOOR = 1.0
STREAMED = 4096  # rows of features that are copied at a time: 60 MB of 4,000 features
CONSTANT = 1e-7  # of the mean: float32 sums of equal numbers differ by about so much


@dataclass(frozen=True)
class Scale:
    """(x - mean) * factor; the factor of a feature that never varied is 0.

    Attributes:
        mean: (F,).
        factor: (F,).
    """

    mean: Floats
    factor: Floats

    def __call__(self, features: npt.NDArray[np.floating]) -> Floats:
        """(N, F) features, scaled."""
        return np.asarray((features - self.mean) * self.factor)

    def on_raw(self, kernel: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Kernel (F, C) and bias (C,) for raw features that do what these do for scaled ones."""
        raw = kernel * self.factor[:, None]
        return raw, bias - self.mean @ raw


def stripes(rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Rows a few at a time: those of a file stay there, and what is made of them stays small."""
    for first in range(0, len(rows), STREAMED):
        yield rows[first : first + STREAMED]


def scale_of(features: npt.NDArray[np.floating]) -> Scale:
    """The scale of one part: spread = sqrt(std^2 + (FLOOR * median std)^2).

    Args:
        features: (N, F), all of one kind (a tap's means, say).
    """
    count = max(len(features), 1)
    mean = sum(part.sum(0, dtype=np.float64) for part in stripes(features)) / count
    squares = sum(np.square(part - mean).sum(0) for part in stripes(features))
    return scale_by(mean, np.sqrt(squares / count))


def scale_by(mean: Floats, std: Floats) -> Scale:
    """The scale of one part of these means (F,) and standard deviations (F,)."""
    varies = std > CONSTANT * np.abs(mean) + np.finfo(np.float32).tiny
    if not varies.any():
        return Scale(mean, np.zeros_like(std))
    spread = np.sqrt(std**2 + (FLOOR * np.median(std[varies])) ** 2)
    return Scale(mean, np.where(varies, 1 / spread, 0.0))
