"""Which rows an epoch shows, so that rare classes are seen more often."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.labels import as_labels, check_counts, class_counts
from tltoolkit.imbalance.synthetic import selected_rows
from tltoolkit.imbalance.terms import EPOCH_ROWS, SAMPLINGS

Rows = npt.NDArray[np.int64]


def epoch_rows(
    labels: npt.ArrayLike,
    sampling: Any,
    *,
    epoch: int = 0,
    epochs: int = 1,
    seed: int = 0,
    multi_label: bool = False,
) -> Rows:
    """The rows of one epoch, in random order; the same number in every epoch.

    They depend on the arguments alone. Each class gets its number of rows exactly, and shows each
    of its own equally often but for one; the epochs take turns among them, so that undersampling
    sees all of the largest class in time. A soft row has the rates of its classes by their shares,
    a multi-label row that of its rarest class (Gupta et al. 2019, "LVIS"), and one without labels
    that of the most frequent class; it comes so many times, rounded down or up at random.

    Args:
        labels: In any form, see `tltoolkit.imbalance`.
        sampling: `"oversample"` (each class as often as the largest), `"undersample"` (as the
            smallest), `"balanced"` (N rows, the same number of each class), `"sqrt"` (N rows,
            classes by the root of their size), `"progressive"` (from the data's own shares to
            balanced over the epochs; Kang et al. 2020, "Decoupling Representation and
            Classifier"), or an imbalanced-learn sampler that selects rows by their labels.
        epoch: Number of the epoch, >= 0.
        epochs: How many there are, for `"progressive"`; more stay balanced.
        seed: >= 0.
        multi_label: Whether a row may have several labels.

    Returns:
        (M,) int64 indices in 0..N-1.

    Raises:
        ValueError: A class without rows, a single class, or a sampler that returns other rows
            than there are.
    """
    _checks.arguments(EPOCH_ROWS, locals())
    values = as_labels(labels, multi_label)
    if not isinstance(sampling, str):
        return selected_rows(sampling, values, seed, epoch)
    progress = min(1.0, epoch / (epochs - 1)) if epochs > 1 else 1.0
    counts = check_counts(class_counts(values, multi_label=multi_label))
    rates = class_rates(counts, sampling, progress)
    # Rows of several classes have no quota of their own: only an expected rate.
    if values.ndim == 2:
        return _by_rate(_row_rates(values, rates, sampling, multi_label), seed, epoch)
    # Exact numbers and not draws, whose counts would vary from epoch to epoch.
    quotas = _whole(rates * counts)
    # Once every row of every class was shown, the rows are shuffled anew.
    turns = 1 if sampling == "progressive" else math.ceil((counts / np.maximum(quotas, 1)).max())
    # By turns of epochs: they share one shuffle and take what follows in it.
    rng = np.random.default_rng((seed, epoch // turns))
    rows = _by_quota(values, counts.astype(np.int64), quotas, rng, epoch % turns)
    # Another stream than that of the rows, which several epochs have in common.
    return np.random.default_rng((seed, epoch, 1)).permutation(rows)


def class_rates(counts: npt.ArrayLike, sampling: str, progress: float = 1.0) -> Any:
    """How often a row of each class comes in an epoch, on average: (C,).

    Args:
        counts: Rows of each class, (C,), each above 0.
        sampling: A name, see `epoch_rows`.
        progress: For `"progressive"`: 0 is the first epoch, 1 the last one.
    """
    _checks.one_of("sampling", sampling, SAMPLINGS)
    n = check_counts(counts)
    if sampling == "oversample":
        return n.max() / n
    if sampling == "undersample":
        return n.min() / n
    if sampling == "sqrt":
        return n.sum() / np.sqrt(n).sum() / np.sqrt(n)
    if sampling == "balanced":
        return n.mean() / n
    return 1 - progress + progress * n.mean() / n


def _row_rates(
    values: npt.NDArray[np.float64], rates: Any, sampling: str, multi_label: bool
) -> npt.NDArray[np.float64]:
    if not multi_label:
        return np.asarray(values @ rates)
    found = np.where(values > 0, rates, 0).max(1)
    # The lowest rate is that of the most frequent class.
    found[found == 0] = rates.min()
    # The others promise N rows, for which the rates are scaled.
    if sampling in ("oversample", "undersample"):
        return np.asarray(found)
    return np.asarray(found * len(found) / found.sum())


def _whole(expected: npt.NDArray[np.float64]) -> Rows:
    """Whole numbers near `expected`, with its sum, by largest remainders."""
    # A whole number that rounding left a little short stays whole.
    quotas = np.floor(expected + 1e-9).astype(np.int64)
    short = round(expected.sum()) - int(quotas.sum())
    # Stable, so that equal remainders go to the first class on every machine.
    quotas[np.argsort(quotas - expected, kind="stable")[:short]] += 1
    return quotas


def _by_quota(labels: Rows, counts: Rows, quotas: Rows, rng: Any, turn: int) -> Rows:
    """`quotas` rows of each class, the ones that follow those of the turn before."""
    shuffled = rng.permutation(len(labels))
    # NumPy sorts 16-bit integers by radix, many times as fast as others.
    small = labels.astype(np.uint16) if len(counts) <= 2**16 else labels
    by_class = shuffled[np.argsort(small[shuffled], kind="stable")]
    starts, ends = np.cumsum(counts) - counts, np.cumsum(quotas)
    of_class = np.repeat(np.arange(len(counts)), quotas)
    # How far into its class each row lies; a class that is used up begins again (`%` below).
    place = np.arange(ends[-1]) + (turn * quotas - ends + quotas)[of_class]
    return np.asarray(by_class[starts[of_class] + place % counts[of_class]])


def _by_rate(rates: npt.NDArray[np.float64], seed: int, epoch: int) -> Rows:
    """Each row its rate's number of times, rounded down or up at random."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(rates))
    total = round(rates.sum())
    edges = np.cumsum(rates[order]) * (total / rates.sum())
    edges[-1] = total  # not a rounding error less
    # One random shift for all (systematic sampling): each row gets its rate up to one.
    times = np.diff(np.floor(edges + rng.random()), prepend=0).astype(np.int64)
    return rng.permutation(np.repeat(order, times))
