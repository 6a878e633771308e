"""Parts of the training images: classes in their shares, copies and groups never apart."""

import warnings

import numpy as np
from numpy.typing import NDArray

from tltoolkit.data.dealing import units
from tltoolkit.data.split import Split
from tltoolkit.data.stratify import Labels, deal, keep_every_label, labels_of_rows


def fold_numbers(split: Split, n_splits: int, seed: int) -> NDArray[np.int64]:
    """The fold of each image, (N,) int64 from 0 on; see `ImageData.kfold`.

    Raises:
        ValueError: a class has fewer different images, or groups, than there are folds.
    """
    together = units(split.source, split.indices, split.groups)
    counts = _unit_counts(split, together)
    what = "different images" if split.groups is None else "groups"
    for name, count in zip(split.class_names, counts.tolist(), strict=True):
        if count < n_splits:
            raise ValueError(
                f"`n_splits` must be at most the number of {what} of every class: "
                f"class {name!r} has {count}. Received: n_splits={n_splits}"
            )
    if split.groups is not None:
        return _grouped(split, together, n_splits, seed)
    # One image stands for all of its copies, and is dealt with its own label.
    first = split.subset(np.unique(together, return_index=True)[1])
    return deal(first.labels, [1 / n_splits] * n_splits, seed)[together]


def set_aside(
    labels: Labels, together: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which images are the part that others are judged by: (N,) bool.

    Every class keeps an image outside, and has one inside if it has two that can be told apart,
    as far as the share goes: where classes are many and small the rarest stay outside. So none
    may be set aside of very few images.

    Args:
        labels: (N,) class numbers, or (N, C) zeros and ones.
        together: (N,) equal where images must stay together.
        share: of the images, or of what stays together.
        seed: shuffles them.
    """
    units = np.unique(together, return_inverse=True)[1]
    own = _labels_of_units(labels, units)
    parts = keep_every_label(deal(own, [1 - share, share], seed), own)
    inside = np.flatnonzero(parts == 1)
    excess = max(0, len(inside) - round(share * len(own)))
    parts[inside[_spare_first(own, inside)[:excess]]] = 0
    return np.asarray(parts[units] == 1)


def _unit_counts(split: Split, together: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C,) how many images, or groups, of each class can be told apart.

    Args:
        split: the N images.
        together: (N,) equal where they must stay together.
    """
    pairs = {
        (label, unit)
        for row, unit in zip(labels_of_rows(split.labels), together.tolist(), strict=True)
        for label in row
    }
    classes = [label for label, _ in pairs]
    return np.bincount(classes, minlength=len(split.class_names)).astype(np.int64)


def _grouped(
    split: Split, together: NDArray[np.int64], n_splits: int, seed: int
) -> NDArray[np.int64]:
    # Loading takes seconds, and few data sets have groups.
    from sklearn.model_selection import StratifiedGroupKFold

    folds = np.empty(len(split), np.int64)
    dealer = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Of several labels the rarest counts, which may be fewer images than folds.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = dealer.split(folds, rarest_labels(split), together)
        for number, (_, held) in enumerate(parts):
            folds[held] = number
    return folds


def rarest_labels(split: Split) -> NDArray[np.int64]:
    """(N,) the class of each image; of several the rarest, of none -1."""
    if split.labels.ndim == 1:
        return np.asarray(split.labels, np.int64)
    counts = np.where(split.labels > 0, split.class_counts, np.inf)
    # Of a row of nothing but inf argmin would be class 0.
    return np.where(split.labels.any(axis=1), counts.argmin(axis=1), -1)


def _labels_of_units(labels: Labels, units: NDArray[np.int64]) -> Labels:
    """The class of each unit, (U,), or where one has several or none all of them, (U, C)."""
    rows = np.eye(labels.max() + 1, dtype=np.uint8)[labels] if labels.ndim == 1 else labels
    matrix = np.zeros((units.max() + 1, rows.shape[1]), np.uint8)
    np.maximum.at(matrix, units, rows.astype(np.uint8))
    return matrix.argmax(axis=1) if (matrix.sum(axis=1) == 1).all() else matrix


def _spare_first(labels: Labels, inside: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order in which units go back: the further ones of a class, then those of rare ones."""
    rows = labels_of_rows(labels)
    counts = np.bincount([label for row in rows for label in row])
    rarest = np.array(
        [min(row, key=lambda label: (counts[label], label), default=-1) for row in rows]
    )
    turn = np.zeros(len(inside), np.int64)
    for one in np.unique(rarest[inside]):
        of_class = np.flatnonzero(rarest[inside] == one)
        turn[of_class] = np.arange(len(of_class))
    # The rarest of a unit without labels is -1, which takes what was appended: as the commonest.
    return np.lexsort((np.append(counts, len(rows))[rarest[inside]], -turn))
