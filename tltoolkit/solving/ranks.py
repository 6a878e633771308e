"""How rare a distance is among those of known rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit.solving.scaling import Floats

KNOTS = 512  # distances of held-out rows that are kept, evenly from the least to the largest
NARROWEST = 1e-3  # of the smoothing, in log distance: float32 in another order stays below


@dataclass(frozen=True, eq=False)
class Ranks:
    """What share of known rows is at least as far: from a distance to a familiarity of 0..1.

    A smoothed rank, so that it goes on falling beyond the farthest of a few held-out rows. Of
    rows like these the share p has a familiarity of at most p.

    Attributes:
        knots: (K,) logarithms of distances of held-out rows, sorted.
        width: Of the smoothing.
    """

    knots: Floats
    width: float

    @classmethod
    def of(cls, distances: Floats) -> "Ranks":
        """That of the distances (N,) of rows that were not trained on, N >= 2."""
        logs = _log(np.sort(distances))
        knots = logs if len(logs) <= KNOTS else np.quantile(logs, np.linspace(0, 1, KNOTS))
        # Silverman's rule for the bandwidth of a density.
        low, high = np.quantile(logs, (0.25, 0.75))
        spread = min(float(logs.std()), float(high - low) / 1.34)
        return cls(knots, max(0.9 * spread * len(logs) ** -0.2, NARROWEST))

    def __call__(self, distances: npt.NDArray[np.floating]) -> Floats:
        """(N,) familiarity of rows at these distances (N,)."""
        # Here: it takes a tenth of a second, which what asks nothing shall not wait for.
        from scipy.special import ndtr

        logs = _log(np.asarray(distances, np.float64))
        return np.asarray(ndtr((self.knots - logs[:, None]) / self.width).mean(1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"knots": self.knots.tolist(), "width": self.width}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Ranks":
        """The inverse of `to_dict`.

        Raises:
            ValueError, TypeError, LookupError: Other values.
        """
        return cls.checked(np.array(values["knots"], np.float64), float(values["width"]))

    @classmethod
    def checked(cls, knots: Floats, width: float) -> "Ranks":
        """Ranks of numbers that somebody else may have written; ValueError for wrong ones."""
        sound = knots.ndim == 1 and len(knots) and np.isfinite(knots).all()
        if not sound or (np.diff(knots) < 0).any() or not 0 < width < np.inf:
            raise ValueError("knots must be sorted numbers, and width a number above 0")
        return cls(knots, width)


def _log(distances: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(distances, np.finfo(np.float32).tiny)))
