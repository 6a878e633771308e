"""The rows behind the figures: what is confused, what went wrong, whose label may be wrong."""

from dataclasses import dataclass

import numpy as np

from tltoolkit._checks import extra, integer
from tltoolkit.evaluation.inputs import FloatArray, IntArray
from tltoolkit.evaluation.results import Results

GOOD = 0.8  # precision or recall from which the plain-word reading calls a class found or trusted


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Rows of one class taken for another.

    Attributes:
        true, predicted: names of the classes.
        count: number of rows.
        share: their share of the true class' rows, 0..1.
    """

    true: str
    predicted: str
    count: int
    share: float

    def __str__(self) -> str:
        return f"{self.true} taken for {self.predicted}: {self.count:,} ({self.share:.1%} of it)"


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """One row: what it is, what the model said.

    Attributes:
        row: number of the row in this report.
        name: its name, such as a file name; "row 7" where the report has none.
        true, predicted: names of the classes; several are joined by " + ", none is "none".
        probability: confidence in the label given, 0..1.
        loss: cross-entropy in nats.
    """

    row: int
    name: str
    true: str
    predicted: str
    probability: float
    loss: float

    def __str__(self) -> str:
        given = f"{self.true} -> {self.predicted} at {self.probability:.1%}"
        return f"{self.name}: {given}, loss {self.loss:.2f}"


def row_result(report: Results, row: int) -> RowResult:
    """The result of one row."""
    return RowResult(
        row=int(row),
        name=report.names[row] if report.names is not None else f"row {row}",
        true=_label_text(report, report.labels[row]),
        predicted=_label_text(report, report.rows.predicted[row]),
        probability=float(report.rows.confidence[row]),
        loss=float(report.rows.loss[row]),
    )


def top_losses(report: Results, k: int = 20) -> list[RowResult]:
    """The `k` rows of the highest loss, highest first; equal ones in row order."""
    integer("k", k, 1)
    worst = np.argsort(-report.rows.loss, kind="stable")[:k]
    return [row_result(report, row) for row in worst]


def most_confused(report: Results, k: int = 10) -> list[ConfusedPair]:
    """The `k` pairs (true class, class taken for) of the most rows.

    For multi-label a pair counts the rows that miss the one and wrongly carry the other.
    """
    integer("k", k, 1)
    if report.multi_label:
        given = report.rows.predicted > 0
        missed, wrong = (report.labels > 0) & ~given, given & (report.labels == 0)
        # As floats, whose product BLAS computes; counts stay exact up to 2^53.
        pairs = (missed.T.astype(np.float64) @ wrong.astype(np.float64)).astype(np.int64)
    else:
        pairs = report.confusion.copy()
        np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:k]
    cells = [divmod(int(cell), pairs.shape[1]) for cell in order]
    return [
        ConfusedPair(
            true=report.class_names[t],
            predicted=report.class_names[p],
            count=int(pairs[t, p]),
            share=float(pairs[t, p] / report.support[t]),
        )
        for t, p in cells
        if pairs[t, p] > 0
    ]


def readings(report: Results) -> tuple[str, ...]:
    """What precision and recall of each class mean, in plain words."""
    asked = report.support if report.raw is None else report.raw.support
    return tuple(map(_reading, report.precision, report.recall, asked))


def label_issues(report: Results) -> list[RowResult]:
    """Rows whose label may be wrong, the most doubtful first.

    Confident learning (Northcutt et al. 2021): a row is a candidate if another class' probability
    reaches the mean that this class has on its own rows, and the row's own class does not win.
    The probabilities must come from models that did not train on the rows: a test split, or the
    pooled folds of a cross-validation (`Report.pooled`).
    """
    if report.multi_label:
        both = [
            _doubt(report.labels[:, c], np.stack([1 - prob, prob], axis=1))
            for c, prob in enumerate(report.probabilities.T)
        ]
        # Each class is a question of its own; a row is as doubtful as its most doubtful label.
        doubt = np.max(both, axis=0)
    else:
        doubt = _doubt(report.labels, report.probabilities)
    rows = np.argsort(-doubt, kind="stable")[: np.count_nonzero(np.isfinite(doubt))]
    return [row_result(report, row) for row in rows]


def count_label_issues(report: Results) -> int:
    """An estimate by cleanlab of how many labels are wrong; one label per row.

    Raises:
        ImportError: without cleanlab.
    """
    with extra("counting label issues needs cleanlab", "cleanlab"):
        from cleanlab.count import num_label_issues
    if report.multi_label:
        raise ValueError("counting label issues needs one label per row, not multi-label")
    return int(num_label_issues(labels=report.labels, pred_probs=report.probabilities))


def _doubt(labels: IntArray, prob: FloatArray) -> FloatArray:
    """(N,) how far another class beats the row's own; -inf for rows that are no candidates."""
    n, n_classes = prob.shape
    usual = np.full(n_classes, np.inf)  # a class without rows is never a candidate
    for c in np.unique(labels):
        # float32 would lose digits in a sum of many rows.
        usual[c] = prob[labels == c, c].mean(dtype=np.float64)
    confident = np.where(prob >= usual, prob, -np.inf)
    best = confident.argmax(axis=1)
    margin = prob[np.arange(n), best] - prob[np.arange(n), labels]
    candidate = np.isfinite(confident.max(axis=1)) & (best != labels)
    return np.where(candidate, margin.astype(float), -np.inf)


def _reading(precision: float, recall: float, asked: int) -> str:
    if np.isnan(recall):
        return "none of its images answered" if asked else "no images of this class"
    found, trusted = recall >= GOOD, precision >= GOOD  # a NaN precision is not trusted
    if found:
        return "found and trusted" if trusted else "found but mixed with others"
    return "trusted but often missed" if trusted else "not handled"


def _label_text(report: Results, label: IntArray) -> str:
    if not report.multi_label:
        return report.class_names[int(label)]
    return " + ".join(report.class_names[c] for c in np.flatnonzero(label)) or "none"
