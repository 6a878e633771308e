"""Whether one model beats another on the same rows, or is only luckier."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import Table, arguments
from tltoolkit.evaluation.inputs import FloatArray, chunks
from tltoolkit.evaluation.intervals import (
    COUNT_FIGURES,
    DRAWN,
    INTERVAL,
    ROW_FIGURES,
    Bootstrap,
    draw_counts,
    group_sums,
    join_counts,
    joint_cells,
    row_values,
)
from tltoolkit.evaluation.notes import FEW_ROWS
from tltoolkit.evaluation.report import Report

COMPARE: Table = {"metric": INTERVAL["name"], **DRAWN}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure of two reports on the same rows.

    Attributes:
        metric: name of the figure.
        a, b: its values.
        difference: b - a.
        low, high: bootstrap interval of the difference.
        level: share of the draws within it.
        p_value: chance of a difference at least as large between equally good models.
        test: the test behind `p_value`.
        rows: number of rows.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    level: float
    p_value: float
    test: str
    rows: int

    @property
    def note(self) -> str:
        """A warning where the test set is too small to tell much, else an empty string."""
        if self.rows >= FEW_ROWS:
            return ""
        return f"only {self.rows} rows: small differences between models cannot be seen"

    def __str__(self) -> str:
        p_value = "p < 0.0001" if self.p_value < 1e-4 else f"p = {self.p_value:.4f}"
        text = (
            f"{self.metric}: {self.a:.4f} -> {self.b:.4f}, difference {self.difference:+.4f} "
            f"({self.level:.0%} interval {self.low:+.4f} to {self.high:+.4f}), "
            f"{p_value} by {self.test}"
        )
        return f"{text}; {self.note}" if self.note else text


def compare(
    report_a: Report,
    report_b: Report,
    metric: str = "accuracy",
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare a figure of two reports on the same rows.

    The difference gets a paired bootstrap interval. Accuracy is tested by McNemar's exact test
    (McNemar 1947), every other figure by a permutation test that swaps the two models' answers
    row by row. Figures of ranking and calibration are computed anew for every permutation.

    Args:
        report_a, report_b: reports with equal labels, in equal order.
        metric: name of a scalar figure, for example "accuracy" or "f1_macro".
        level: share of the draws inside the interval, 0..1.
        draws: bootstrap draws, and permutations.
        seed: seed of both.

    Raises:
        ValueError: if the labels differ or the figure is unknown.
    """
    arguments(COMPARE, locals())
    if report_a.class_names != report_b.class_names:
        raise ValueError("`report_a` and `report_b` must have the same class names")
    if not _same_answered(report_a, report_b):
        raise ValueError(
            "`report_a` and `report_b` must be of the same rows, and their decisions answer "
            "different ones; compare `report.raw`"
        )
    if not np.array_equal(report_a.labels, report_b.labels):
        raise ValueError("`report_a` and `report_b` must have the same labels in the same order")
    if not len(report_a.labels):
        raise ValueError("`report_a` and `report_b` must have rows: all were left unanswered")
    a, b = float(getattr(report_a, metric)), float(getattr(report_b, metric))
    differences = _bootstrap_differences(report_a, report_b, metric, draws, seed)
    # Draws without a class leave some figures undefined.
    defined = differences[~np.isnan(differences)]
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(defined, ends) if len(defined) else (np.nan, np.nan)
    # Exact and instant; a permutation test would only come near it.
    if metric == "accuracy":
        test, p_value = "McNemar's exact test", mcnemar(report_a.rows.right, report_b.rows.right)
    else:
        test = f"permutation test ({draws:,} swaps)"
        p_value = _permutation_p(report_a, report_b, metric, b - a, draws, seed)
    return Comparison(
        metric=metric,
        a=a,
        b=b,
        difference=b - a,
        low=float(low),
        high=float(high),
        level=level,
        p_value=p_value,
        test=test,
        rows=len(report_a.labels),
    )


def _same_answered(a: Report, b: Report) -> bool:
    """Whether the decisions of two reports, if any, leave out the same rows."""
    if a.answered is None and b.answered is None:
        return True
    of_a, of_b = (np.arange(r.asked) if r.answered is None else r.answered for r in (a, b))
    return a.asked == b.asked and np.array_equal(of_a, of_b)


