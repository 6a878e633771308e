"""Answers as plain data, alike for the command line and over HTTP."""

from typing import Any

from tltoolkit.artifacts.predictor import Answer
from tltoolkit.artifacts.seeing import BadImage
from tltoolkit.data.decoding import printable

FORMAT = "tltoolkit.predict/1"


def plain(name: str, answer: Answer) -> dict[str, Any]:
    """What is said of an image, as values that JSON has.

    Args:
        name: Of the image, such as its path; bytes that are no valid text become escapes.
        answer: Its prediction, or why there is none, which comes as `error`.
    """
    row: dict[str, Any] = {"format": FORMAT, "image": printable(name)}
    if isinstance(answer, BadImage):
        return row | {"error": answer.reason}
    row |= {
        "label": answer.label,
        "probability": answer.probability,
        "abstained": answer.abstained,
        "probabilities": answer.probabilities,
    }
    # Only where there is one: rows of other classifiers stay as they were.
    return row if answer.familiarity is None else row | {"familiarity": answer.familiarity}
