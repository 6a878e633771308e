"""Ridge regression with a free intercept: from sums that add up, or from products of the rows.

The sums (F x F) stream: their size does not depend on the rows. The products (N x N) are cheaper
for fewer rows than features, and give what each row would get without its fold at no further
solution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from tltoolkit.solving.scaling import Floats

Ints = npt.NDArray[np.intp]
STRIPE = 256  # rows gone through at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class Sums:
    """What ridge needs to know of weighted rows; the sums of two parts add up to the whole.

    Attributes:
        weight: Sum of the weights.
        x: (F,) sum of the features.
        y: (C,) sum of the targets.
        xx: (F, F) sum of their products.
        xy: (F, C).
    """

    weight: float
    x: Floats
    y: Floats
    xx: Floats
    xy: Floats

    @classmethod
    def of(
        cls, rows: npt.NDArray[np.floating], targets: Floats, weights: Floats | None = None
    ) -> "Sums":
        """The sums of rows (N, F) with targets (N, C) and weights (N,)."""
        given = np.ones(len(rows)) if weights is None else weights
        heavy = rows * given[:, None]
        return cls(
            weight=float(given.sum()),
            x=np.asarray(heavy.sum(0), np.float64),
            y=given @ targets,
            xx=np.asarray(heavy.T @ rows, np.float64),
            xy=np.asarray(heavy.T @ targets, np.float64),
        )

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.weight + other.weight,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
        )

    def solve(self, ridge: float) -> tuple[Floats, Floats]:
        """Kernel (F, C) and bias (C,) of least weighted squares + `ridge` * sum of kernel^2."""
        scatter = self.xx - np.outer(self.x, self.x / self.weight)
        scatter[np.diag_indices(len(scatter))] += ridge
        cross = self.xy - np.outer(self.x, self.y / self.weight)
        # By Cholesky: half the work, and an error where the ridge is too small to help.
        kernel = linalg.solve(scatter, cross, assume_a="pos")
        return kernel, (self.y - self.x @ kernel) / self.weight


def inverse(gram: Floats, slack: Floats | float) -> Floats:
    """Upper left (N, N) of the inverse of [[gram + diag(slack), 1], [1', 0]].

    With its product with the targets, `dual`, the fit is `targets - slack * dual`.

    Args:
        gram: (N, N) products of the rows.
        slack: The ridge divided by the weight of each row, > 0.
    """
    work = np.array(gram, np.float64)
    work[np.diag_indices(len(work))] += slack
    potrf, potri = linalg.get_lapack_funcs(("potrf", "potri"), (work,))
    factor, failed = potrf(work, lower=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError("products of rows plus the ridge are not positive definite")
    found, _ = potri(factor, lower=1, overwrite_c=1)
    # LAPACK fills one triangle alone.
    _mirror(found)
    sums = found.sum(1)
    whole = sums.sum()
    # In place and in stripes: a matrix of its own costs more time than the subtraction.
    for i in range(0, len(found), STRIPE):
        found[i : i + STRIPE] -= np.outer(sums[i : i + STRIPE] / whole, sums)
    return np.asarray(found)


def left_out(
    inv: Floats, slack: Floats | float, targets: Floats, fold: Ints
) -> Iterator[tuple[Ints, Ints, Floats, Floats]]:
    """For each fold its rows, the others, and the fits of both by ridge without the fold.

    Without rows S: e = inv[S, S]^-1 dual[S] is what is missed on S, and the dual weights of the
    others are dual[T] - inv[T, S] e (block inversion; exact).

    Args:
        inv: Of `inverse`.
        slack: As there.
        targets: (N, C).
        fold: (N,) number of the fold; negative for rows that are never held out.
    """
    dual = inv @ targets
    slack = np.broadcast_to(slack, len(targets))[:, None]
    for number in range(int(fold.max(initial=-1)) + 1):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(held) or not len(rest):
            continue
        missed = linalg.solve(inv[np.ix_(held, held)], dual[held], assume_a="pos")
        fit = targets[rest] - slack[rest] * (dual[rest] - inv[np.ix_(rest, held)] @ missed)
        yield held, rest, targets[held] - missed, fit


def _mirror(lower: Floats) -> None:
    """Fill the upper triangle from the lower one, in place."""
    for i in range(0, len(lower), STRIPE):
        j = min(i + STRIPE, len(lower))
        square = lower[i:j, i:j]
        square[:] = np.tril(square) + np.tril(square, -1).T
        lower[i:j, j:] = lower[j:, i:j].T
