"""Ever larger parts of a training split in which every class has its share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks

IntArray = npt.NDArray[np.int64]
# The default sizes: so many, the smallest this part of all.
COUNT, SMALLEST = 6, 1 / 32


def default_sizes(split: Any) -> list[int]:
    """Six sizes up to all images, evenly spaced on a log scale."""
    low = max(2 * len(split.class_names), round(len(split) * SMALLEST))
    low = min(low, len(split))
    return sorted({int(size) for size in np.geomspace(low, len(split), COUNT).round()})


def check_sizes(sizes: Any, split: Any) -> list[int]:
    """The sizes in rising order.

    Raises:
        ValueError: Fewer than three, or one below the number of classes or above that of images.
    """
    _checks.instance("sizes", sizes, Sequence, "a sequence of integers")
    low, high = len(split.class_names), len(split)
    for size in sizes:
        if type(size) is bool or not isinstance(size, (int, np.integer)) or not low <= size <= high:
            rule = f"integers from {low} (the classes) to {high} (the training images)"
            raise _checks.fail("sizes", rule, size)
    chosen = sorted({int(size) for size in sizes})
    if len(chosen) < 3:
        raise _checks.fail("sizes", "at least 3 different numbers, to fit a law to", list(sizes))
    return chosen


def nested(split: Any, seed: int) -> IntArray:
    """An order (N,) of the rows of which every beginning has each class in its share.

    It begins with one image of each class. Images with several labels go by their rarest.
    """
    rng = np.random.default_rng(seed)
    labels = split.labels
    if labels.ndim == 1:
        group = labels
    else:
        counts = np.where(labels > 0, split.class_counts, np.inf)
        group = np.where(labels.any(axis=1), counts.argmin(axis=1), -1)
    key = np.empty(len(labels))
    for one in np.unique(group):
        rows = rng.permutation(np.flatnonzero(group == one))
        key[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    order = np.argsort(key, kind="stable")
    seen: set[int] = set()
    first = []
    for place, row in enumerate(order):
        new = {int(labels[row])} if labels.ndim == 1 else set(np.flatnonzero(labels[row]).tolist())
        if not new <= seen:
            first.append(place)
            seen |= new
    return np.concatenate([order[first], np.delete(order, first)])
