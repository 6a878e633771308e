"""A report of answers: what a decision makes of probabilities, with the raw figures beside."""

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from tltoolkit._checks import fail, listed
from tltoolkit.evaluation.decision import Decides
from tltoolkit.evaluation.results import Image, Results

SHOWN = 5  # names in a sentence: with a thousand classes it must stay one
_R = TypeVar("_R", bound=Results)  # a report comes out as what it went in


def decided(report: _R, decision: Decides) -> _R:
    """The report of the answers that a decision gives to the rows of a raw report."""
    # A second decision would not see the rows that the first left out.
    if report.raw is not None:
        rule = "given to the raw report, `report.raw`: this one has been decided already"
        raise fail("decision", rule, decision)
    if decision.multi_label != report.multi_label:
        raise fail("decision", f"one with multi_label={report.multi_label}", decision)
    answers = decision.decide(report.probabilities)
    kept = np.flatnonzero(~answers.abstained)
    image, names = report.image, report.names
    return replace(
        report,
        labels=report.labels[kept],
        probabilities=answers.probabilities[kept],
        decided=answers.labels[kept],
        names=None if names is None else tuple(names[i] for i in kept),
        image=None if image is None else _of_rows(image, kept),
        raw=report,
        decision=decision,
        answered=kept,
    )


def _of_rows(image: Image, rows: Any) -> Image:
    return lambda i: image(int(rows[i]))


def words(report: Results) -> tuple[str, ...]:
    """What was decided and how many rows were answered, in sentences; none for a raw report."""
    if report.raw is None or report.decision is None:
        return ()
    n, asked = len(report.labels), report.asked
    if n == asked:
        said = f"All {asked:,} images are answered."
    elif n:
        said = (
            f"{n:,} of {asked:,} images are answered (coverage {report.coverage:.1%}), "
            "the figures are of those; the classifier abstains from the others."
        )
    else:
        said = f"The classifier abstains from all {asked:,} images: there is no answer to score."
    unanswered = (report.raw.support > 0) & (report.support == 0)
    # Where nothing is answered, the sentence before says so of all classes.
    names = [report.class_names[c] for c in np.flatnonzero(unanswered)] if n else []
    shown = ", ".join(names[:SHOWN]) + " ..." * (len(names) > SHOWN)
    none = (f"Not one image answered: {shown}.",)
    return (f"Decided by {rule_text(report)}.", said, *(none if names else ()))


def rule_text(report: Results) -> str:
    """A decision in words."""
    told = report.decision.to_dict() if report.decision is not None else {}
    parts = []
    if told.get("temperature"):
        parts.append(f"temperature {told['temperature']['value']:.4g}")
    if told.get("prior"):
        shares = zip(report.class_names, told["prior"]["wanted"], strict=True)
        texts = listed([f"{name} {share:.3g}" for name, share in shares], SHOWN)
        parts.append(f"class shares ({texts})")
    if told.get("thresholds"):
        values = zip(report.class_names, told["thresholds"]["values"], strict=True)
        texts = listed([f"{name} {value:.3g}" for name, value in values], SHOWN)
        parts.append(f"thresholds ({texts})")
    if told.get("abstention"):
        parts.append(f"abstention below {told['abstention']['threshold']:.4g}")
    usual = "0.5 for each class" if report.multi_label else "the highest probability"
    return ", ".join(parts) or usual
