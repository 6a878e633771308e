"""Split and ImageData: which images there are, their labels and their splits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tltoolkit import _checks
from tltoolkit.data.sources import Source
from tltoolkit.data.stratify import Labels
from tltoolkit.data.terms import KFOLD, POLICIES

if TYPE_CHECKING:
    from tltoolkit.data.audit import Audit


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Split:
    """Some images of a source with their labels; nothing is decoded until asked for.

    Attributes:
        source: where the images come from.
        indices: (N,) int64, the images' places in the source.
        labels: (N,) int64 class numbers, or (N, C) uint8 zeros and ones if one image can have
            several labels. Read-only.
        class_names: the C class names; the number of a class is its place here.
        order_stated: False where their order was found by sorting, so that a model of another
            origin may have another.
        groups: (N,) texts, what must stay on one side of a split, such as the patient; or None.
    """

    source: Source
    indices: NDArray[np.int64]
    labels: Labels
    class_names: tuple[str, ...]
    order_stated: bool = True
    groups: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        for name, row in (("labels", self.labels), ("groups", self.groups)):
            if row is not None and len(self.indices) != len(row):
                raise _checks.fail(name, f"as many as the {len(self.indices)} images", len(row))
        self.indices.setflags(write=False)
        self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Split({len(self)} images, {len(self.class_names)} classes)"

    @property
    def multi_label(self) -> bool:
        """Whether one image can have several labels."""
        return self.labels.ndim == 2

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """How many images have each label: (C,) int64."""
        if self.multi_label:
            return np.asarray(self.labels.sum(axis=0), np.int64)
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    @property
    def paths(self) -> tuple[str | None, ...]:
        """Each image's file; None for an image that has no file of its own."""
        return tuple(self.source.path(int(index)) for index in self.indices)

    def label_text(self, i: int) -> str:
        """The class of image `i` by name; several are joined by "|"."""
        labels = np.flatnonzero(self.labels[i]) if self.multi_label else [self.labels[i]]
        return "|".join(self.class_names[label] for label in labels)

    def name(self, i: int) -> str:
        """What to call image `i` in an error or a report."""
        return self.source.name(int(self.indices[i]))

    def image(self, i: int, side: int | None = None) -> NDArray[np.uint8]:
        """Image `i` as (H, W, 3) uint8 RGB, upright, read-only. Safe to call from many threads.

        Args:
            i: which image, as a place in `indices`.
            side: of the square, in pixels, that it will be shrunk to, where that is known: image
                files may then be decoded at reduced scale, by the rule of `decode`. None gives
                the image in full.

        Raises:
            ImageError: the image cannot be read; it names the image and the reason.
        """
        index = int(self.indices[i])
        if side is None or not self._source_takes_side:
            return self.source.image(index)
        return self.source.image(index, side=side)  # type: ignore[call-arg] # it takes one

    @cached_property
    def _source_takes_side(self) -> bool:
        return _checks.takes(self.source.image, "side")

    def subset(self, indices: ArrayLike) -> "Split":
        """The images at `indices` (whole numbers, or a boolean mask of length N), in that order."""
        chosen = np.asarray(indices)
        if chosen.ndim != 1:
            raise _checks.fail("indices", "one row of whole numbers or a mask", indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        return replace(
            self,
            indices=self.indices[chosen],
            labels=self.labels[chosen],
            groups=None if self.groups is None else self.groups[chosen],
        )

    def in_classes(self, class_names: tuple[str, ...], multi_label: bool) -> "Split":
        """The same images with their labels as those of a classifier, by the names of the classes.

        Raises:
            ValueError: a class that the classifier has not, or several labels where it has one.
        """
        unknown = [name for name in self.class_names if name not in class_names]
        if unknown:
            raise _checks.fail(
                "class_names", f"among those of the classifier, {class_names}", unknown
            )
        if self.multi_label and not multi_label:
            raise _checks.fail("labels", "one class per image, as the classifier's", "several")
        places = np.array([class_names.index(name) for name in self.class_names], np.int64)
        if not multi_label:
            labels = places[self.labels]
            return replace(self, labels=labels, class_names=class_names, order_stated=True)
        labels = np.zeros((len(self), len(class_names)), np.uint8)
        rows = self.labels if self.multi_label else np.eye(len(places), dtype=np.uint8)[self.labels]
        labels[:, places] = rows
        return replace(self, labels=labels, class_names=class_names, order_stated=True)

    def joined(self, other: "Split") -> "Split":
        """These images and then those of another split, loaded together with this one."""
        if other.source is not self.source:
            raise _checks.fail("data", "splits that were loaded together, from one source", other)
        groups = None
        if self.groups is not None and other.groups is not None:
            groups = np.concatenate([self.groups, other.groups])
        return replace(
            self,
            indices=np.concatenate([self.indices, other.indices]),
            labels=np.concatenate([self.labels, other.labels]),
            groups=groups,
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImageData:
    """Labelled images, split once into train, val and test.

    Attributes:
        train, val, test: the splits; val and test may be None.
        on_bad: what `check` does about images that cannot be read: "error" or "skip".
        duplicates: what `check` does about the same image in two splits: "error", "drop" (it
            stays in test before val before train) or "allow".
        skipped: what was passed over while looking for images: {reason: count}.
        origin: what made it, as plain data: {"kind": "from_directory", "settings": its arguments,
            "not_kept": names of those that are no plain data}; None if it was put together by hand.
    """

    train: Split
    val: Split | None = None
    test: Split | None = None
    on_bad: str = "error"
    duplicates: str = "error"
    skipped: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _checks.fields(POLICIES, self)
        for name, split in self.splits.items():
            if split.class_names != self.class_names:
                raise _checks.fail(
                    f"{name}.class_names", f"those of train, {self.class_names}", split.class_names
                )
            if len(split) == 0:
                raise ValueError(f"the {name} split has no images")
        missing = [self.class_names[c] for c in np.flatnonzero(self.train.class_counts == 0)]
        if missing:
            raise ValueError(f"the train split has no image of class {', '.join(missing)}")

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name: train, then val, then test."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names of the training split."""
        return self.train.class_names

    @property
    def multi_label(self) -> bool:
        """Whether one image can have several labels."""
        return self.train.multi_label

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        skipped = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        note = f"; skipped: {skipped}" if skipped else ""
        return f"ImageData({len(self.class_names)} classes; {sizes}{note})"

    def kfold(self, n_splits: int = 5, seed: int = 0) -> Iterator["ImageData"]:
        """Split train and val together into `n_splits` folds; yield one ImageData per fold.

        Each image is in val exactly once; test stays as it is. Folds are stratified, and images
        with the same content or of one group are always in one fold. With groups the classes
        have their shares as far as whole groups allow it (scikit-learn's StratifiedGroupKFold).
        Unlike val and test, folds are dealt anew where images are added.

        Raises:
            ValueError: a class has fewer different images, or groups, than there are folds.
        """
        from tltoolkit.data.folds import fold_numbers

        _checks.arguments(KFOLD, locals())
        pool = self._pool()
        folds = fold_numbers(pool, n_splits, seed)
        return (
            replace(self, train=pool.subset(folds != fold), val=pool.subset(folds == fold))
            for fold in range(n_splits)
        )

    def _pool(self) -> Split:
        if self.val is None:
            return self.train
        if self.val.source is not self.train.source:
            raise ValueError("k-fold needs a train and a val split that were loaded together")
        both = self.train.joined(self.val)
        return both.subset(np.argsort(both.indices, kind="stable"))

    def audit(self, *, near_duplicates: bool = False) -> "Audit":
        """Decode every image once and report what is wrong with the data.

        Uses all cores and shows progress on a terminal. The verdict on a file is remembered by
        its path, size and modification time, in the user's cache folder, so that a second audit
        decodes only what is new. Readable images that are hardly what was meant are listed too,
        by the thresholds of `data.suspects`: black, uniform, blurred, tiny, of an odd shape.

        Args:
            near_duplicates: also look for groups of images that look alike (perceptual hash);
                needs the package imagehash.
        """
        from tltoolkit.data.audit import audit

        return audit(self, near_duplicates=near_duplicates)

    def check(self) -> "ImageData":
        """Audit the data and return it fit for training, by `on_bad` and `duplicates`.

        Raises:
            ValueError: images that cannot be read, with on_bad="error", or the same image in
                two splits, with duplicates="error"; the message lists them.
        """
        from tltoolkit.data.check import check

        return check(self)


def check_image_data(data: Any) -> None:
    """Raise TypeError unless the argument `data` is an `ImageData`."""
    rule = (
        "an ImageData, as tl.data makes it; of a generator or tf.data.Dataset by "
        "tl.data.from_stream"
    )
    _checks.instance("data", data, ImageData, rule)
