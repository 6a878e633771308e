"""Figures that need the order of the scores: ROC-AUC, average precision and their curves.

Only the positives of a class set the steps of its curves, so one sort of its scores and a binary
search for each positive give the exact values, ties included.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tltoolkit.evaluation.counts import ratio
from tltoolkit.evaluation.inputs import FloatArray, IntArray, chunks

_BLOCK = 16  # columns copied together: a cache line of float32, read once instead of 16 times


def auc_and_ap(positive: FloatArray, everything: FloatArray) -> tuple[float, float]:
    """Exact ROC-AUC and average precision of one class.

    Args:
        positive: (P,) scores of the rows of the class.
        everything: (N,) scores of all rows, the positives among them.

    Returns:
        ROC-AUC (NaN without positives or without negatives) and average precision (NaN without
        positives), both 0..1.
    """
    n_positive, n = len(positive), len(everything)
    if n_positive == 0:
        return float("nan"), float("nan")
    positive = np.sort(positive)
    # Of scores below every positive only the number counts: of a good model's most need no sort.
    ordered = np.sort(everything[everything >= positive[0]])
    lowest = n - len(ordered)
    below = lowest + np.searchsorted(ordered, positive, side="left")
    up_to = lowest + np.searchsorted(ordered, positive, side="right")
    positives_below = np.searchsorted(positive, positive, side="left")
    positives_up_to = np.searchsorted(positive, positive, side="right")
    # Halves of tied pairs stay integers until the last division.
    negatives_twice = (below - positives_below) + (up_to - positives_up_to)
    auc = ratio(int(negatives_twice.sum()), 2 * n_positive * (n - n_positive))
    # At the threshold of each positive: the mean of these is the average precision.
    precision = (n_positive - positives_below) / (n - below)
    return float(auc), float(precision.mean())


def ranking_figures(labels: IntArray, prob: FloatArray) -> tuple[FloatArray, FloatArray]:
    """ROC-AUC and average precision of every class against the rest, each (C,).

    Args:
        labels: (N,) integers, or (N, C) zeros and ones.
        prob: (N, C) scores, float32 or float64.
    """
    n_classes = prob.shape[1]
    figures = np.full((2, n_classes), np.nan)
    rows_of = _positive_rows(labels, n_classes)

    def work(start: int) -> None:
        columns = prob[:, start : start + _BLOCK]
        block = np.empty(columns.shape[::-1], prob.dtype)
        for rows in chunks(*prob.shape):  # piece by piece: turned within the processor's cache
            block[:, rows] = columns[rows].T
        for c, column in enumerate(block, start):
            figures[:, c] = auc_and_ap(column[rows_of(c)], column)

    # Sorting releases the GIL.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, range(0, n_classes, _BLOCK)))
    return figures[0], figures[1]


def one_vs_one_auc(labels: IntArray, prob: FloatArray) -> float:
    """Mean ROC-AUC of all pairs of present classes (Hand and Till 2001); NaN below two."""
    present = np.unique(labels)
    rows = {c: np.flatnonzero(labels == c) for c in present}
    areas = [
        _area_against(prob[rows[a], a], prob[rows[b], a])
        for a in present
        for b in present
        # Both ways round: a's score tells them apart, and b's does.
        if a != b
    ]
    return float(np.mean(areas)) if areas else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class PrCurve:
    """Precision and recall of one class as the threshold rises.

    Attributes:
        thresholds: (K,) rising scores; a row is positive from its threshold upwards.
        precision: (K + 1,), the last is 1, where nothing is predicted.
        recall: (K + 1,), the last is 0. NaN where the class has no rows.
    """

    thresholds: FloatArray
    precision: FloatArray
    recall: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """False and true positive rate of one class as the threshold falls.

    Attributes:
        thresholds: (K + 1,) falling scores; the first is infinite: nothing is predicted.
        false_positive_rate: (K + 1,) rising from 0. NaN where every row is of the class.
        true_positive_rate: (K + 1,) rising from 0. NaN where the class has no rows.
    """

    thresholds: FloatArray
    false_positive_rate: FloatArray
    true_positive_rate: FloatArray


def counts_by_threshold(
    is_positive: npt.NDArray[np.bool_], score: FloatArray
) -> tuple[FloatArray, IntArray, IntArray]:
    """Falling distinct scores, and the true and false positives from each upwards."""
    if not len(score):
        return score, np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last_of_ties = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1)
    true_positives = np.cumsum(is_positive[order])[last_of_ties]
    return ordered[last_of_ties], true_positives, last_of_ties + 1 - true_positives


def pr_curve(is_positive: npt.NDArray[np.bool_], score: FloatArray) -> PrCurve:
    """Precision-recall curve of one class; (N,) truths and (N,) scores."""
    thresholds, true, false = counts_by_threshold(is_positive, score)
    # `true[-1:].sum()` is the number of positives, 0 also where there are no rows.
    return PrCurve(
        thresholds=thresholds[::-1],
        precision=np.append((true / (true + false))[::-1], 1.0),
        recall=ratio(np.append(true[::-1], 0), true[-1:].sum()),
    )


def roc_curve(is_positive: npt.NDArray[np.bool_], score: FloatArray) -> RocCurve:
    """ROC curve of one class; (N,) truths and (N,) scores."""
    thresholds, true, false = counts_by_threshold(is_positive, score)
    return RocCurve(
        thresholds=np.append(np.inf, thresholds),
        false_positive_rate=ratio(np.append(0, false), false[-1:].sum()),
        true_positive_rate=ratio(np.append(0, true), true[-1:].sum()),
    )


def _positive_rows(labels: IntArray, n_classes: int) -> Callable[[int], IntArray]:
    """A function c -> the rows of class c."""
    if labels.ndim == 2:
        return lambda c: np.flatnonzero(labels[:, c])
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(n_classes + 1))
    return lambda c: order[ends[c] : ends[c + 1]]


def _area_against(positive: FloatArray, negative: FloatArray) -> float:
    return auc_and_ap(positive, np.concatenate([positive, negative]))[0]
