"""What a reader must know beside the figures: which are undefined and why, which rest on little."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tltoolkit.evaluation.report import Report

FEW_ROWS = 200  # below this the 95 % interval of an accuracy can be 14 points wide and more
FEW_OF_A_CLASS = 10
_SHOWN = 5

_ONE_LABEL_ONLY = ("balanced_accuracy", "mcc", "kappa")
_MEANS = ("precision_macro", "recall_macro", "f1_macro", "average_precision_macro", "roc_auc_macro")


def undefined(report: "Report") -> dict[str, str]:
    """Figure -> reason, for every scalar and every class whose figure is NaN."""
    reasons = {}
    for name in _ONE_LABEL_ONLY:
        if report.multi_label:
            reasons[name] = "defined for one label per image only"
        elif np.isnan(getattr(report, name)):
            reasons[name] = "all labels or all predictions are of one class"
    if report.multi_label:
        reasons["top_5_accuracy"] = "defined for one label per image only"
    elif len(report.class_names) <= 5:
        reasons["top_5_accuracy"] = "there are at most 5 classes"
    for name in _MEANS:
        if np.isnan(getattr(report, name)):
            reasons[name] = "undefined for every class"
    for c, label in enumerate(report.class_names):
        for name, reason in _of_class(report, c).items():
            reasons[f"{name}[{label}]"] = reason
    return reasons


def _of_class(report: "Report", c: int) -> dict[str, str]:
    reasons = {}
    if report.counts.predicted[c] == 0:
        reasons["precision"] = "the class was never predicted"
    if report.support[c] == 0:
        reasons["recall"] = "the class has no images here"
        reasons["average_precision"] = reasons["roc_auc"] = reasons["recall"]
        if report.counts.predicted[c] == 0:
            reasons["f1"] = "the class has no images here and was never predicted"
    if report.support[c] == len(report.labels):
        reasons["specificity"] = reasons["roc_auc"] = "every image is of the class"
    return reasons


def notes(report: "Report") -> tuple[str, ...]:
    """Sentences on small test sets, on rare, absent and never predicted classes."""
    n = len(report.labels)
    found = []
    if n < FEW_ROWS:
        found.append(f"Small test set: with {n} images every figure is uncertain, see intervals.")
    few = (report.support > 0) & (report.support < FEW_OF_A_CLASS)
    if few.any():
        found.append(f"Fewer than {FEW_OF_A_CLASS} images: {_names(report, few)}.")
    absent = report.support == 0
    if absent.any():
        found.append(f"No images, recall and ranking undefined: {_names(report, absent)}.")
    never = (report.counts.predicted == 0) & ~absent
    if never.any():
        found.append(f"Never predicted, precision undefined: {_names(report, never)}.")
    return tuple(found)


def _names(report: "Report", chosen: npt.NDArray[np.bool_]) -> str:
    names = [report.class_names[c] for c in np.flatnonzero(chosen)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
