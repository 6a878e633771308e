"""Ever larger parts of a training split in which every class has its share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.data.folds import rarest_labels

IntArray = npt.NDArray[np.int64]
# The default sizes: so many, the smallest this part of all.
COUNT, SMALLEST = 6, 1 / 32


def default_sizes(split: Any) -> list[int]:
    """Six sizes up to all images, evenly spaced on a log scale."""
    # Two of each class at least, or the smallest point is mere chance.
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

    It begins with one image of each class. Images with several labels go by their rarest. After
    that the images of a group follow one another, since more images of the same patients are
    not what more images would be; a group is of the class of its first image.
    """
    rng = np.random.default_rng(seed)
    labels, classes = split.labels, rarest_labels(split)
    units = np.arange(len(labels)) if split.groups is None else _numbers(split.groups)
    first_rows = np.unique(units, return_index=True)[1]
    key = np.empty(len(first_rows))
    for one in np.unique(classes[first_rows]):
        members = rng.permutation(np.flatnonzero(classes[first_rows] == one))
        # Evenly spaced from a random start, so that every beginning has its share of the class.
        key[members] = (np.arange(len(members)) + rng.random()) / len(members)
    # By group within equal keys, so that groups stay together.
    order = np.lexsort((units, key[units]))
    seen: set[int] = set()
    first = []
    for place, row in enumerate(order):
        new = {int(labels[row])} if labels.ndim == 1 else set(np.flatnonzero(labels[row]).tolist())
        if not new <= seen:
            first.append(place)
            seen |= new
    # One of each class first: a head cannot be scored on a class that it never saw.
    return np.concatenate([order[first], np.delete(order, first)])


def _numbers(groups: npt.NDArray[np.str_]) -> IntArray:
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)
