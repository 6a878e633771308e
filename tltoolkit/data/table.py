"""Images listed in a table: a CSV file or a DataFrame."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.data.assemble import SPLIT_NAMES, SPLITS, assemble, check_settings, encode, tidy
from tltoolkit.data.decoding import MAX_PIXELS, printable
from tltoolkit.data.groups import by_path, of_values
from tltoolkit.data.images import ImageData
from tltoolkit.data.origin import remembered
from tltoolkit.data.sources import Files

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 50


@remembered
def from_table(
    table: "str | os.PathLike[str] | pd.DataFrame",
    image: str = "path",
    label: str = "label",
    root: str | os.PathLike[str] | None = None,
    split: str | None = None,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    separator: str | None = "|",
    on_bad: str = "error",
    duplicates: str = "error",
    max_pixels: int = MAX_PIXELS,
    groups: str | Callable[[str], Any] | Sequence[Any] | None = None,
) -> ImageData:
    """Labelled images from a table with one row per image.

    Labels become text: numbers without a fraction as whole numbers. Classes are ordered by code
    points, or by value if all are whole numbers. If any label cell holds the separator, one image
    can have several labels. Images and splits keep the order of the rows.

    Args:
        table: a CSV file with a header (UTF-8, commas), or a DataFrame.
        image: the column of image files.
        label: the column of labels.
        root: the folder that relative paths start from; by default the folder of the CSV file, or
            the current folder for a DataFrame.
        split: the column that says train, val or test, if there is one.
        val: fraction of the training images for val, 0 <= val < 1, if the table gives no val rows;
            each goes by its content, as in `from_directory`.
        test: the same for test.
        seed: of the splits that are made here, 0..2**32 - 1.
        separator: what stands between the labels of one cell; None for labels that are never split.
        on_bad: as in `from_directory`; a file that does not exist is an error here already,
            unless on_bad is "skip".
        duplicates: as in `from_directory`.
        max_pixels: images of more pixels than this are errors.
        groups: what must stay on one side of every split and fold, such as the images of one
            patient: the column that says it; or a function from the path below `root`, with
            slashes, to a text or whole number; or a row of N of these.

    Raises:
        ValueError: a missing file, column, image or label, an unknown split, each with its row;
            a class with fewer than two images; or a wrong argument.
    """
    check_settings(val, test, seed)
    _checks.integer("max_pixels", max_pixels, 1)
    if separator is not None and (not isinstance(separator, str) or not separator.strip()):
        raise _checks.fail("separator", "text that is not blank, or None", separator)
    frame, folder = _read(table)
    folder = os.path.abspath(folder if root is None else os.fspath(root))
    if not os.path.isdir(folder):
        raise _checks.fail("root", "a folder that exists", str(root))
    files = _column(frame, "image", image)
    paths = [os.path.normpath(os.path.join(folder, file)) for file in files]
    if on_bad == "error":
        _check_exist(paths)
    cells = _column(frame, "label", label)
    multi_label = separator is not None and any(separator in cell for cell in cells)
    names = [_labels(cell, separator) for cell in cells]
    _check_filled("label", label, names)
    if split is None:
        split_numbers = np.zeros(len(paths), np.int64)
    else:
        split_numbers = _split_numbers(_column(frame, "split", split), split)
    labels, class_names = encode(names, split_numbers, multi_label=multi_label)
    return assemble(
        Files(paths, max_pixels),
        labels,
        class_names,
        split_numbers,
        val=val,
        test=test,
        seed=seed,
        on_bad=on_bad,
        duplicates=duplicates,
        groups=_groups(frame, groups, paths, folder),
    )


def _groups(frame: "pd.DataFrame", groups: Any, paths: Sequence[str], folder: str) -> Any:
    names = [os.path.relpath(path, folder).replace(os.sep, "/") for path in paths]
    if isinstance(groups, str):
        return of_values(_column(frame, "groups", groups), names)
    if callable(groups):
        return by_path(groups, names)
    return of_values(groups, names)


def _read(table: Any) -> "tuple[pd.DataFrame, str]":
    """The table, and the folder that its paths start from."""
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return table, os.curdir
    _checks.instance("table", table, (str, os.PathLike), "a CSV path or a pandas DataFrame")
    path = os.fspath(table)
    if not os.path.isfile(path):
        raise _checks.fail("table", "a file that exists", path)
    try:
        # As text: pandas would read labels such as "NA" or "None" as missing, "01" as 1.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the table {path}: {error}") from error
    return frame, os.path.dirname(path)


def _column(frame: "pd.DataFrame", argument: str, column: str) -> list[str]:
    """A column's cells as text."""
    _checks.one_of(argument, column, [str(name) for name in frame.columns])
    if len(frame) == 0:
        raise ValueError("the table has no rows")
    cells = [_text(cell) for cell in frame[column]]
    _check_filled(argument, column, cells)
    return cells


def _text(cell: Any) -> str:
    import pandas as pd

    if isinstance(cell, (str, os.PathLike)):
        return os.fspath(cell)
    if not pd.api.types.is_scalar(cell):
        raise ValueError(f"a table cell must hold text or a number. Received: {cell!r}")
    if pd.isna(cell):
        return ""
    return (
        str(int(cell))
        if isinstance(cell, (float, np.floating)) and cell.is_integer()
        else str(cell)
    )


def _labels(cell: str, separator: str | None) -> list[str]:
    parts = [cell] if separator is None else cell.split(separator)
    return [tidy(part) for part in parts if part.strip()]


def _check_filled(argument: str, column: str, cells: Sequence[Any]) -> None:
    empty = [row for row, cell in enumerate(cells, 1) if not cell or not str(cell).strip()]
    if empty:
        shown = ", ".join(map(str, empty[:_SHOWN])) + (", ..." if len(empty) > _SHOWN else "")
        raise ValueError(
            f"no {argument} in column {column!r} of {len(empty)} rows (1 is the first below the "
            f"header): {shown}"
        )


def _check_exist(paths: Sequence[str]) -> None:
    missing = [
        f"  row {row}: {printable(path)}"
        for row, path in enumerate(paths, 1)
        if not os.path.exists(path)
    ]
    if missing:
        listing = "\n".join(missing[:_SHOWN])
        if len(missing) > _SHOWN:
            listing += f"\n  and {len(missing) - _SHOWN} more"
        raise ValueError(
            f"{len(missing)} of {len(paths)} images of the table do not exist (row 1 is the first "
            f"below the header):\n{listing}"
        )


def _split_numbers(cells: Sequence[str], column: str) -> NDArray[np.int64]:
    names = [SPLIT_NAMES.get(cell.strip().casefold()) for cell in cells]
    for row, (cell, name) in enumerate(zip(cells, names, strict=True), 1):
        if name is None:
            raise ValueError(
                f"column {column!r} must hold train, val or test. Received in row {row} (1 is the "
                f"first below the header): {cell!r}"
            )
    return np.array([SPLITS.index(name) for name in names if name is not None], np.int64)
