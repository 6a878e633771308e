"""Whether a stated 90 % is right 90 % of the time, and what it gains to answer only when sure."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import Checked, Number, Table, integer, number
from tltoolkit.evaluation.counts import ratio
from tltoolkit.evaluation.inputs import FloatArray, IntArray
from tltoolkit.evaluation.scores import counts_by_threshold

N_BINS = 15  # those of Guo et al., so that figures compare with published ones


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Confidence against the share that is right, in bins of equal width (Guo et al. 2017).

    Attributes:
        edges: (B + 1,) borders of the bins from 0 to 1; a value on a border belongs below it.
        count: (B,) values in each bin.
        confidence: (B,) their mean, NaN in an empty bin.
        accuracy: (B,) share of them that is right, NaN in an empty bin.
    """

    edges: FloatArray
    count: npt.NDArray[np.int64]
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: the mean gap, weighted by the bins' counts."""
        # An empty bin has a NaN, which a weight of 0 would not take out of the sum.
        gap = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float(ratio((gap * self.count).sum(), self.count.sum()))

    @property
    def mce(self) -> float:
        """Maximum calibration error, 0..1: the largest gap of a bin that is not empty."""
        gaps = np.abs(self.accuracy - self.confidence)[self.count > 0]
        return float(gaps.max()) if len(gaps) else float("nan")


def bin_numbers(confidence: FloatArray, n_bins: int) -> IntArray:
    """(N,) bin of each value in 0..1, the bins being (0, 1/B], (1/B, 2/B], ..."""
    edges = np.linspace(0, 1, n_bins + 1)
    # Inner borders alone: 1.0005, which the check of the inputs lets pass, is in the last bin.
    return np.searchsorted(edges[1:-1], confidence, side="left")


def reliability(
    confidence: FloatArray, right: npt.NDArray[np.bool_], n_bins: int = N_BINS
) -> Reliability:
    """Reliability of (N,) confidences and whether each came true."""
    integer("n_bins", n_bins, 1)
    numbers = bin_numbers(confidence, n_bins)
    count = np.bincount(numbers, minlength=n_bins)
    return Reliability(
        edges=np.linspace(0, 1, n_bins + 1),
        count=count,
        confidence=ratio(np.bincount(numbers, confidence, n_bins), count),
        accuracy=ratio(np.bincount(numbers, right, n_bins), count),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class CoverageCurve:
    """Accuracy among the rows that are answered, as the demanded confidence falls.

    Attributes:
        thresholds: (K,) falling distinct confidences.
        coverage: (K,) share of rows at least that sure, rising to 1.
        accuracy: (K,) share of those that are right.
    """

    thresholds: FloatArray
    coverage: FloatArray
    accuracy: FloatArray

    @property
    def area(self) -> float:
        """Accuracy averaged over all coverages, 0..1; 1 is best."""
        if not len(self.coverage):
            return float("nan")
        return float((np.diff(self.coverage, prepend=0.0) * self.accuracy).sum())

    def threshold_for(self, accuracy: float) -> "Abstention":
        """The lowest confidence from which the answered rows reach the wished accuracy.

        Raises:
            ValueError: if no confidence reaches it.
        """
        number("accuracy", accuracy, 0, 1)
        # Accuracy need not fall as coverage grows: any place may reach it.
        reached = np.flatnonzero(self.accuracy >= accuracy)
        if not len(self.accuracy):
            raise ValueError("no row is left to choose a confidence by")
        if not len(reached):
            best = self.accuracy.max()
            raise ValueError(f"no confidence gives accuracy {accuracy:g}; the best is {best:.4f}")
        # The last one answers most; that accuracy was lower in between does not matter.
        at = reached[-1]
        # Halfway to the next confidence, so that rounding cannot move a row across.
        last = at + 1 == len(self.thresholds)
        threshold = 0.0 if last else min(1.0, float(self.thresholds[at : at + 2].mean()))
        return Abstention(
            threshold=threshold,
            coverage=float(self.coverage[at]),
            accuracy=float(self.accuracy[at]),
        )


@dataclass(frozen=True, kw_only=True)
class Abstention(Checked):
    """Answer only from this confidence upwards.

    Attributes:
        threshold: lowest confidence that is answered, 0..1.
        coverage: share of the rows it was chosen on that is answered.
        accuracy: share of those answers that is right.
    """

    table: ClassVar[Table] = {"threshold": Number(0, 1)}
    threshold: float
    coverage: float
    accuracy: float

    def abstains(self, confidence: FloatArray) -> npt.NDArray[np.bool_]:
        """(N,) True where the confidence is too low to answer."""
        return np.asarray(confidence < self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Abstention":
        """The inverse of `to_dict`."""
        return cls(**values)


def coverage_curve(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> CoverageCurve:
    """Coverage curve of (N,) confidences and whether each answer was right."""
    thresholds, true, false = counts_by_threshold(right, confidence)
    answered = true + false
    return CoverageCurve(
        thresholds=thresholds, coverage=answered / len(right), accuracy=true / answered
    )
