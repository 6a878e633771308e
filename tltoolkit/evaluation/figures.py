"""Every number of a report, computed when first asked for and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import integer, one_of
from tltoolkit.evaluation import scores
from tltoolkit.evaluation.counts import (
    Counts,
    confusion_matrix,
    counts_of_confusion,
    counts_of_indicators,
    mean,
    mean_of_defined,
    ratio,
)
from tltoolkit.evaluation.inputs import FloatArray, IntArray
from tltoolkit.evaluation.rows import (
    Rows,
    given_labels,
    multi_label_rows,
    ranks_of_truth,
    single_label_rows,
)

# The figures of a class, in the order in which a reader meets them.
AVERAGED = ("precision", "recall", "specificity", "f1", "average_precision", "roc_auc")
ONE_LABEL_ONLY = ("balanced_accuracy", "mcc", "kappa")  # no counterpart for multi-label


# No equality: arrays have no single truth. No repr: it would print them all.
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Figures:
    """Labels and probabilities of N rows and C classes, and their figures.

    A figure that is undefined is NaN, stays out of the averages, and has its reason in
    `Report.undefined`. The arrays must have passed `check_predictions`.

    Attributes:
        labels: (N,) integers, or (N, C) zeros and ones for multi-label.
        probabilities: (N, C) in 0..1.
        class_names: C names.
        multi_label: whether a row may have several labels.
        decided: labels given by a rule other than the highest probability (0.5 and more for
            multi-label), in the shape of `labels`.
    """

    labels: IntArray
    probabilities: FloatArray
    class_names: tuple[str, ...]
    multi_label: bool = False
    decided: IntArray | None = None

    @cached_property
    def rows(self) -> Rows:
        """Label given, confidence and loss of each row."""
        make = multi_label_rows if self.multi_label else single_label_rows
        given = self.decided
        if given is None:
            given = given_labels(self.probabilities, self.multi_label)
        return make(self.labels, self.probabilities, given)

    @cached_property
    def counts(self) -> Counts:
        """Counts per class, from which precision, recall and F1 follow."""
        if self.multi_label:
            return counts_of_indicators(self.labels, self.rows.predicted)
        # Both are asked for in every report: the pass over the rows is made once.
        return counts_of_confusion(self.confusion)

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """(C, C) counts, rows are true classes; (C, 2, 2) for multi-label: [[tn, fp], [fn, tp]]."""
        if not self.multi_label:
            return confusion_matrix(self.labels, self.rows.predicted, len(self.class_names))
        c = self.counts
        fp, fn = c.predicted - c.true_positives, c.support - c.true_positives
        tn = c.rows - fp - c.support
        return np.stack([tn, fp, fn, c.true_positives], axis=1).reshape(-1, 2, 2)

    @property
    def normalized_confusion(self) -> FloatArray:
        """The confusion matrix as shares of each true class; NaN for classes without rows."""
        return ratio(self.confusion, self.confusion.sum(axis=-1, keepdims=True))

    @property
    def accuracy(self) -> float:
        """Share of rows whose label (for multi-label: whose every label) is right, 0..1."""
        return mean(self.rows.right)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes present, 0..1; NaN for multi-label."""
        return self._one_label(lambda: self.counts.balanced_accuracy)

    @property
    def mcc(self) -> float:
        """Matthews correlation, -1..1; NaN for multi-label."""
        return self._one_label(lambda: self.counts.mcc)

    @property
    def kappa(self) -> float:
        """Cohen's kappa, at most 1; NaN for multi-label."""
        return self._one_label(lambda: self.counts.kappa)

    @property
    def log_loss(self) -> float:
        """Mean cross-entropy in nats, 0 is best; for multi-label also the mean over classes."""
        return mean(self.rows.loss)

    @property
    def brier(self) -> float:
        """Mean squared error, as scikit-learn scales it; for multi-label the mean over classes."""
        return mean(self.rows.brier)

    @property
    def precision(self) -> FloatArray:
        """(C,) share of the predictions of a class that are right."""
        return self.counts.precision

    @property
    def recall(self) -> FloatArray:
        """(C,) share of a class' rows that were found."""
        return self.counts.recall

    @property
    def specificity(self) -> FloatArray:
        """(C,) share of the other classes' rows not predicted as the class."""
        return self.counts.specificity

    @property
    def f1(self) -> FloatArray:
        """(C,) harmonic mean of precision and recall."""
        return self.counts.f1

    def fbeta(self, beta: float) -> FloatArray:
        """(C,) F-beta; above 1 `beta` favours recall, below 1 precision."""
        return self.counts.fbeta(beta)

    @property
    def support(self) -> npt.NDArray[np.int64]:
        """(C,) rows of each class."""
        return self.counts.support

    @property
    def average_precision(self) -> FloatArray:
        """(C,) average precision against the rest, as scikit-learn defines it."""
        return self._ranking[1]

    @property
    def roc_auc(self) -> FloatArray:
        """(C,) area under the ROC curve against the rest."""
        return self._ranking[0]

    @cached_property
    def roc_auc_ovo(self) -> float:
        """ROC-AUC of every pair of classes, averaged (Hand and Till 2001); NaN for multi-label."""
        return self._one_label(lambda: scores.one_vs_one_auc(self.labels, self.probabilities))

    def average(self, figure: str, how: str, *, present: bool = False) -> float:
        """A per-class figure averaged "macro", "weighted" (by support) or "micro" (pooled).

        A class without rows that was predicted all the same has a precision and an F1 of 0, as
        in scikit-learn. With `present` it stays out of all averages but the pooled ones, as it
        does in `callbacks.ValidationMetrics` and in `val_f1_macro` of a run: an epoch is no
        worse for a class of which nothing can be right.
        """
        one_of("figure", figure, AVERAGED)
        one_of("how", how, ("macro", "weighted", "micro"))
        if how == "micro":
            return self._micro(figure)
        weights = self.support if how == "weighted" else 1.0
        values = self.of_present(figure) if present else getattr(self, figure)
        return float(mean_of_defined(values, weights))

    def of_present(self, figure: str) -> FloatArray:
        """(C,) a per-class figure, NaN for each class without rows."""
        return np.where(self.support > 0, getattr(self, figure), np.nan)

    @property
    def precision_macro(self) -> float:
        """Mean precision of the classes that have one."""
        return float(self.counts.precision_macro)

    @property
    def recall_macro(self) -> float:
        """Mean recall of the classes that have one."""
        return float(self.counts.recall_macro)

    @property
    def f1_macro(self) -> float:
        """Mean F1 of the classes that have one."""
        return float(self.counts.f1_macro)

    @property
    def f1_micro(self) -> float:
        """F1 of all decisions pooled; with one label per row that is the accuracy."""
        return float(self.counts.f1_micro)

    @property
    def f1_weighted(self) -> float:
        """Mean F1 weighted by support."""
        return float(self.counts.f1_weighted)

    @property
    def average_precision_macro(self) -> float:
        """Mean average precision of the classes that have one."""
        return self.average("average_precision", "macro")

    @property
    def roc_auc_macro(self) -> float:
        """Mean ROC-AUC of the classes that have one."""
        return self.average("roc_auc", "macro")

    def top_k_accuracy(self, k: int = 5) -> float:
        """Share of rows whose true class is among the `k` most probable; NaN for multi-label."""
        integer("k", k, 1, len(self.class_names))
        return self._one_label(lambda: mean(self._ranks < k))

    @property
    def top_5_accuracy(self) -> float:
        """Share of rows whose true class is among the 5 most probable; NaN up to 5 classes."""
        return mean(self.in_top_5)

    @cached_property
    def in_top_5(self) -> FloatArray:
        """(N,) 1.0 where the true class is among the 5 most probable; NaN up to 5 classes."""
        if self.multi_label or len(self.class_names) <= 5:
            # Its mean, and that of each bootstrap draw, is then NaN without a case of its own.
            return np.full(len(self.labels), np.nan)
        return (self._ranks < 5).astype(float)

    @cached_property
    def _ranks(self) -> IntArray:
        return ranks_of_truth(self.labels, self.probabilities)

    @cached_property
    def _ranking(self) -> tuple[FloatArray, FloatArray]:
        return scores.ranking_figures(self.labels, self.probabilities)

    def _micro(self, figure: str) -> float:
        if figure in ("roc_auc", "average_precision"):
            # Pooled, every class of every row is a row of one question.
            truth = np.stack([self.is_class(c) for c in range(len(self.class_names))], axis=1)
            auc, ap = scores.ranking_figures(
                truth.reshape(-1, 1), self.probabilities.reshape(-1, 1)
            )
            return float((auc if figure == "roc_auc" else ap)[0])
        return float(getattr(self.counts.total, figure)[0])

    def is_class(self, c: int) -> npt.NDArray[np.bool_]:
        """(N,) whether a row is of class `c`."""
        member: npt.NDArray[np.bool_] = (
            self.labels[:, c] > 0 if self.multi_label else self.labels == c
        )
        return member

    def _one_label(self, compute: Callable[[], Any]) -> float:
        return float("nan") if self.multi_label else float(compute())
