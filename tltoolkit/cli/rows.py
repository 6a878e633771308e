"""Rows of predictions as CSV or JSON lines."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from tltoolkit.artifacts import answers
from tltoolkit.artifacts.predictor import Answer
from tltoolkit.artifacts.seeing import BadImage
from tltoolkit.data.decoding import printable

COLUMNS = ("image", "label", "probability", "abstained", "error")
# Spreadsheets run text that begins so.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


Write = Callable[[str, Answer, Path | None], bool]


def writer(
    file: TextIO,
    class_names: Sequence[str],
    as_json: bool,
    probabilities: bool,
    *,
    maps: bool = False,
    familiarity: bool = False,
) -> Write:
    """A function that writes the row of a path, its answer and the file of its map.

    It tells whether the answer was bad.

    Args:
        file: Where to.
        class_names: Of the classifier.
        as_json: JSON lines in place of CSV; they have all that an answer has.
        probabilities: Whether there is a column for each class.
        maps: Whether there is one of the file with the map.
        familiarity: Whether there is one of it.
    """
    if as_json:
        return lambda path, answer, overlay: _json_row(file, path, answer, overlay)
    # By default "\r\n", of which line tools on Unix count the first to the last cell.
    table = csv.writer(file, lineterminator="\n")
    shown = tuple(class_names) if probabilities else ()
    known = ["familiarity"] * familiarity
    names = [_cell(f"probability of {name}") for name in shown]
    table.writerow([*COLUMNS, *["map"] * maps, *known, *names])

    def write(path: str, answer: Answer, overlay: Path | None) -> bool:
        # A name that is not valid text cannot be written as it is.
        image = _cell(printable(path))
        file_of_map = [_cell(printable(str(overlay))) if overlay else ""] * maps
        if isinstance(answer, BadImage):
            blank = [""] * len([*known, *shown])
            table.writerow([image, "", "", "", _cell(answer.reason), *file_of_map, *blank])
            return True
        values = [f"{answer.familiarity:.6g}" for _ in known]
        values += [f"{answer.probabilities[name]:.6g}" for name in shown]
        label = answer.label if isinstance(answer.label, str) else "|".join(answer.label)
        # The six digits that float32 holds for certain.
        sure = f"{answer.probability:.6g}"
        abstained = int(answer.abstained)
        table.writerow([image, _cell(label), sure, abstained, "", *file_of_map, *values])
        return False

    return write


def is_bad(answer: Answer) -> bool:
    """Whether an image could not be read."""
    return isinstance(answer, BadImage)


def _json_row(file: TextIO, path: str, answer: Answer, overlay: Path | None) -> bool:
    row = answers.plain(path, answer) | ({"map": printable(str(overlay))} if overlay else {})
    # ASCII, so that any encoding of standard output can take it.
    file.write(json.dumps(row, ensure_ascii=True) + "\n")
    return is_bad(answer)


def _cell(text: str) -> str:
    """Text that a spreadsheet shows and does not run; JSON lines have it as it is."""
    return "'" + text if text.startswith(_FORMULA) else text
