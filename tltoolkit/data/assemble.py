"""From images and labels to ImageData: class names, checks, and the splits that are missing."""

import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.data.images import ImageData, Split
from tltoolkit.data.sources import Source, same_content
from tltoolkit.data.stratify import Labels, deal, keep_every_label

SPLITS = ("train", "val", "test")
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


def check_settings(val: float, test: float, seed: int) -> None:
    """Raise ValueError unless the fractions and the seed can make splits."""
    _checks.number("val", val, 0, below=1)
    _checks.number("test", test, 0, below=1)
    _checks.integer("seed", seed, 0, 2**32 - 1)
    if val + test >= 1:
        raise _checks.fail("val + test", "less than 1", val + test)


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

    Classes are numbered as in `order`, or in `class_order` if there is none.

    Warns of classes that differ only in case.

    Raises:
        ValueError: val or test has a class that train lacks.
    """
    found: list[set[str]] = [
        {name for row, part in zip(labels, split, strict=True) if part == number for name in row}
        for number in range(len(SPLITS))
    ]
    for name, classes in zip(SPLITS, found, strict=True):
        unknown = class_order(classes - found[0])
        if unknown:
            raise ValueError(
                f"the {name} split has classes that the train split lacks: {', '.join(unknown)}"
                + "".join(f"; {pair}" for pair in _alike(found[0] | classes))
            )
    for pair in _alike(found[0]):
        warnings.warn(f"{pair}: are they one class?", stacklevel=3)
    class_names = tuple(name for name in order or class_order(found[0]) if name in found[0])
    number_of = {name: number for number, name in enumerate(class_names)}
    if not multi_label:
        return np.array([number_of[row[0]] for row in labels], np.int64), class_names
    matrix = np.zeros((len(labels), len(class_names)), np.uint8)
    for place, row in enumerate(labels):
        matrix[place, [number_of[name] for name in row]] = 1
    return matrix, class_names


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
    on_bad: str,
    duplicates: str,
    skipped: Mapping[str, int] | None = None,
) -> ImageData:
    """Make the ImageData; a val or test split that `split` lacks is taken from train.

    Images of equal content go to the same split. A class keeps at least one image in train.

    Args:
        split: (N,) int64, the split that the source gives each image: 0 train, 1 val, 2 test.
    """
    check_class_names(class_names)
    _check_counts(labels, class_names)
    given = set(split.tolist())
    shares = [0.0, 0.0 if 1 in given else val, 0.0 if 2 in given else test]
    shares[0] = 1 - sum(shares)
    if shares[0] < 1:
        train = np.flatnonzero(split == 0)
        groups = same_content(source, train)
        first = train[np.unique(groups, return_index=True)[1]]
        parts = keep_every_label(deal(labels[first], shares, seed), labels[first])
        split = split.copy()
        split[train] = parts[groups]
    whole = Split(
        source=source, indices=np.arange(len(source)), labels=labels, class_names=class_names
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


def _check_counts(labels: Labels, class_names: tuple[str, ...]) -> None:
    if labels.ndim == 2:
        counts, enough = labels.sum(axis=0, dtype=np.int64), 1
        if not class_names:
            raise ValueError("at least one class is needed, found none")
    else:
        counts, enough = np.bincount(labels, minlength=len(class_names)), 2
        if len(class_names) < 2:
            raise ValueError(f"at least two classes are needed, found only {class_names}")
    few = [f"{class_names[c]} ({counts[c]})" for c in np.flatnonzero(counts < enough)]
    if few:
        raise ValueError(f"every class needs at least {enough} images; too few: {', '.join(few)}")
