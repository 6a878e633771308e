"""What a reader must know beside the figures: which are undefined and why, which rest on little."""

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import listed
from tltoolkit.evaluation.decided import SHOWN, words
from tltoolkit.evaluation.figures import AVERAGED, ONE_LABEL_ONLY
from tltoolkit.evaluation.intervals import FIGURES
from tltoolkit.evaluation.results import Results

FEW_ROWS = 200  # below this the 95 % interval of an accuracy can be 14 points wide and more
FEW_OF_A_CLASS = 10  # below this one image moves the recall by more than ten points
_UNANSWERED = "no image of the class was answered"

_MEANS = ("precision_macro", "recall_macro", "f1_macro", "average_precision_macro", "roc_auc_macro")


def undefined(report: Results) -> dict[str, str]:
    """Figure -> reason, for every scalar and every class whose figure is NaN."""
    if not len(report.labels):
        return dict.fromkeys(_every_figure(report), "no image was answered")
    reasons = {}
    for name in ONE_LABEL_ONLY:
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


def _every_figure(report: Results) -> list[str]:
    """The names of all figures, of those of a class with it."""
    of_a_class = [f"{name}[{label}]" for label in report.class_names for name in AVERAGED]
    return [*FIGURES, *of_a_class]


def _of_class(report: Results, c: int) -> dict[str, str]:
    reasons = {}
    if report.counts.predicted[c] == 0:
        reasons["precision"] = "the class was never predicted"
    if report.support[c] == 0:
        answered = report.raw is None or not report.raw.support[c]
        reasons["recall"] = "the class has no images here" if answered else _UNANSWERED
        reasons["average_precision"] = reasons["roc_auc"] = reasons["recall"]
        # F1 is 0 where only one of the two is missing.
        if report.counts.predicted[c] == 0:
            reasons["f1"] = reasons["recall"] + " and was never predicted"
    # No other class is left to be told apart from.
    if report.support[c] == len(report.labels):
        reasons["specificity"] = reasons["roc_auc"] = "every image is of the class"
    return reasons


def notes(report: Results) -> tuple[str, ...]:
    """Sentences on small test sets, on rare, absent and never predicted classes."""
    n = len(report.labels)
    found = [*words(report)]
    if not n:
        return tuple(found)
    if n < FEW_ROWS:
        found.append(f"Small test set: with {n} images every figure is uncertain, see intervals.")
    few = (report.support > 0) & (report.support < FEW_OF_A_CLASS)
    if few.any():
        found.append(f"Fewer than {FEW_OF_A_CLASS} images: {_names(report, few)}.")
    absent = report.support == 0 if report.raw is None else report.raw.support == 0
    if absent.any():
        found.append(f"No images, recall and ranking undefined: {_names(report, absent)}.")
    never = (report.counts.predicted == 0) & (report.support > 0)
    if never.any():
        found.append(f"Never predicted, precision undefined: {_names(report, never)}.")
    return tuple(found)


def _names(report: Results, chosen: npt.NDArray[np.bool_]) -> str:
    return listed([report.class_names[c] for c in np.flatnonzero(chosen)], SHOWN)
