"""How error falls with the number of training images: a * n ** -b + c."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
# An error falls at most with the square of the number of images; steeper fits are chance.
STEEPEST = 2.0


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """An error of `a * n ** -b + c` after training on n images.

    Attributes:
        a: Size of the part of the error that more images remove, >= 0.
        b: How fast they do, in [0, 2].
        c: The error that no number of images removes, in [0, 1].
    """

    a: float
    b: float
    c: float

    def error(self, size: Any) -> Any:
        """The error after training on `size` images; numbers or arrays."""
        return self.a * np.asarray(size, float) ** -self.b + self.c

    def score(self, size: Any) -> Any:
        """One minus the error, not below 0."""
        # A law fitted to large sizes may ask for an error above 1 at small ones.
        return np.maximum(1 - self.error(size), 0.0)

    def __str__(self) -> str:
        return f"error = {self.a:.3g} n^-{self.b:.2f} + {self.c:.3f}"


def fit(sizes: FloatArray, errors: FloatArray, deviations: FloatArray) -> PowerLaw:
    """The law of least squares, each error weighted by how sure it is.

    Args:
        sizes: (S,) numbers of training images.
        errors: (S,) errors in [0, 1].
        deviations: (S,) standard deviations of the errors, > 0.
    """
    from scipy.optimize import least_squares

    largest = sizes.max()
    # Scaled, so that the first parameter is of the size of an error for any number of images.
    x = sizes / largest

    def residuals(p: FloatArray) -> FloatArray:
        return (p[0] * x ** -p[1] + p[2] - errors) / deviations

    def slopes(p: FloatArray) -> FloatArray:
        # Derivatives by hand: differences cost a call for each parameter, in hundreds of fits.
        power = x ** -p[1]
        columns = [power, -p[0] * power * np.log(x), np.ones_like(x)]
        return np.stack(columns, axis=1) / deviations[:, None]

    # Half of the error goes, half stays: a start within the bounds, as SciPy wants it.
    half = max(float(errors.min()) / 2, 1e-3)
    found = least_squares(
        residuals, (half, 0.5, half), slopes, bounds=([0, 0, 0], [np.inf, STEEPEST, 1])
    )
    scaled, b, c = map(float, found.x)
    # Back to images: (n / largest)^-b is n^-b times largest^b.
    return PowerLaw(a=scaled * float(largest) ** b, b=b, c=c)
