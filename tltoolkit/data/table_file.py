"""Reading a table of images as text: which delimiter, header or not, which column is meant."""

import csv
import os
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tltoolkit import _checks
from tltoolkit.data.terms import DELIMITERS
from tltoolkit.data.walk import SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

Column = str | int
# The columns that `from_table` looks for, and finds by place in a file without a header.
USUAL = ("path", "label")
_LOOKED_AT = 50  # rows that tell the delimiter; more would only cost time


def read(
    table: Any, wanted: Sequence[Column], delimiter: str | None, header: bool | None
) -> "tuple[pd.DataFrame, str]":
    """The table, its columns named by text, and the folder that its paths start from.

    Args:
        table: a DataFrame, or the path of a text file.
        wanted: the columns that will be asked for.
        delimiter: one of `DELIMITERS`; None finds it.
        header: whether the first row names the columns; None finds out. Without, they are named
            "0", "1", ..., and the first two also answer to the usual names.

    Raises:
        ValueError: no such file, no table in it, or two columns of one name.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        frame, folder = table.set_axis([str(name) for name in table.columns], axis=1), os.curdir
    else:
        _checks.instance("table", table, (str, os.PathLike), "a CSV path or a pandas DataFrame")
        frame, folder = _read_file(os.fspath(table), wanted, delimiter, header)
    _check_different(list(frame.columns), wanted)
    return frame, folder


def find(frame: "pd.DataFrame", argument: str, column: Column) -> str:
    """The name of a column in a frame of `read`; ValueError names those that there are."""
    names = list(frame.columns)
    name = str(column)
    if name not in names and frame.attrs.get("header") is False and name in USUAL:
        name = str(USUAL.index(name))
    if name not in names:
        _checks.one_of(argument, column, names)
    return name


def _read_file(
    path: str, wanted: Sequence[Column], delimiter: str | None, header: bool | None
) -> "tuple[pd.DataFrame, str]":
    import pandas as pd

    if not os.path.isfile(path):
        raise _checks.fail("table", "a file that exists", path)
    try:
        delimiter = delimiter or _delimiter(path, wanted)
        rows = _rows(path, delimiter)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"cannot read the table {path}: {error}") from error
    if not rows:
        raise ValueError(f"cannot read the table {path}: it is empty")
    named = _is_header(rows[0], wanted) if header is None else header
    names = rows[0] if named else [str(place) for place in range(len(rows[0]))]
    _check_lengths(path, rows, len(names))
    # As text: pandas would read labels such as "NA" or "None" as missing, "01" as 1.
    frame = pd.DataFrame(rows[named:], columns=pd.Index(names, dtype=object), dtype=object)
    frame.attrs["header"] = named
    return frame, os.path.dirname(path)


def _rows(path: str, delimiter: str) -> list[list[str]]:
    """The rows that are not empty."""
    # utf-8-sig: spreadsheets begin their files with a mark that would stick to the first name.
    with open(path, encoding="utf-8-sig", newline="") as file:
        if delimiter != " ":
            # Strict: a quote that is never closed would swallow the rows that follow.
            return [row for row in csv.reader(file, delimiter=delimiter, strict=True) if row]
        lines = [line.strip() for line in file if line.strip()]
    # The path comes first, and may hold blanks itself.
    columns = min((len(line.split()) for line in lines), default=1)
    return [line.rsplit(maxsplit=columns - 1) for line in lines]


def _delimiter(path: str, wanted: Sequence[Column]) -> str:
    """The delimiter by which the columns are there, or else all rows have as many cells."""
    found = ","
    for delimiter in reversed(DELIMITERS):
        with open(path, encoding="utf-8-sig", newline="") as file:
            if delimiter == " ":
                counts = {len(line.split()) for line in islice(file, _LOOKED_AT) if line.strip()}
                regular = bool(counts) and min(counts) > 1
            else:
                reader = csv.reader(file, delimiter=delimiter)
                rows = [row for row in islice(reader, _LOOKED_AT) if row]
                if rows and {str(column) for column in wanted} <= set(rows[0]):
                    return delimiter
                regular = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
        found = delimiter if regular else found
    return found


def _is_header(first: Sequence[str], wanted: Sequence[Column]) -> bool:
    """Whether a first row names columns rather than an image."""
    if any(str(column) in first for column in wanted):
        return True
    by_place = all(str(column) in USUAL or str(column).isdecimal() for column in wanted)
    images = (os.path.splitext(cell.strip())[1].lower() in SUFFIXES for cell in first)
    numbered = any(isinstance(column, int) for column in wanted)
    return not (by_place and (numbered or any(images)))


def _check_lengths(path: str, rows: Sequence[Sequence[str]], count: int) -> None:
    odd = [number for number, row in enumerate(rows, 1) if len(row) != count]
    if odd:
        row = rows[odd[0] - 1]
        raise ValueError(
            f"cannot read the table {path}: row {odd[0]} (1 is the first line) has {len(row)} "
            f"cells where {count} are expected: {list(row)}"
        )


def _check_different(names: Sequence[str], wanted: Sequence[Column]) -> None:
    twice = sorted({str(name) for name in wanted if list(names).count(str(name)) > 1})
    if twice:
        raise ValueError(f"the table has more than one column named {', '.join(twice)}")
