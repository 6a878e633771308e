"""Split: some images with their labels, which every other part of the room works on."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tltoolkit import _checks
from tltoolkit.data.sources import Source
from tltoolkit.data.stratify import Labels

# In the order of their numbers, which files of runs (`seen`) hold: never change it.
SPLITS = ("train", "val", "test")


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
        # Read by threads during training, and handed out uncopied: nobody may sort them in place.
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

    # Kept, since reading a signature takes a tenth of a millisecond, and `image` asks each time.
    @cached_property
    def _source_takes_side(self) -> bool:
        return _checks.takes(self.source.image, "side")

    def subset(self, indices: ArrayLike) -> "Split":
        """The images at `indices` (whole numbers, or a boolean mask of length N), in that order."""
        chosen = np.asarray(indices)
        if chosen.ndim != 1:
            raise _checks.fail("indices", "one row of whole numbers or a mask", indices)
        # NumPy takes an empty list for floats, which are no indices.
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
