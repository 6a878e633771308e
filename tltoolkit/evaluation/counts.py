"""Figures that need only counts: how often each class was right, predicted and present."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import fail, number
from tltoolkit.evaluation.inputs import FloatArray, IntArray, check_integer_labels, refuse_one_hot


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """numerator / denominator, NaN where the denominator is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    quotient = np.full(top.shape, np.nan)
    # Left out by `where`, zeros raise no warning, which a caller's filter may make an error.
    np.divide(top, bottom, out=quotient, where=bottom != 0)
    return quotient


def mean_of_defined(values: FloatArray, weights: npt.ArrayLike = 1.0) -> FloatArray:
    """Weighted mean over the last axis of the values that are not NaN; NaN if none is left."""
    weight = np.where(np.isnan(values), 0.0, weights)
    return ratio((np.nan_to_num(values) * weight).sum(axis=-1), weight.sum(axis=-1))


def mean(values: npt.ArrayLike) -> float:
    """The mean; NaN where there is nothing."""
    array = np.asarray(values)
    return float(array.mean()) if array.size else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Counts per class, (..., C), and every figure that follows from them.

    The leading axes are free: one test set has none, a bootstrap has one row per draw.
    A figure whose denominator is 0 is NaN and stays out of the averages.

    Attributes:
        true_positives: rows of the class that were predicted as it.
        predicted: rows predicted as the class.
        support: rows of the class.
        rows: number of rows N.
    """

    true_positives: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64]
    rows: int

    @cached_property
    def precision(self) -> FloatArray:
        """Of the rows predicted as the class, the share that is right, 0..1."""
        return ratio(self.true_positives, self.predicted)

    @cached_property
    def recall(self) -> FloatArray:
        """Of the rows of the class, the share that was found, 0..1 (sensitivity)."""
        return ratio(self.true_positives, self.support)

    @cached_property
    def specificity(self) -> FloatArray:
        """Of the rows of other classes, the share not predicted as the class, 0..1."""
        others = self.rows - self.support
        return ratio(others - (self.predicted - self.true_positives), others)

    def fbeta(self, beta: float = 1.0) -> FloatArray:
        """F-beta, 0..1: recall counts `beta` times as much as precision."""
        number("beta", beta, 0)
        # From counts: an undefined precision would make a NaN of what is 0 where nothing was found.
        weighted = beta**2 * self.support + self.predicted
        return ratio((1 + beta**2) * self.true_positives, weighted)

    @cached_property
    def f1(self) -> FloatArray:
        """Harmonic mean of precision and recall, 0..1."""
        return self.fbeta(1.0)

    @cached_property
    def total(self) -> "Counts":
        """All classes pooled into one, (..., 1): its figures are the micro averages."""
        n_classes = self.support.shape[-1]
        return Counts(
            true_positives=self.true_positives.sum(axis=-1, keepdims=True),
            predicted=self.predicted.sum(axis=-1, keepdims=True),
            support=self.support.sum(axis=-1, keepdims=True),
            rows=self.rows * n_classes,
        )

    @property
    def accuracy(self) -> FloatArray:
        """Share of right predictions, 0..1, where every row has one label."""
        return ratio(self.true_positives.sum(axis=-1), self.rows)

    @property
    def balanced_accuracy(self) -> FloatArray:
        """Mean recall of the classes present, where every row has one label."""
        return mean_of_defined(self.recall)

    @property
    def precision_macro(self) -> FloatArray:
        """Mean precision of the classes that have one."""
        return mean_of_defined(self.precision)

    @property
    def recall_macro(self) -> FloatArray:
        """Mean recall of the classes that have one."""
        return mean_of_defined(self.recall)

    @property
    def f1_macro(self) -> FloatArray:
        """Mean F1 of the classes that have one."""
        return mean_of_defined(self.f1)

    @property
    def f1_micro(self) -> FloatArray:
        """F1 of all decisions pooled."""
        return self.total.f1[..., 0]

    @property
    def f1_weighted(self) -> FloatArray:
        """Mean F1 of the classes that have one, weighted by support."""
        return mean_of_defined(self.f1, self.support)

    @property
    def mcc(self) -> FloatArray:
        """Matthews correlation (Gorodkin 2004), -1..1, where every row has one label."""
        # As floats: the product of the spreads grows like n^4, beyond int64 from 55,000 rows.
        right, n = self.true_positives.sum(axis=-1).astype(float), float(self.rows)
        chance = (self.support * self.predicted.astype(float)).sum(axis=-1)
        spread_true = n**2 - (self.support.astype(float) ** 2).sum(axis=-1)
        spread_predicted = n**2 - (self.predicted.astype(float) ** 2).sum(axis=-1)
        return ratio(right * n - chance, np.sqrt(spread_true * spread_predicted))

    @property
    def kappa(self) -> FloatArray:
        """Cohen's kappa (1960), at most 1, where every row has one label."""
        by_chance = (self.support * self.predicted.astype(float)).sum(axis=-1)
        chance = ratio(by_chance, self.rows**2)
        return ratio(self.accuracy - chance, 1 - chance)


