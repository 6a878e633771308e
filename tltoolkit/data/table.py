"""Images listed in a table: a CSV file, a list file or a DataFrame."""

import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.data import listing, table_file, table_labels
from tltoolkit.data.assemble import (
    SPLIT_NAMES,
    assemble,
    check_arguments,
    encode,
    stated,
    tidy,
)
from tltoolkit.data.decoding import MAX_PIXELS, printable
from tltoolkit.data.groups import by_path, of_values
from tltoolkit.data.images import ImageData
from tltoolkit.data.origin import remembered
from tltoolkit.data.sources import Files
from tltoolkit.data.split import SPLITS
from tltoolkit.data.table_file import Column
from tltoolkit.data.terms import FROM_TABLE
from tltoolkit.data.walk import SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

# Columns of these names say the split by convention; is_valid is fastai's.
SPLIT_COLUMNS = ("split", "is_valid")


@remembered
def from_table(
    table: "str | os.PathLike[str] | pd.DataFrame",
    image: Column = "path",
    label: Column | Sequence[Column] = "label",
    root: str | os.PathLike[str] | None = None,
    split: Column | None = None,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    separator: str | None = "|",
    on_bad: str = "error",
    duplicates: str = "error",
    max_pixels: int = MAX_PIXELS,
    class_names: Sequence[str] | None = None,
    multi_label: bool | None = None,
    suffix: str = "",
    delimiter: str | None = None,
    header: bool | None = None,
    groups: Column | Callable[[str], Any] | Sequence[Any] | None = None,
) -> ImageData:
    """Labelled images from a table with one row per image.

    Labels become text: numbers without a fraction as whole numbers. Classes are ordered by code
    points, or by value if all are whole numbers, unless `class_names` says otherwise. Images and
    splits keep the order of the rows.

    Args:
        table: a DataFrame, or a text file (UTF-8) with commas, semicolons, tabs or blanks between
            its columns, with a header or without, such as ImageNet's lists of path and number.
        image: the column of image files, by name; in a file without a header by number from 0.
            Backslashes are taken for slashes.
        label: the column of labels; or several columns of zeros and ones, a class each. A cell of
            the one column holds a label, several with `separator` between them, or a list.
        root: the folder that relative paths start from; by default the folder of the file, or
            the current folder for a DataFrame.
        split: the column that says train, val or test, or as `is_valid` does whether a row is for
            val; None makes the splits here, and warns of a column that seems to say them.
        val: fraction of the training images for val, 0 <= val < 1, if the table gives no val rows;
            each goes by its content, as in `from_directory`.
        test: the same for test.
        seed: of the splits that are made here, 0..2**32 - 1.
        separator: what stands between the labels of one cell, " " for any white space; None for
            labels that are never split.
        on_bad: as in `from_directory`; a file that does not exist is an error here already,
            unless on_bad is "skip".
        duplicates: as in `from_directory`.
        max_pixels: images of more pixels than this are errors.
        class_names: all classes in the order of their numbers.
        multi_label: whether images can have several labels, or none. None: if a cell holds several
            or is a list, or a row of columns holds other than a single one.
        suffix: what the column `image` leaves out of file names, such as ".jpg".
        delimiter: ",", ";", a tab, or " " for white space; None finds it.
        header: whether the file's first row names the columns; None finds out.
        groups: what must stay on one side of every split and fold, such as the images of one
            patient: the column that says it; or a function from the path below `root`, with
            slashes, to a text or whole number; or a row of N of these.

    Raises:
        ValueError: a missing file, column, image or label, an unknown split, each with its row;
            two columns of one name; a class with fewer than two images; or a wrong argument.
    """
    splitting = check_arguments(FROM_TABLE, locals())
    order = stated(class_names)
    if separator is not None and not (isinstance(separator, str) and separator):
        raise _checks.fail("separator", "text, or None", separator)
    label_columns = [label] if isinstance(label, (str, int)) else list(label)
    more = [column for column in (split, groups) if isinstance(column, (str, int))]
    wanted = [image, *label_columns, *more]
    frame, folder = table_file.read(table, wanted, delimiter, header)
    if len(frame) == 0:
        raise ValueError("the table has no rows")
    folder = os.path.abspath(folder if root is None else os.fspath(root))
    if not os.path.isdir(folder):
        raise _checks.fail("root", "a folder that exists", str(root))
    paths = [_path(folder, file + suffix) for file in _column(frame, "image", image)]
    # Here, not in `check`: a wrong `root` or `suffix` misses every file, and can be told at once.
    if on_bad == "error":
        _check_exist(paths)
    names, several = _labels(frame, label, separator, multi_label)
    split_numbers = _splits(frame, split)
    labels, used_names = encode(names, split_numbers, multi_label=several, order=order)
    return assemble(
        Files(paths, max_pixels),
        labels,
        used_names,
        split_numbers,
        order_stated=order is not None,
        **splitting,
        groups=_groups(frame, groups, paths, folder),
    )


