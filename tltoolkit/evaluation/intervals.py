"""How sure a figure is: percentile bootstrap over the rows of the test set (Efron 1979).

Figures that need only labels are drawn through the confusion matrix: resampling N rows gives
its cells a multinomial distribution, so there is no need to touch the rows.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import Integer, Number, OneOf, Table
from tltoolkit.evaluation.calibration import N_BINS, bin_numbers
from tltoolkit.evaluation.counts import Counts, mean_of_defined, ratio
from tltoolkit.evaluation.figures import ONE_LABEL_ONLY, Figures
from tltoolkit.evaluation.inputs import FloatArray, IntArray, chunks

# They follow from labels alone: drawn by cells of the confusion matrix, whatever N is.
COUNT_FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "precision_macro",
    "recall_macro",
    "mcc",
    "kappa",
)
# Means over the rows: one product with the weights of all draws.
ROW_FIGURES = ("accuracy", "top_5_accuracy", "log_loss", "brier")
# They need the order of the rows in every draw: by far the slowest.
RANKING_FIGURES = ("roc_auc_macro", "average_precision_macro")
# Sums by bin, and the bin of a row is the same in every draw.
CALIBRATION_FIGURES = ("ece", "mce")
FIGURES = tuple(dict.fromkeys(COUNT_FIGURES + ROW_FIGURES + RANKING_FIGURES + CALIBRATION_FIGURES))
DRAWN: Table = {"level": Number(above=0, below=1), "draws": Integer(1), "seed": Integer(0)}
INTERVAL: Table = {"name": OneOf(*FIGURES), **DRAWN}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bootstrap:
    """The scalars of a report on `draws` test sets drawn from its rows with replacement.

    Equal seeds give equal draws of rows, so that two reports of the same rows stay paired in all
    but the figures of COUNT_FIGURES.
    """

    report: Figures
    draws: int = 1000
    seed: int = 0

    def values(self, name: str) -> FloatArray:
        """(draws,) values of a scalar; NaN in the draws that leave it undefined."""
        if not len(self.report.labels):
            return np.full(self.draws, np.nan)
        if self.report.multi_label and name in ONE_LABEL_ONLY:
            return np.full(self.draws, np.nan)
        # There accuracy is of whole rows, of which counts per class know nothing.
        exact_match = self.report.multi_label and name == "accuracy"
        if name in COUNT_FIGURES and not exact_match:
            return np.asarray(getattr(self._counts, name))
        if name in ROW_FIGURES:
            return np.asarray(self._row_means[ROW_FIGURES.index(name)])
        if name in RANKING_FIGURES:
            return np.asarray(self._ranking[RANKING_FIGURES.index(name)])
        return np.asarray(self._calibration[CALIBRATION_FIGURES.index(name)])

    def interval(self, name: str, level: float) -> tuple[float, float]:
        """The middle `level` of the values; (NaN, NaN) where the figure is undefined."""
        values = self.values(name)
        values = values[~np.isnan(values)]
        if not len(values):
            return float("nan"), float("nan")
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def _weights(self) -> Iterator[npt.NDArray[np.uint8]]:
        # Drawn anew by each kind: kept, 1,000 draws of a million rows would fill 1 GB.
        return row_weights(len(self.report.labels), self.draws, self.seed)

    @cached_property
    def _counts(self) -> Counts:
        report, n = self.report, len(self.report.labels)
        if not report.multi_label:
            predicted = [report.rows.predicted]
            return draw_counts(report.labels, predicted, len(report.class_names), self)[0]
        given, truth = report.rows.predicted > 0, report.labels > 0
        # As float32, which BLAS multiplies; sums are exact up to 16 million rows.
        columns = np.concatenate([given & truth, given, truth], axis=1).astype(np.float32)
        sums = np.concatenate([w.T.astype(np.float32) @ columns for w in self._weights()])
        parts = np.split(sums.astype(np.int64), 3, axis=1)
        return join_counts([np.stack(parts)], n)

    @cached_property
    def _row_means(self) -> FloatArray:
        columns = np.stack([row_values(self.report, name) for name in ROW_FIGURES])
        sums = [columns @ w.astype(float) for w in self._weights()]
        means: FloatArray = np.concatenate(sums, axis=1) / columns.shape[1]
        return means

    @cached_property
    def _ranking(self) -> FloatArray:
        report, n_classes = self.report, len(self.report.class_names)
        classes = [
            _RankedClass.of(report.is_class(c), report.probabilities[:, c])
            for c in range(n_classes)
        ]
        parts = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for w in self._weights():
                figures = pool.map(_RankedClass.figures, classes, repeat(w))
                parts.append(mean_of_defined(np.stack(list(figures), axis=-1)))
        return np.concatenate(parts, axis=1)

    @cached_property
    def _calibration(self) -> FloatArray:
        columns = _calibration_columns(self.report)
        sums = np.concatenate([columns @ w.astype(float) for w in self._weights()], axis=1)
        gaps, counts = np.abs(sums[:N_BINS]), sums[N_BINS:]
        # Every draw has rows, so that no column is all NaN.
        largest = np.nanmax(ratio(gaps, counts), axis=0)
        return np.stack([gaps.sum(axis=0) / counts.sum(axis=0), largest])


def row_values(report: Figures, name: str) -> FloatArray:
    """(N,) values whose mean is one of ROW_FIGURES; NaN where that is undefined."""
    if name == "top_5_accuracy":
        return report.in_top_5
    column = {"accuracy": "right", "log_loss": "loss", "brier": "brier"}[name]
    return np.asarray(getattr(report.rows, column), float)


def row_weights(n: int, draws: int, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    """How often each of `n` rows falls into each draw, as (n, some draws) blocks.

    A row is drawn about once; 255 times, the limit of the type, will not be seen.
    """
    rng = np.random.default_rng(seed)
    for block in chunks(draws, n):
        size = block.stop - block.start
        picked = rng.integers(0, n, (size, n), dtype=np.int32)
        yield np.stack([np.bincount(p, minlength=n).astype(np.uint8) for p in picked], axis=1)


def draw_counts(
    labels: IntArray, predictions: Sequence[IntArray], n_classes: int, plan: Bootstrap
) -> list[Counts]:
    """Counts per class, (draws, C), of each of several predictions for the same drawn rows."""
    keys, sizes = joint_cells([labels, *predictions], n_classes)
    rng = np.random.default_rng(plan.seed)
    parts = []
    for block in chunks(plan.draws, len(sizes)):
        drawn = rng.multinomial(len(labels), sizes / len(labels), block.stop - block.start)
        parts.append([group_sums(drawn, keys[0], key, n_classes) for key in keys[1:]])
    return [join_counts([part[i] for part in parts], len(labels)) for i in range(len(predictions))]


def joint_cells(columns: Sequence[IntArray], n_classes: int) -> tuple[list[IntArray], IntArray]:
    """The combinations of labels that occur, column by column, and how often each does."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        codes = codes * n_classes + column
    cells, sizes = np.unique(codes, return_counts=True)
    keys = [cells // n_classes ** (len(columns) - 1 - i) % n_classes for i in range(len(columns))]
    return keys, sizes


def group_sums(weights: IntArray, truth: IntArray, given: IntArray, n_classes: int) -> IntArray:
    """(3, draws, C): hits, predicted and support from (draws, K) weights of K label cells."""
    hit = truth == given
    return np.stack(
        [
            _sum_by(weights[:, hit], truth[hit], n_classes),
            _sum_by(weights, given, n_classes),
            _sum_by(weights, truth, n_classes),
        ]
    )


def join_counts(parts: Sequence[IntArray], rows: int) -> Counts:
    """Counts of (3, draws, C) parts."""
    hits, predicted, support = np.concatenate(parts, axis=1)
    return Counts(true_positives=hits, predicted=predicted, support=support, rows=rows)


def _sum_by(weights: IntArray, key: IntArray, n_classes: int) -> IntArray:
    sums = np.zeros((len(weights), n_classes), np.int64)
    if len(key):
        order = np.argsort(key, kind="stable")
        present, starts = np.unique(key[order], return_index=True)
        # Over sorted cells, since bincount takes the weights of one draw at a time.
        sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _calibration_columns(report: Figures) -> FloatArray:
    """(2 * bins, N): what each row adds to the gap and to the count of each bin."""
    n = len(report.labels)
    if report.multi_label:
        stated, came_true = report.probabilities, report.labels
    else:
        stated, came_true = report.rows.confidence[:, None], report.rows.right[:, None]
    row = np.repeat(np.arange(n), stated.shape[1])
    cell = bin_numbers(stated.ravel(), N_BINS) * n + row
    gap = (came_true - stated.astype(float)).ravel()
    size = N_BINS * n
    both = [np.bincount(cell, gap, size), np.bincount(cell, minlength=size)]
    return np.concatenate(both).reshape(2 * N_BINS, n)


@dataclass(frozen=True, kw_only=True, eq=False)
class _RankedClass:
    """The rows of a test set in falling order of one class' scores, ties grouped.

    Only groups with a positive row matter: they alone are steps of the curves.
    """

    order: IntArray  # (N,) rows, falling scores
    positives: IntArray  # (P,) positive rows, falling scores
    start: IntArray  # (G,) places in `order` where a group begins ...
    end: IntArray  # ... and ends, exclusive
    last: IntArray  # (G,) place in `positives` of the last one of a group

    @classmethod
    def of(cls, is_positive: npt.NDArray[np.bool_], score: FloatArray) -> "_RankedClass":
        order = np.argsort(-score, kind="stable").astype(np.int32)
        positives = order[is_positive[order]]
        # Negated, as `searchsorted` wants rising values.
        falling, of_positives = -score[order], -score[positives]
        last = np.flatnonzero(np.diff(of_positives, append=np.inf) != 0)
        return cls(
            order=order,
            positives=positives,
            start=np.searchsorted(falling, of_positives[last], side="left"),
            end=np.searchsorted(falling, of_positives[last], side="right"),
            last=last,
        )

    def figures(self, weights: npt.NDArray[np.uint8]) -> FloatArray:
        """(2, draws) ROC-AUC and average precision under (N, draws) row weights."""
        draws = weights.shape[1]
        if not len(self.positives):
            return np.full((2, draws), np.nan)
        # One place more: nothing lies above the first row.
        above = np.zeros((len(self.order) + 1, draws), np.int32)
        np.cumsum(weights[self.order], axis=0, dtype=np.int32, out=above[1:])
        hits = np.cumsum(weights[self.positives], axis=0, dtype=np.int32)[self.last]
        new = np.diff(hits, axis=0, prepend=np.zeros((1, draws), np.int32))
        n_positive, n = hits[-1].astype(float), above[-1].astype(float)
        negative = n - n_positive
        false = above[self.end] - hits
        false_before = above[self.start] - (hits - new)
        beaten = negative - (false + false_before) / 2
        auc = ratio((new * beaten).sum(axis=0), n_positive * negative)
        precision = np.nan_to_num(ratio(hits, above[self.end]))
        return np.stack([auc, ratio((new * precision).sum(axis=0), n_positive)])
