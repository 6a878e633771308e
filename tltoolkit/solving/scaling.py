"""Features on a common scale, and the way back: a head on scaled features as one on raw ones."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Of the median spread of its part: a feature that hardly varies is mostly noise, and unit variance
# would make as much of it as of the others.
FLOOR = 1.0
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


def scale_of(features: npt.NDArray[np.floating]) -> Scale:
    """The scale of one part: spread = sqrt(std^2 + (FLOOR * median std)^2).

    Args:
        features: (N, F), all of one kind (a tap's means, say).
    """
    mean = features.mean(0, dtype=np.float64)
    std = features.std(0, dtype=np.float64)
    varies = std > CONSTANT * np.abs(mean) + np.finfo(np.float32).tiny
    if not varies.any():
        return Scale(mean, np.zeros_like(std))
    spread = np.sqrt(std**2 + (FLOOR * np.median(std[varies])) ** 2)
    return Scale(mean, np.where(varies, 1 / spread, 0.0))
