"""Where to draw the line: a threshold per class, chosen on validation, applied to test."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import Number, OneOf, Table, arguments, fail, number
from tltoolkit.evaluation.counts import (
    confusion_matrix,
    counts_of_confusion,
    mean_of_defined,
    ratio,
)
from tltoolkit.evaluation.figures import Figures
from tltoolkit.evaluation.inputs import FloatArray, IntArray
from tltoolkit.evaluation.scores import counts_by_threshold

TUNE: Table = {
    "metric": OneOf("f1", "fbeta", "precision", "recall", "cost"),
    "beta": Number(above=0) | None,
    "target": Number(above=0, high=1) | None,
}
# Takes true positives, false positives and the number of positives; higher is better.
Objective = Callable[[IntArray, IntArray, int], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """One threshold per class, and the labels that follow from them.

    Attributes:
        values: (C,) thresholds, 0..1.
        multi_label: whether an image may have several labels.
        metric: what `tune` chose them for; "custom" if it did not.
        reached: (C,) whether the class could be tuned and a wished value was reached.
    """

    values: tuple[float, ...]
    multi_label: bool = False
    metric: str = "custom"
    reached: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        for value in self.values:
            number("values", value, 0, 1)

    def flags(self, prob: FloatArray) -> npt.NDArray[np.bool_]:
        """(N, C) whether each class reaches its threshold, whatever the others do."""
        if prob.ndim != 2 or prob.shape[1] != len(self.values):
            raise fail("prob", f"of shape (N, {len(self.values)})", prob.shape)
        return np.asarray(prob.astype(float) >= np.asarray(self.values))

    def decide(self, prob: FloatArray) -> IntArray:
        """The labels given: (N, C) zeros and ones for multi-label, else (N,) integers.

        With one label per image it is the class that exceeds its threshold by the largest
        factor; with two classes that means class 1 from its threshold upwards.
        """
        flags = self.flags(prob)
        if self.multi_label:
            return flags.astype(np.uint8)
        if len(self.values) == 2:
            return flags[:, 1].astype(np.int64)
        # A threshold of 0 is exceeded by more than any other, not by 0 / 0.
        smallest = np.finfo(float).tiny
        return np.asarray((prob / np.maximum(self.values, smallest)).argmax(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Thresholds":
        """The inverse of `to_dict`."""
        lists = {"values": tuple(values["values"]), "reached": tuple(values["reached"])}
        return cls(**{**values, **lists})


def tune(
    report: Figures,
    metric: str = "f1",
    *,
    beta: float | None = None,
    target: float | None = None,
    costs: tuple[float, float] | None = None,
) -> Thresholds:
    """Thresholds that are best on the rows of `report`, each class against the rest.

    With two classes class 1 is tuned and class 0 gets what remains of 1. With more of them and
    one label per image, thresholds for "f1" and "fbeta" that give a lower macro average than
    the most probable class does are dropped for equal ones, so validation never gets worse.

    Args:
        report: predictions on the validation split.
        metric: "f1"; "fbeta" with `beta`; "precision" or "recall" with `target`, the value to
            reach at the least loss of the other; "cost" with `costs`.
        beta: above 1 favours recall, below 1 precision.
        target: wished precision or recall, 0..1. Where none reaches it, the nearest is taken
            and `reached` is False.
        costs: cost of a false positive and of a false negative, 0 or more.

    Raises:
        ValueError: for an unknown metric, and a setting that is missing or does not belong to it.
    """
    arguments(TUNE, locals())
    _check_settings(metric, beta, target, costs)
    objective = _objective(metric, beta or 1.0, target, costs)
    n_classes = len(report.class_names)
    two_class = n_classes == 2 and not report.multi_label
    classes = [1] if two_class else range(n_classes)
    found = [_best(report.is_class(c), report.probabilities[:, c], objective) for c in classes]
    values, scores = zip(*found, strict=True)
    reached = [bool(np.isfinite(s)) and (target is None or s >= 0) for s in scores]
    if two_class:
        # Only one was tuned: class 1 from its threshold upwards, class 0 below.
        values, reached = (1 - values[0], values[0]), reached * 2
    tuned = Thresholds(
        values=tuple(values), multi_label=report.multi_label, metric=metric, reached=tuple(reached)
    )
    if metric in ("f1", "fbeta") and n_classes > 2 and not report.multi_label:
        return _never_worse(report, tuned, beta or 1.0)
    return tuned


def _check_settings(metric: str, beta: Any, target: Any, costs: Any) -> None:
    settings = {"beta": beta, "target": target, "costs": costs}
    needed = {"fbeta": "beta", "precision": "target", "recall": "target", "cost": "costs"}
    for name, value in settings.items():
        if (value is not None) != (needed.get(metric) == name):
            rule = "given" if value is None else "left out"
            raise fail(name, f"{rule} with metric={metric!r}", value)
    if costs is not None:
        if not isinstance(costs, Sequence) or isinstance(costs, str) or len(costs) != 2:
            rule = "two numbers: (cost of a false positive, cost of a false negative)"
            raise fail("costs", rule, costs)
        for cost in costs:
            number("costs", cost, 0)


def _objective(
    metric: str, beta: float, target: float | None, costs: tuple[float, float] | None
) -> Objective:
    """The value to maximise; for a target, values from 0 upwards mean that it is reached."""

    def fbeta(true: IntArray, false: IntArray, positives: int) -> FloatArray:
        return ratio((1 + beta**2) * true, beta**2 * positives + true + false)

    def precision(true: IntArray, false: IntArray, positives: int) -> FloatArray:
        value, goal = ratio(true, true + false), target or 0.0
        return np.where(value >= goal, true / positives, value - goal)

    def recall(true: IntArray, false: IntArray, positives: int) -> FloatArray:
        value, goal = true / positives, target or 0.0
        return np.where(value >= goal, ratio(true, true + false), value - goal)

    def saving(true: IntArray, false: IntArray, positives: int) -> FloatArray:
        false_positive, false_negative = costs or (1.0, 1.0)
        return -(false_positive * false + false_negative * (positives - true))

    return {"precision": precision, "recall": recall, "cost": saving}.get(metric, fbeta)


def _best(
    is_positive: npt.NDArray[np.bool_], score: FloatArray, objective: Objective
) -> tuple[float, float]:
    """Best threshold of one class and its value; of equal ones the highest threshold.

    It lies halfway between two scores that occur, so that rounding cannot move a row across.
    """
    positives = int(is_positive.sum())
    if positives == 0:
        return 0.5, float("-inf")
    # As float64, in which `decide` compares them.
    thresholds, true, false = counts_by_threshold(is_positive, score.astype(float))
    # Just above the highest score, so that halfway to it still excludes all rows.
    none_predicted = np.minimum(1.0, thresholds[0] + 1e-6)
    borders = np.concatenate([[none_predicted], thresholds, [0.0]])
    halfway = np.minimum(1.0, (borders[:-1] + borders[1:]) / 2)
    values = objective(np.append(0, true), np.append(0, false), positives)
    # argmax takes a NaN for the largest.
    values = np.where(np.isnan(values), -np.inf, values)
    # Row 0 predicts nothing, which is only possible below a score of 1.
    first = 0 if thresholds[0] < 1 else 1
    best = first + int(values[first:].argmax())
    return float(halfway[best]), float(values[best])


def _never_worse(report: Figures, tuned: Thresholds, beta: float) -> Thresholds:
    n_classes = len(report.class_names)
    equal = Thresholds(values=(0.5,) * n_classes, metric=tuned.metric, reached=(False,) * n_classes)

    def macro(rule: Thresholds) -> float:
        given = rule.decide(report.probabilities)
        counts = counts_of_confusion(confusion_matrix(report.labels, given, n_classes))
        return float(mean_of_defined(counts.fbeta(beta)))

    # Tuned one by one, thresholds compete for rows in the end.
    return tuned if macro(tuned) >= macro(equal) else equal
