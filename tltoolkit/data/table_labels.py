"""The labels of a table: one or several in a cell, lists, or a column of zeros and ones a class."""

import ast
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tltoolkit._checks import listed
from tltoolkit.data.assemble import tidy

# What tables hold in columns that say yes or no; case does not matter.
YES_OR_NO = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}

Names = list[list[str]]
Meaning = TypeVar("Meaning")


def of_cells(
    column: str, cells: Sequence[Any], separator: str | None, multi_label: bool | None
) -> tuple[Names, bool]:
    """The class names of each row, and whether a row can have several.

    Args:
        column: what the column is called in errors.
        cells: texts, numbers or lists of such.
        separator: what stands between the labels of a text; a blank for white space; None never
            splits.
        multi_label: None if cells are lists, or any holds several labels.

    Raises:
        ValueError: a row without a label unless several are possible, or with several where not.
    """
    lists = _lists(cells)
    rows = [_parts(text(cell), separator) for cell in cells] if lists is None else lists
    names = [[name for name in map(tidy, row) if name] for row in rows]
    if multi_label is None:
        multi_label = lists is not None or any(len(row) > 1 for row in names)
    return _checked(column, names, multi_label), multi_label


def of_columns(
    columns: Mapping[str, Sequence[str]], multi_label: bool | None
) -> tuple[Names, bool]:
    """The same of a table with a column of zeros and ones for each class, named by the columns.

    `multi_label` None means several labels unless each row holds a single one.

    Raises:
        ValueError: a cell that is neither, by its row.
    """
    flags = np.array([yes_or_no(column, cells) for column, cells in columns.items()])
    if multi_label is None:
        multi_label = bool((flags.sum(axis=0) != 1).any())
    names = [[name for name, is_set in zip(columns, row, strict=True) if is_set] for row in flags.T]
    return _checked(", ".join(columns), names, multi_label), multi_label


def yes_or_no(column: str, cells: Sequence[str]) -> list[bool]:
    """What the cells of a column of zeros and ones say; ValueError names the row of another."""
    return looked_up(column, cells, YES_OR_NO, "zeros and ones")


def looked_up(
    column: str, cells: Sequence[str], meanings: Mapping[str, Meaning], rule: str
) -> list[Meaning]:
    """What the cells of a column mean, case aside; ValueError names the row of another word."""
    words = [cell.strip().casefold() for cell in cells]
    for row, word in enumerate(words):
        if word not in meanings:
            raise ValueError(
                f"column {column!r} must hold {rule}. Received in row {row + 1} (1 is the first "
                f"below the header): {cells[row]!r}"
            )
    return [meanings[word] for word in words]


def text(cell: Any) -> str:
    """A cell as text: whole numbers without a fraction, missing values empty."""
    import pandas as pd

    if isinstance(cell, (str, os.PathLike)):
        return os.fspath(cell)
    if not pd.api.types.is_scalar(cell):
        raise ValueError(f"a table cell must hold text or a number. Received: {cell!r}")
    if pd.isna(cell):
        return ""
    whole = isinstance(cell, (float, np.floating)) and cell.is_integer()
    return str(int(cell)) if whole else str(cell)


def check_filled(argument: str, column: str, cells: Sequence[Any], advice: str = "") -> None:
    """Raise ValueError, with the rows, unless no cell is empty."""
    empty = [row for row, cell in enumerate(cells, 1) if not cell or not str(cell).strip()]
    if empty:
        raise ValueError(
            f"no {argument} in column {column!r} of {len(empty)} rows (1 is the first below the "
            f"header): {listed(empty)}{advice}"
        )


def _lists(cells: Sequence[Any]) -> list[list[str]] | None:
    """Cells that hold lists, or the text of such, as pandas writes it to a CSV file; else None."""
    if not all(isinstance(cell, (list, tuple, set, frozenset, np.ndarray)) for cell in cells):
        cells = [_parsed(cell) for cell in cells]
    if any(cell is None for cell in cells):
        return None
    return [[text(part) for part in cell] for cell in cells]


def _parsed(cell: Any) -> Any:
    if isinstance(cell, str) and cell.strip()[:1] == "[" and cell.strip()[-1:] == "]":
        try:
            # Not eval: a table may come from anywhere.
            return ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError):
            return None
    return cell if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)) else None


def _parts(cell: str, separator: str | None) -> list[str]:
    if separator is None:
        return [cell]
    return cell.split() if separator.isspace() else cell.split(separator)


def _checked(column: str, names: Names, multi_label: bool) -> Names:
    if not multi_label:
        check_filled("label", column, names, "; multi_label=True lets images have no label")
        several = [row for row, found in enumerate(names, 1) if len(found) > 1]
        if several:
            raise ValueError(
                f"several labels in column {column!r} of {len(several)} rows (1 is the first below "
                f"the header): {listed(several)}; multi_label=True takes them"
            )
    return names
