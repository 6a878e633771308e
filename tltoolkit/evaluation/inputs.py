"""Labels and probabilities as they come in: checked once, then trusted by the whole room."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import fail

IntArray = npt.NDArray[Any]  # integers or booleans of any width
FloatArray = npt.NDArray[Any]  # float32 or float64

SUM_TOLERANCE = 1e-3  # what half precision leaves of a softmax
_CHUNK_VALUES = 4_000_000  # values handled at a time: bounds the memory, keeps the cache warm


def chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices that cut `n_rows` rows of `n_columns` values into pieces of bounded size."""
    step = max(1, _CHUNK_VALUES // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def check_predictions(
    y_true: npt.ArrayLike, y_prob: npt.ArrayLike, multi_label: bool | None = None
) -> tuple[IntArray, FloatArray, bool]:
    """Labels, (N, C) probabilities, and whether one image may have several labels.

    Args:
        y_true: (N,) integers 0..C-1, or (N, C) zeros and ones for multi-label.
        y_prob: (N, C) probabilities in 0..1, each row summing to 1 unless multi-label; for two
            classes also (N,) or (N, 1): the probability of class 1.
        multi_label: None decides by the shape of `y_true`: two columns or more mean multi-label.

    Raises:
        ValueError: for anything else, naming the rule that was broken.
    """
    labels, prob = np.asarray(y_true), _as_floats(y_prob)
    # Keras hands out one label per row in a column of its own.
    if labels.ndim == 2 and labels.shape[1] == 1 and not multi_label:
        labels = labels[:, 0]
    several = labels.ndim == 2 if multi_label is None else multi_label
    if len(labels) == 0 or len(prob) == 0:
        raise fail("y_true", "non-empty: there is nothing to evaluate", labels)
    if len(labels) != len(prob):
        raise fail("y_prob", f"as long as `y_true`, which has {len(labels)} rows", prob.shape)
    if not several:
        prob = _two_columns(prob)
    elif prob.ndim == 1:
        raise fail("y_prob", "of shape (N, C) for multi-label", prob.shape)
    # One pass for range and sums: the array may be larger than any cache.
    row_sums = _check_range(prob)
    if several:
        _check_indicators(labels, prob, one_hot_like=multi_label is None, row_sums=row_sums)
        # An eighth of the room of int64.
        return labels.astype(np.uint8), prob, True
    _check_row_sums(row_sums)
    return check_integer_labels(labels, prob.shape[1]), prob, False


def check_integer_labels(labels: IntArray, n_classes: int) -> IntArray:
    """`labels` as (N,) int64, each in 0..n_classes-1, or ValueError."""
    if labels.ndim != 1:
        raise fail(
            "y_true",
            "integers of shape (N,); one-hot labels become that by y_true.argmax(axis=1), "
            "and several labels per image need multi_label=True",
            labels.shape,
        )
    # Whole floats are taken: tables and Keras hand labels out like that.
    kind = labels.dtype.kind
    if kind not in "iubf" or (kind == "f" and (labels % 1 != 0).any()):
        raise fail("y_true", "integers 0..C-1", labels)
    low, high = labels.min(), labels.max()
    if low < 0 or high >= n_classes:
        wrong = int(low if low < 0 else high)
        raise fail("y_true", f"between 0 and {n_classes - 1}, the last class", wrong)
    return labels.astype(np.int64, copy=False)


def check_class_names(class_names: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    """The names as text, one per class; "0", "1", ... where none are given."""
    if class_names is None:
        return tuple(map(str, range(n_classes)))
    names = tuple(map(str, class_names))
    if isinstance(class_names, str) or len(names) != n_classes:
        raise fail("class_names", f"one name for each of the {n_classes} classes", class_names)
    if len(set(names)) != n_classes:
        raise fail("class_names", "all different", class_names)
    return names


def _as_floats(y_prob: npt.ArrayLike) -> FloatArray:
    prob = np.asarray(y_prob)
    if prob.ndim not in (1, 2):
        raise fail("y_prob", "of shape (N, C), or (N,) for two classes", prob.shape)
    # Kept as they are: a copy as float64 doubles the memory. float16 cannot add up to 1.
    if prob.dtype in (np.float32, np.float64):
        return prob
    try:
        return prob.astype(np.float32 if prob.dtype.kind == "f" else np.float64)
    except (TypeError, ValueError):
        raise fail("y_prob", "an array of probabilities", y_prob) from None


def _two_columns(prob: FloatArray) -> FloatArray:
    """(N,) or (N, 1) probabilities of class 1 as (N, 2)."""
    if prob.ndim == 2 and prob.shape[1] != 1:
        return prob
    positive = prob.reshape(-1)
    return np.stack([1 - positive, positive], axis=1)


def _check_range(prob: FloatArray) -> FloatArray:
    """Raise unless every value lies in 0..1; the sums of the rows come out of the same pass."""
    sums = np.empty(len(prob))
    for rows in chunks(*prob.shape):
        part = prob[rows]
        # A NaN comes out of both, so that good rows need no array of booleans.
        low, high = part.min(), part.max()
        if not np.isfinite(low) or not np.isfinite(high):
            row = rows.start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            raise fail("y_prob", f"finite: row {row} holds NaN or infinity", prob[row].tolist())
        if low < 0 or high > 1 + SUM_TOLERANCE:
            outside = (part < 0) | (part > 1 + SUM_TOLERANCE)
            row = rows.start + int(np.flatnonzero(outside.any(axis=1))[0])
            rule = "probabilities in 0..1; logits need a softmax (or sigmoid) first"
            raise fail("y_prob", f"{rule}. See row {row}", prob[row].tolist())
        sums[rows] = part.sum(axis=1)
    return sums


def _check_row_sums(sums: FloatArray) -> None:
    wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(wrong):
        rule = "probabilities that sum to 1 in every row (multi_label=True lifts that)"
        raise fail("y_prob", f"{rule}. Row {wrong[0]} sums to", float(sums[wrong[0]]))


def _check_indicators(
    labels: IntArray, prob: FloatArray, one_hot_like: bool, row_sums: FloatArray
) -> None:
    if labels.shape != prob.shape:
        raise fail(
            "y_true", f"of the shape of `y_prob`, {prob.shape}, for multi-label", labels.shape
        )
    if not np.isin(labels, (0, 1)).all():
        raise fail("y_true", "zeros and ones for multi-label", labels)
    if one_hot_like:
        refuse_one_hot(labels, row_sums)


def refuse_one_hot(labels: IntArray, row_sums: FloatArray) -> None:
    """Raise if (N, C) labels and the sums of the probabilities look like one label per row."""
    if (labels.sum(axis=1) == 1).all() and (np.abs(row_sums - 1) <= SUM_TOLERANCE).all():
        rule = "integers: these are one-hot labels beside probabilities that sum to 1"
        how = "pass y_true.argmax(axis=1), or multi_label=True if several labels are possible"
        raise fail("y_true", f"{rule}; {how}", labels.shape)