def confusion_matrix(y_true: IntArray, y_pred: IntArray, n_classes: int) -> npt.NDArray[np.int64]:
    """(C, C) counts; rows are true classes, columns predicted ones."""
    cells = y_true * n_classes + y_pred
    counts = np.bincount(cells, minlength=n_classes**2)
    # bincount gives the platform's integers, which need not have 64 bits.
    return counts.reshape(n_classes, n_classes).astype(np.int64, copy=False)


def counts_of_confusion(confusion: npt.NDArray[np.int64]) -> Counts:
    """Counts per class of a (C, C) confusion matrix."""
    return Counts(
        true_positives=confusion.diagonal(),
        predicted=confusion.sum(axis=0),
        support=confusion.sum(axis=1),
        rows=int(confusion.sum()),
    )


def counts_of_indicators(y_true: IntArray, y_pred: IntArray) -> Counts:
    """Counts per class of (N, C) zeros and ones."""
    return Counts(
        true_positives=np.count_nonzero((y_true > 0) & (y_pred > 0), axis=0),
        predicted=np.count_nonzero(y_pred, axis=0),
        support=np.count_nonzero(y_true, axis=0),
        rows=len(y_true),
    )


def label_report(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, n_classes: int) -> Counts:
    """Every figure that labels alone give: (N,) true and (N,) predicted integers 0..C-1."""
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if len(true) == 0 or true.shape != predicted.shape:
        raise fail("y_pred", f"as long as `y_true`, {true.shape}, and not empty", predicted.shape)
    true = check_integer_labels(true, n_classes)
    predicted = check_integer_labels(predicted, n_classes)
    return counts_of_confusion(confusion_matrix(true, predicted, n_classes))


def class_metrics(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    threshold: float = 0.5,
    *,
    multi_label: bool | None = None,
) -> Counts:
    """Exact precision, recall and F1 per class, for the end of an epoch.

    Args:
        y_true: (N,) integers, or (N, C) zeros and ones for multi-label.
        y_score: (N, C) scores, the highest wins; for two classes also (N,) or (N, 1), the score
            of class 1; for multi-label every score is compared with `threshold`.
        threshold: score from which a two-class or multi-label prediction is positive; 0 for
            logits.
        multi_label: None decides by the shape of `y_true`.

    Raises:
        ValueError: for lengths that differ, labels out of range and one-hot labels.
    """
    true, score = np.asarray(y_true), np.asarray(y_score)
    if len(true) == 0 or len(true) != len(score):
        raise fail("y_score", f"as long as `y_true`, {true.shape}, and not empty", score.shape)
    if multi_label or (multi_label is None and true.ndim == 2 and true.shape[1] > 1):
        if true.shape != score.shape:
            raise fail("y_score", f"of the shape of `y_true`, {true.shape}", score.shape)
        if multi_label is None:
            refuse_one_hot(true, score.sum(axis=1))
        return counts_of_indicators(true, score >= threshold)
    if score.ndim == 1 or score.shape[1] == 1:
        return label_report(_flat(true), (score.reshape(-1) >= threshold).astype(int), 2)
    return label_report(_flat(true), score.argmax(axis=1), score.shape[1])


def _flat(labels: IntArray) -> IntArray:
    """(N, 1) labels, as Keras hands them out, as (N,)."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
