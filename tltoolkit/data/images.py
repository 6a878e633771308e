"""ImageData: labelled images with their splits, and all that can be asked of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.data.audit import Audit, audited
from tltoolkit.data.check import without_unfit
from tltoolkit.data.folds import fold_numbers
from tltoolkit.data.split import Split
from tltoolkit.data.terms import KFOLD, POLICIES


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
        _checks.arguments(KFOLD, locals())
        pool = self._pool()
        folds = fold_numbers(pool, n_splits, seed)
        # Not by `yield`: wrong arguments are then told here, not at the first fold.
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
        # As in the source, so that the folds do not hang on which images val had drawn.
        return both.subset(np.argsort(both.indices, kind="stable"))

    def audit(self, *, near_duplicates: bool = False) -> Audit:
        """Decode every image once and report what is wrong with the data.

        Uses all cores and shows progress on a terminal. The verdict on a file is remembered by
        its path, size and modification time, in the user's cache folder, so that a second audit
        decodes only what is new. Readable images that are hardly what was meant are listed too,
        by the thresholds of `data.suspects`: black, uniform, blurred, tiny, of an odd shape.

        Args:
            near_duplicates: also look for groups of images that look alike (perceptual hash);
                needs the package imagehash.
        """
        return audited(self.splits, self.skipped, near_duplicates=near_duplicates)

    def check(self, *, hashes: bool = False) -> "ImageData":
        """Audit the data and return it fit for training, by `on_bad` and `duplicates`.

        Args:
            hashes: Take and remember perceptual hashes on the way, by which near copies are told;
                they need imagehash.

        Raises:
            ValueError: images that cannot be read, with on_bad="error", or the same image in
                two splits, with duplicates="error"; the message lists them.
        """
        fit, left_out = without_unfit(self.splits, self.on_bad, self.duplicates, hashes)
        if not left_out:
            return self
        skipped = dict(Counter(self.skipped) + left_out)
        return replace(
            self, train=fit["train"], val=fit.get("val"), test=fit.get("test"), skipped=skipped
        )


def check_image_data(data: Any) -> None:
    """Raise TypeError unless the argument `data` is an `ImageData`."""
    rule = (
        "an ImageData, as tl.data makes it; of a generator or tf.data.Dataset by "
        "tl.data.from_stream"
    )
    _checks.instance("data", data, ImageData, rule)
