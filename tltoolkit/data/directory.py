"""Images in folders, one folder per class."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tltoolkit import _checks
from tltoolkit.data.assemble import (
    SPLIT_NAMES,
    assemble,
    check_arguments,
    encode,
    stated,
    tidy,
)
from tltoolkit.data.decoding import MAX_PIXELS
from tltoolkit.data.groups import by_path
from tltoolkit.data.images import ImageData
from tltoolkit.data.origin import remembered
from tltoolkit.data.sources import Files
from tltoolkit.data.split import SPLITS
from tltoolkit.data.terms import FROM_DIRECTORY
from tltoolkit.data.walk import files, visible


class _Found(NamedTuple):
    """One image; images are ordered by these fields."""

    key: str
    path: str
    class_name: str
    split: int


@remembered
def from_directory(
    root: str | os.PathLike[str],
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    on_bad: str = "error",
    duplicates: str = "error",
    max_pixels: int = MAX_PIXELS,
    class_names: Sequence[str] | None = None,
    groups: str | Callable[[str], Any] | None = None,
) -> ImageData:
    r"""Labelled images from root/<class>/* or root/{train,val,test}/<class>/*.

    Images may lie deeper inside a class folder. Nothing is decoded here: `ImageData.check` and
    `ImageData.audit` tell what is not an image. Hidden files, the litter of operating systems,
    dangling links and link loops are passed over and counted in `ImageData.skipped`. The order of
    images depends on their names alone. Classes are ordered by code points, or by value if all
    their names are whole numbers, unless `class_names` says otherwise.

    In which split an image is depends on its own content (or group), the seed and the shares
    alone: an image that is added, removed or renamed moves no other, and a larger share only
    takes images from train. So the shares hold on average, in all and in each class, and not to
    the image; with few images a warning names the classes that a split lacks. Every class keeps
    an image in train. Of files over 64 KiB the size and three blocks of 16 KiB are read.

    Args:
        root: the folder. Its folders are splits if one of them is "train" (or "training") and
            holds folders itself; "valid", "validation", "dev", "development", "eval" and
            "evaluation" are val, "testing" is test.
        val: fraction of the training images for val, 0 <= val < 1, if root has no val folder.
        test: the same for test.
        seed: of the splits that are made here, 0..2**32 - 1.
        on_bad: what `check` does about files that are not images: "error" lists them, "skip"
            leaves them out with a warning.
        duplicates: what `check` does about one image in several splits: "error" lists them, "drop"
            keeps it in test before val before train, "allow" leaves them. Splits made here never
            share an image.
        max_pixels: images of more pixels than this are errors.
        class_names: all classes, the names of their folders, in the order of their numbers. A
            model of another origin has an order of its own: Keras' loader sorts names as text,
            so that 10 comes before 2.
        groups: what must stay on one side of every split and fold, such as the images of one
            patient: a regular expression that is searched in the path below root, with slashes,
            and whose first group in parentheses, or else whole match, names the group
            (r"patient_(\d+)"); or a function from that path to a text or whole number.

    Raises:
        ValueError: no class folders, a class with fewer than two images where a split is made, a
            class in val or test that train lacks, an image without group, a single group, one in
            several of the folders train, val and test, or a wrong argument.
    """
    splitting = check_arguments(FROM_DIRECTORY, locals())
    order = stated(class_names)
    top = os.path.abspath(os.fspath(root))
    if not os.path.isdir(top):
        raise _checks.fail("root", "a folder that exists", str(root))
    skipped: Counter[str] = Counter()
    found = sorted(
        image
        for split, folder in _split_folders(top, skipped).items()
        for image in _images(top, folder, SPLITS.index(split), skipped)
    )
    if not found:
        raise ValueError(f"no images in {root}: they belong in one folder per class")
    split_numbers = np.array([image.split for image in found], np.int64)
    labels, used_names = encode(
        [(image.class_name,) for image in found], split_numbers, multi_label=False, order=order
    )
    return assemble(
        Files([image.path for image in found], max_pixels),
        labels,
        used_names,
        split_numbers,
        order_stated=order is not None,
        **splitting,
        skipped=skipped,
        groups=by_path(groups, [image.key for image in found]),
    )


def _split_folders(root: str, skipped: Counter[str]) -> dict[str, str]:
    """The folder of each split; root itself is train if its folders are classes."""
    # Into a counter of its own: each folder is looked through again, and counted, below.
    folders = sorted(entry.path for entry in visible(root, Counter()) if entry.is_dir())
    splits = {path: SPLIT_NAMES.get(os.path.basename(path).casefold()) for path in folders}
    # A class may be called "train" as well, of pictures of trains: it then holds no folders.
    nested = (
        any(entry.is_dir() for entry in visible(path, Counter()))
        for path, split in splits.items()
        if split == "train"
    )
    if not any(nested):
        if folders and all(splits.values()):
            names = ", ".join(os.path.basename(path) for path in folders)
            raise ValueError(f"{root} has the folders {names}, but no train folder with classes")
        return {"train": root}
    others = [os.path.basename(path) for path, split in splits.items() if split is None]
    if others:
        raise ValueError(
            f"{root} has a train folder with classes and also folders that are no split: "
            f"{', '.join(others)}; move them elsewhere"
        )
    if len(set(splits.values())) < len(splits):
        raise ValueError(f"{root} has two folders for one split: {', '.join(folders)}")
    skipped["outside the class folders"] += sum(
        not entry.is_dir() for entry in visible(root, skipped)
    )
    return {split: path for path, split in splits.items() if split is not None}


def _images(top: str, folder: str, split: int, skipped: Counter[str]) -> list[_Found]:
    found, folders = [], []
    for entry in visible(folder, skipped):
        if not entry.is_dir():
            skipped["outside the class folders"] += 1
            continue
        folders.append(entry.path)
        paths = list(files(entry.path, skipped))
        # In val and test a class may be missing; to train on none is a mistake.
        if not paths and split == 0:
            raise ValueError(f"the class folder {entry.path} has no images")
        found += [_Found(_key(path, top), path, tidy(entry.name), split) for path in paths]
    if split == 0 and len(folders) == 1:
        _check_depth(folders[0])
    return found


def _check_depth(folder: str) -> None:
    """Raise ValueError if the only class folder seems to be the one in which the classes lie."""
    inner = sorted(entry.name for entry in visible(folder, Counter()) if entry.is_dir())
    if inner:
        raise ValueError(
            f"the only class folder is {folder}, which holds the folders {', '.join(inner)}; if "
            "those are the classes or the splits, they lie one folder too deep: move them up, or "
            "give that folder"
        )


def _key(path: str, top: str) -> str:
    """The path below `top` with slashes, its accents in one form on every machine."""
    # Some file systems of macOS hand names out with accents apart, which would sort elsewhere.
    return unicodedata.normalize("NFC", os.path.relpath(path, top).replace(os.sep, "/"))
