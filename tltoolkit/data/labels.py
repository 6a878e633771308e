"""Labels in the forms that people keep them in, as class numbers or rows of zeros and ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.data.assemble import class_order, tidy
from tltoolkit.data.stratify import Labels


def numbered(
    labels: NDArray[Any], class_names: Sequence[str] | None, multi_label: bool | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """Class numbers (N,), or zeros and ones (N, C) for several labels, and the C class names.

    Args:
        labels: (N,) or (N, 1) class numbers or texts, or (N, C) zeros and ones.
        class_names: as in `from_arrays`.
        multi_label: None takes rows that hold a single one each for one-hot classes, and a
            single column for class numbers.

    Raises:
        ValueError: labels of another form, or other than `multi_label` says.
    """
    if labels.ndim == 1 and multi_label:
        rule = "zeros and ones of the shape (N, C) with multi_label=True"
        raise _checks.fail("labels", rule, labels)
    if labels.ndim == 2 and labels.shape[1] == 1 and not several_in_one(class_names, multi_label):
        labels = labels[:, 0]
    if labels.ndim == 1:
        return _single(labels, class_names)
    rows, names = _indicators(labels, class_names)
    # A single column of ones would be one class, which tells nothing apart.
    one_hot = bool((rows.sum(axis=1) == 1).all()) and rows.shape[1] > 1
    if multi_label is False and not one_hot:
        rule = "rows with a single one each with multi_label=False"
        raise _checks.fail("labels", rule, rows[rows.sum(axis=1) != 1])
    if one_hot and not multi_label:
        return rows.argmax(axis=1).astype(np.int64), names
    return rows, names


def several_in_one(class_names: Sequence[str] | None, multi_label: bool | None) -> bool:
    """Whether a single column says if the one class is there, rather than which of two it is."""
    return bool(multi_label) or (multi_label is None and len(class_names or ()) == 1)


def _single(labels: NDArray[Any], class_names: Sequence[str] | None) -> tuple[Labels, Any]:
    if labels.dtype.kind in "UO" and all(isinstance(label, str) for label in labels):
        return _texts([tidy(label) for label in labels], class_names)
    if labels.dtype.kind not in "biuf" or not _whole(labels):
        raise _checks.fail("labels", "class numbers 0..C-1 or texts", labels)
    labels = labels.astype(np.int64)
    top = int(labels.max())
    least = int(labels.min())
    # Counted from 1, as in MATLAB: class 0 would be an output that is never right.
    if class_names is None and least > 0:
        rule = f"class numbers 0..C-1, but 0 is not among them; pass labels - {least}, or texts"
        raise _checks.fail("labels", rule, f"{least}..{top}")
    # Some number below must be unused; and a stray identifier would make names without end.
    if class_names is None and top >= len(labels):
        raise _checks.fail("labels", "class numbers 0..C-1 without gaps", top)
    names = tuple(map(str, range(top + 1))) if class_names is None else tuple(class_names)
    if labels.min() < 0 or top >= len(names):
        wrong = labels.min() if labels.min() < 0 else top
        raise _checks.fail("labels", f"class numbers 0..{len(names) - 1}", int(wrong))
    return labels, names


def _whole(labels: NDArray[Any]) -> bool:
    return labels.dtype.kind != "f" or bool(np.isfinite(labels).all() and (labels % 1 == 0).all())


def _texts(labels: list[str], class_names: Sequence[str] | None) -> tuple[Labels, tuple[str, ...]]:
    names = class_order(set(labels)) if class_names is None else tuple(class_names)
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise _checks.fail("labels", f"among the class names {names}", unknown)
    number_of = {name: number for number, name in enumerate(names)}
    return np.array([number_of[label] for label in labels], np.int64), names


def _indicators(
    labels: NDArray[Any], class_names: Sequence[str] | None
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    if not np.isin(labels, (0, 1)).all():
        raise _checks.fail("labels", "zeros and ones if of the shape (N, C)", labels)
    count = labels.shape[1]
    names = tuple(map(str, range(count))) if class_names is None else tuple(class_names)
    if len(names) != count:
        raise _checks.fail("class_names", f"{count} names, one per column of labels", names)
    return labels.astype(np.uint8), names
