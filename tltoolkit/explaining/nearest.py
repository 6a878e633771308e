"""Rows on a common scale, and which of them are nearest to others: exact, by cosine."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tltoolkit.solving.scaling import CONSTANT, stripes

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
ASKED = 32  # queries at a time: their similarities to 100,000 rows take 13 MB


@dataclass(frozen=True, eq=False)
class Standard:
    """(x - mean) * factor, and of that the direction.

    Attributes:
        mean: (F,) of the rows that it was made of.
        factor: (F,) one over their standard deviation; 0 for a feature that never varied.
    """

    mean: Singles
    factor: Singles

    @classmethod
    def of(cls, rows: Singles) -> "Standard":
        """That of rows (N, F), one or more."""
        mean = sum(part.sum(0, dtype=np.float64) for part in stripes(rows)) / len(rows)
        squares = sum(np.square(part - mean).sum(0) for part in stripes(rows))
        std = np.sqrt(squares / len(rows))
        varies = std > CONSTANT * np.abs(mean) + np.finfo(np.float32).tiny
        factor = np.divide(1, std, out=np.zeros_like(std), where=varies)
        return cls(mean.astype(np.float32), factor.astype(np.float32))

    def __call__(self, rows: Singles) -> Singles:
        """(N, F) rows, standardised and of length 1; zeros stay zeros."""
        made = np.empty_like(rows)
        for part, out in zip(stripes(rows), stripes(made), strict=True):
            scaled = (part - self.mean) * self.factor
            lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
            np.divide(scaled, np.where(lengths > 0, lengths, 1), out=out)
        return made


def nearest(rows: Singles, queries: Singles, k: int) -> Iterator[tuple[Ints, Singles]]:
    """For each query the `k` nearest rows and their cosines, the nearest first; ties by number.

    Args:
        rows: (N, F) of length 1.
        queries: (Q, F) of length 1.
        k: 1..N.
    """
    for first in range(0, len(queries), ASKED):
        # Queries together, so that the rows, which are what takes the time, are read once.
        for similarity in queries[first : first + ASKED] @ rows.T:
            least = np.partition(similarity, -k)[-k]
            found = np.flatnonzero(similarity >= least)
            found = found[np.argsort(-similarity[found], kind="stable")[:k]]
            yield found, similarity[found]
