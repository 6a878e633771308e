"""From images and labels to ImageData: class names, checks, and the splits that are missing."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.data import dealing
from tltoolkit.data import groups as grouping
from tltoolkit.data.images import ImageData
from tltoolkit.data.sources import Source
from tltoolkit.data.split import SPLITS, Split
from tltoolkit.data.stratify import Labels
from tltoolkit.data.terms import POLICIES, SPLITTING

# Other names that folders, tables and data sets use for the three splits; case does not matter.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "development": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}


def check_arguments(table: _checks.Table, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of a source that `assemble` takes as they are.

    Raises:
        ValueError, TypeError: One that is not as the table of the source says.
    """
    _checks.arguments(table, given)
    val, test = given["val"], given["test"]
    if val + test >= 1:
        raise _checks.fail("val + test", "less than 1", val + test)
    return {name: given[name] for name in (*SPLITTING, *POLICIES) if name in given}


def class_order(names: set[str]) -> tuple[str, ...]:
    """Class names in their order: by value if all are whole numbers, else by code points."""
    if all(name.isascii() and name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def tidy(name: str) -> str:
    """A class name without outer blanks, its accents in one form (NFC) on every machine."""
    return unicodedata.normalize("NFC", name.strip())


def check_class_names(names: Sequence[str]) -> None:
    """Raise ValueError unless the names are different, not blank, and usable as file names."""
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise _checks.fail("class_names", "texts that are not blank", name)
        # Text that UTF-8 cannot hold comes from folder names in another encoding.
        if "/" in name or "\\" in name or name.encode("utf-8", "ignore").decode() != name:
            rule = "valid text without slashes, since reports name files by class"
            raise _checks.fail("class_names", rule, name)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise _checks.fail("class_names", "different from one another", twice)


def encode(
    labels: Sequence[Sequence[str]],
    split: NDArray[np.int64],
    *,
    multi_label: bool,
    order: Sequence[str] | None = None,
) -> tuple[Labels, tuple[str, ...]]:
    """Number the labels of each image; the class names are those of the training split.

    Classes are numbered as in `order`, which names all of them, or in `class_order` if there is
    none.

    Warns of classes that differ only in case.

    Raises:
        ValueError: val or test has a class that train lacks, or `order` other classes.
    """
    found: list[set[str]] = [
        {name for row, part in zip(labels, split, strict=True) if part == number for name in row}
        for number in range(len(SPLITS))
    ]
    for name, classes in zip(SPLITS, found, strict=True):
        # Never numbered within val or test: Keras 3.15.1 does that for folders, and where one lacks
        # a class, the labels of all that follow are wrong without a word.
        unknown = class_order(classes - found[0])
        if unknown:
            raise ValueError(
                f"the {name} split has classes that the train split lacks: {', '.join(unknown)}"
                + "".join(f"; {pair}" for pair in _alike(found[0] | classes))
            )
    class_names = class_order(found[0]) if order is None else tuple(order)
    if set(class_names) != found[0]:
        rule = f"all classes of the training images, {class_order(found[0])}, and no others"
        raise _checks.fail("class_names", rule, class_names)
    for pair in _alike(found[0]):
        warnings.warn(f"{pair}: are they one class?", stacklevel=3)
    number_of = {name: number for number, name in enumerate(class_names)}
    if not multi_label:
        return np.array([number_of[row[0]] for row in labels], np.int64), class_names
    matrix = np.zeros((len(labels), len(class_names)), np.uint8)
    for place, row in enumerate(labels):
        matrix[place, [number_of[name] for name in row]] = 1
    return matrix, class_names


def stated(class_names: Sequence[str] | None) -> tuple[str, ...] | None:
    """`class_names` as the user of a source gave them, tidied; ValueError for what is no name."""
    if class_names is None:
        return None
    _checks.instance("class_names", class_names, (list, tuple), "a list of names")
    check_class_names(class_names)
    return tuple(map(tidy, class_names))


def _alike(names: set[str]) -> list[str]:
    """The classes that differ only in case; not letters, which are classes of handwriting."""
    spelt: dict[str, list[str]] = {}
    for name in class_order(names):
        spelt.setdefault(name.casefold(), []).append(name)
    several = [same for folded, same in spelt.items() if len(same) > 1 and len(folded) > 1]
    return [f"{' and '.join(same)} differ only in case" for same in several]


def assemble(
    source: Source,
    labels: Labels,
    class_names: tuple[str, ...],
    split: NDArray[np.int64],
    *,
    val: float,
    test: float,
    seed: int,
    duplicates: str,
    on_bad: str = "error",
    skipped: Mapping[str, int] | None = None,
    order_stated: bool = True,
    groups: NDArray[np.str_] | None = None,
) -> ImageData:
    """Make the ImageData; a val or test split that `split` lacks is taken from train.

    Which images it takes is the rule of `dealing.split_numbers`.

    Args:
        split: (N,) int64, the split that the source gives each image: 0 train, 1 val, 2 test.
        order_stated: whether the order of the classes is the user's or the data's own.
        groups: (N,) what must stay in one split, or None.

    Raises:
        ValueError: too few images of a class, wrong names, or groups that cannot be kept together.
    """
    check_class_names(class_names)
    if groups is not None:
        grouping.check_given(groups, split, SPLITS)
    given = set(split.tolist())
    shares = 0.0 if 1 in given else val, 0.0 if 2 in given else test
    _check_counts(labels, class_names, dealt=any(shares))
    if any(shares):
        train = np.flatnonzero(split == 0)
        kept = None if groups is None else groups[train]
        if kept is not None:
            grouping.check_several(kept)
        split = split.copy()
        split[train] = dealing.split_numbers(
            source, train, labels[train], class_names, kept, shares, seed
        )
    whole = Split(
        source=source,
        indices=np.arange(len(source)),
        labels=labels,
        class_names=class_names,
        order_stated=order_stated,
        groups=groups,
    )
    train_split, val_split, test_split = (whole.subset(split == n) for n in range(len(SPLITS)))
    return ImageData(
        train=train_split,
        val=val_split if len(val_split) else None,
        test=test_split if len(test_split) else None,
        on_bad=on_bad,
        duplicates=duplicates,
        skipped={reason: count for reason, count in (skipped or {}).items() if count},
    )


def _check_counts(labels: Labels, class_names: tuple[str, ...], *, dealt: bool) -> None:
    """Raise ValueError if there is too little to split; what is not split may be a single image."""
    if not dealt and class_names:
        return
    if labels.ndim == 2:
        # Dealt whole, with all of its labels, an image cannot promise a part for each of them.
        counts, enough = labels.sum(axis=0, dtype=np.int64), 1
        if not class_names:
            raise ValueError("at least one class is needed, found none")
    else:
        # One for train, and one that can be judged by.
        counts, enough = np.bincount(labels, minlength=len(class_names)), 2
        if len(class_names) < 2:
            raise ValueError(f"at least two classes are needed, found only {class_names}")
    few = [f"{class_names[c]} ({counts[c]})" for c in np.flatnonzero(counts < enough)]
    if few:
        raise ValueError(f"every class needs at least {enough} images; too few: {', '.join(few)}")
