"""Labels in any form, and how many there are of each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.terms import LONG_TAIL

FORMS = (
    "class numbers (N,), or (N, C) rows of values in 0..1 that sum to 1, or, with "
    "multi_label=True, (N, C) zeros and ones"
)


def as_labels(labels: npt.ArrayLike, multi_label: bool = False) -> npt.NDArray[Any]:
    """Labels as (N,) int64 class numbers, or (N, C) float64 where soft or multi-label.

    Raises:
        ValueError: Labels of another form, or none at all.
    """
    given = np.asarray(labels)
    # A column, as pandas and Keras give class numbers; of multi-label it is a single class.
    if given.ndim == 2 and given.shape[1] == 1 and not multi_label:
        given = given[:, 0]
    # Text is refused here, too: below it would fail with an error of NumPy's.
    if not len(given) or given.dtype.kind not in "iubf" or given.ndim not in (1, 2):
        raise _checks.fail("labels", FORMS, labels)
    if given.ndim == 1:
        if multi_label or (given < 0).any() or (given % 1 != 0).any():
            raise _checks.fail("labels", FORMS, labels)
        return given.astype(np.int64, copy=False)
    return _rows(given.astype(np.float64), multi_label)


def class_counts(
    labels: npt.ArrayLike, classes: int | None = None, multi_label: bool = False
) -> npt.NDArray[np.float64]:
    """How many labels there are of each class: (C,); soft labels count as their shares.

    Args:
        labels: In any form, see `tltoolkit.imbalance`.
        classes: C, for class numbers whose highest may be missing; None goes by the labels.
        multi_label: Whether a row may have several labels.

    Raises:
        ValueError: Labels of another form, or with a class beyond `classes`.
    """
    values = as_labels(labels, multi_label)
    found = values.shape[1] if values.ndim == 2 else int(values.max()) + 1
    if classes is not None:
        _checks.integer("classes", classes, found)
    # `minlength` for classes above the highest that occurs.
    counts = values.sum(0) if values.ndim == 2 else np.bincount(values, minlength=classes or 0)
    # Floats for hard labels, too: soft ones have shares, and one type serves both.
    return np.asarray(counts, np.float64)


def class_prior(
    labels: npt.ArrayLike, classes: int | None = None, multi_label: bool = False
) -> npt.NDArray[np.float64]:
    """The share of the rows that have each class: (C,); sums to 1 unless `multi_label`."""
    return class_counts(labels, classes, multi_label) / len(np.asarray(labels))


def check_counts(
    counts: npt.ArrayLike, class_names: Sequence[str] | None = None
) -> npt.NDArray[np.float64]:
    """`counts` as (C,) float64, if there are two classes or more and each has samples.

    Raises:
        ValueError: Otherwise; it names the class.
    """
    values = np.asarray(counts)
    finite = values.ndim == 1 and values.dtype.kind in "iuf" and np.isfinite(values).all()
    if not finite or (values < 0).any():
        raise _checks.fail("counts", "one number >= 0 for each class", counts)
    names = names_of(len(values), class_names)
    if len(values) < 2:
        raise ValueError(
            f"imbalance is between two classes or more; there is only class {names[0]!r}"
            if len(values)
            else "imbalance is between two classes or more; there is none"
        )
    if empty := [name for name, count in zip(names, values, strict=True) if count == 0]:
        raise ValueError(f"no training samples of class {', '.join(map(repr, empty))}")
    return values.astype(np.float64)


def names_of(classes: int, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The names, or "0", "1", ... where there are none."""
    names = tuple(map(str, range(classes) if class_names is None else class_names))
    if len(names) != classes:
        raise _checks.fail("class_names", f"{classes} names, one for each class", class_names)
    return names


def long_tail(labels: npt.ArrayLike, ratio: float, seed: int = 0) -> npt.NDArray[np.int64]:
    """Rows of a balanced data set that leave it imbalanced, for experiments.

    Class c keeps a share of ratio^(-c / (C - 1)) of the size of the smallest class: all of class
    0, one row in `ratio` of the last class, never less than one row.

    Args:
        labels: (N,) class numbers.
        ratio: Size of the first class over that of the last one, >= 1.
        seed: Seed of which rows stay, >= 0.

    Returns:
        Indices of the rows that stay, ascending.
    """
    _checks.arguments(LONG_TAIL, locals())
    values = as_labels(labels)
    if values.ndim == 2:
        raise _checks.fail("labels", "class numbers (N,)", labels)
    counts = check_counts(class_counts(values))
    share = float(ratio) ** -(np.arange(len(counts)) / (len(counts) - 1))
    kept = np.maximum(1, np.round(counts.min() * share)).astype(np.int64)
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(values == c))[:n] for c, n in enumerate(kept)]
    return np.sort(np.concatenate(rows))


def _rows(values: npt.NDArray[np.float64], multi_label: bool) -> npt.NDArray[Any]:
    if multi_label:
        # Soft multi-label rows are refused: no weight or rate here is defined for them.
        if not np.isin(values, (0, 1)).all():
            raise _checks.fail("labels", FORMS, values)
        return values
    # A NaN fails both comparisons.
    within = (values >= 0).all() and (np.abs(values.sum(1) - 1) < 1e-3).all()
    if not within:
        raise _checks.fail("labels", FORMS, values)
    # As class numbers, so that sampling gives exact quotas.
    one_hot = np.isin(values, (0, 1)).all()
    return values.argmax(1).astype(np.int64) if one_hot else values