def said_split(table: str | os.PathLike[str]) -> str | None:
    """The column of a file that says by its usual name how the rows are split, or None."""
    frame, _ = table_file.read(table, table_file.USUAL, None, None)
    return next((name for name in SPLIT_COLUMNS if name in frame.columns), None)


def _groups(frame: "pd.DataFrame", groups: Any, paths: Sequence[str], folder: str) -> Any:
    names = [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]
    if isinstance(groups, (str, int)):
        return of_values(_column(frame, "groups", groups), names)
    if callable(groups):
        return by_path(groups, names)
    return of_values(groups, names)


def _labels(
    frame: "pd.DataFrame", label: Column | Sequence[Column], separator: Any, several: bool | None
) -> tuple[table_labels.Names, bool]:
    if isinstance(label, (str, int)):
        cells = list(frame[table_file.find(frame, "label", label)])
        return table_labels.of_cells(str(label), cells, separator, several)
    if not label:
        raise _checks.fail("label", "a column, or several of zeros and ones", label)
    columns = {tidy(str(name)): _column(frame, "label", name) for name in label}
    return table_labels.of_columns(columns, several)


def _column(frame: "pd.DataFrame", argument: str, column: Column) -> list[str]:
    """A column's cells as text."""
    cells = [table_labels.text(cell) for cell in frame[table_file.find(frame, argument, column)]]
    table_labels.check_filled(argument, str(column), cells)
    return cells


def _path(folder: str, file: str) -> str:
    path = os.path.join(folder, file)
    if "\\" in file and os.sep == "/" and not os.path.exists(path):
        path = os.path.join(folder, file.replace("\\", "/"))  # written on Windows
    return os.path.normpath(path)


def _check_exist(paths: Sequence[str]) -> None:
    missing = [(row, path) for row, path in enumerate(paths, 1) if not os.path.exists(path)]
    if not missing:
        return
    found = [f"row {row}: {printable(path)}" for row, path in missing]
    first = missing[0][1]
    suffix = next((end for end in sorted(SUFFIXES) if os.path.exists(first + end)), None)
    advice = "" if suffix is None else f"\nwith suffix={suffix!r} the first of them does"
    raise ValueError(
        f"{len(missing)} of {len(paths)} images of the table do not exist (row 1 is the first "
        f"below the header):\n{listing.lines(found)}{advice}"
    )


def _splits(frame: "pd.DataFrame", column: Column | None) -> NDArray[np.int64]:
    """The number of each row's split; all train where no column says it."""
    if column is None:
        unused = [name for name in SPLIT_COLUMNS if name in frame.columns]
        if unused:
            warnings.warn(
                f"the table has a column {unused[0]!r} that is not used; split={unused[0]!r} "
                "splits the rows as it says",
                stacklevel=3,
            )
        return np.zeros(len(frame), np.int64)
    cells = _column(frame, "split", column)
    # What fastai's is_valid says, whatever the column is called.
    if all(cell.strip().casefold() in table_labels.YES_OR_NO for cell in cells):
        return np.array(table_labels.yes_or_no(str(column), cells)) * np.int64(SPLITS.index("val"))
    rule = "train, val or test, or zeros and ones for val"
    names = table_labels.looked_up(str(column), cells, SPLIT_NAMES, rule)
    return np.array([SPLITS.index(name) for name in names], np.int64)