def mcnemar(right_a: npt.NDArray[np.bool_], right_b: npt.NDArray[np.bool_]) -> float:
    """Exact two-sided p-value from the rows that only one of two models got right."""
    from scipy.stats import binomtest

    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    # No row tells the two apart; SciPy refuses to test nothing.
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _bootstrap_differences(a: Report, b: Report, metric: str, draws: int, seed: int) -> FloatArray:
    plan_a = Bootstrap(report=a, draws=draws, seed=seed)
    # Both counts from one draw of rows; two bootstraps over their own cells would not share it.
    if metric in COUNT_FIGURES and not a.multi_label:
        predictions = [a.rows.predicted, b.rows.predicted]
        counts = draw_counts(a.labels, predictions, len(a.class_names), plan_a)
        return np.asarray(getattr(counts[1], metric) - getattr(counts[0], metric))
    plan_b = Bootstrap(report=b, draws=draws, seed=seed)
    return plan_b.values(metric) - plan_a.values(metric)


def _permutation_p(
    a: Report, b: Report, metric: str, observed: float, draws: int, seed: int
) -> float:
    if np.isnan(observed):
        return float("nan")
    rng = np.random.default_rng(seed)
    if metric in ROW_FIGURES:
        differences = _swapped_means(a, b, metric, draws, rng)
    elif metric in COUNT_FIGURES and not a.multi_label:
        differences = _swapped_counts(a, b, metric, draws, rng)
    else:
        differences = _swapped_reports(a, b, metric, draws, rng)
    # The slack keeps permutations that tie with the observed difference despite rounding.
    as_large = np.count_nonzero(np.abs(differences) >= abs(observed) - 1e-12)
    # What was observed is one of the permutations, so that no p-value is 0.
    return (1 + as_large) / (1 + draws)


def _swapped_means(
    a: Report, b: Report, metric: str, draws: int, rng: np.random.Generator
) -> FloatArray:
    per_row = row_values(b, metric) - row_values(a, metric)
    # Swapping a row's answers turns the sign of its difference, and no more.
    signs = (
        rng.choice((-1.0, 1.0), (part.stop - part.start, len(per_row)))
        for part in chunks(draws, len(per_row))
    )
    return np.concatenate([sign @ per_row for sign in signs]) / len(per_row)


def _swapped_counts(
    a: Report, b: Report, metric: str, draws: int, rng: np.random.Generator
) -> FloatArray:
    n_classes, n = len(a.class_names), len(a.labels)
    columns = [a.labels, a.rows.predicted, b.rows.predicted]
    (truth, given_a, given_b), sizes = joint_cells(columns, n_classes)
    differences = []
    for part in chunks(draws, len(sizes)):
        # Rows with the same three labels are alike: only how many of them swap matters.
        swapped = rng.binomial(sizes, 0.5, (part.stop - part.start, len(sizes)))
        values = []
        for stay, go in ((sizes - swapped, swapped), (swapped, sizes - swapped)):
            sums = group_sums(stay, truth, given_a, n_classes)
            sums += group_sums(go, truth, given_b, n_classes)
            values.append(getattr(join_counts([sums], n), metric))
        differences.append(values[1] - values[0])
    return np.concatenate(differences)


def _swapped_reports(
    a: Report, b: Report, metric: str, draws: int, rng: np.random.Generator
) -> FloatArray:
    differences = np.empty(draws)
    for i in range(draws):
        swap = rng.integers(0, 2, (len(a.labels), 1), dtype=bool)
        differences[i] = getattr(_mixed(b, a, swap), metric) - getattr(_mixed(a, b, swap), metric)
    return differences


def _mixed(base: Report, other: Report, swap: npt.NDArray[np.bool_]) -> Report:
    rows = swap if base.multi_label else swap[:, 0]
    # Swapped too, not found anew: thresholds may have given them.
    decided = np.where(rows, other.rows.predicted, base.rows.predicted)
    prob = np.where(swap, other.probabilities, base.probabilities)
    return replace(base, probabilities=prob, decided=decided)
