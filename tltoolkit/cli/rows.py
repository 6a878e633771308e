"""Rows of predictions as CSV or JSON lines."""

import csv
import json
from collections.abc import Callable, Sequence
from typing import TextIO

from tltoolkit.artifacts import answers
from tltoolkit.artifacts.given import BadImage
from tltoolkit.artifacts.predictor import Answer
from tltoolkit.data.decoding import printable

COLUMNS = ("image", "label", "probability", "abstained", "error")
# Spreadsheets run text that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def writer(
    file: TextIO,
    class_names: Sequence[str],
    as_json: bool,
    probabilities: bool,
    familiarity: bool = False,
) -> Callable[[str, Answer], bool]:
    """A function that writes the row of a path and its answer, and tells whether it was bad.

    Args:
        file: Where to.
        class_names: Of the classifier.
        as_json: JSON lines in place of CSV; they have all that an answer has.
        probabilities: Whether there is a column for each class.
        familiarity: Whether there is one of it.
    """
    if as_json:
        return lambda path, answer: _json_row(file, path, answer)
    # By default "\r\n", of which line tools on Unix count the first to the last cell.
    table = csv.writer(file, lineterminator="\n")
    shown = tuple(class_names) if probabilities else ()
    known = ["familiarity"] * familiarity
    table.writerow([*COLUMNS, *known, *(_cell(f"probability of {name}") for name in shown)])

    def write(path: str, answer: Answer) -> bool:
        # A name that is not valid text cannot be written as it is.
        image = _cell(printable(path))
        if isinstance(answer, BadImage):
            empty = [""] * len([*known, *shown])
            table.writerow([image, "", "", "", _cell(answer.reason), *empty])
            return True
        values = [f"{answer.familiarity:.6g}" for _ in known]
        values += [f"{answer.probabilities[name]:.6g}" for name in shown]
        label = answer.label if isinstance(answer.label, str) else "|".join(answer.label)
        # The six digits that float32 holds for certain.
        sure = f"{answer.probability:.6g}"
        table.writerow([image, _cell(label), sure, int(answer.abstained), "", *values])
        return False

    return write


def is_bad(answer: Answer) -> bool:
    """Whether an image could not be read."""
    return isinstance(answer, BadImage)


def _json_row(file: TextIO, path: str, answer: Answer) -> bool:
    # ASCII, so that any encoding of standard output can take it.
    file.write(json.dumps(answers.plain(path, answer), ensure_ascii=True) + "\n")
    return is_bad(answer)


def _cell(text: str) -> str:
    """Text that a spreadsheet shows and does not run; JSON lines have it as it is."""
    return "'" + text if text.startswith(_FORMULA) else text
