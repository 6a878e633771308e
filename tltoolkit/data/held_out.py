"""Which of some labelled images may score a classifier, by the record of what it has seen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tltoolkit.data.seen import Seen
from tltoolkit.data.split import SPLITS, Split

_TRAIN, _VAL = SPLITS.index("train"), SPLITS.index("val")
# What an image is to a classifier, in the words of the note.
_KINDS = {
    "test": "of its test split",
    "new": "new to it",
    "val": "that picked its best epoch (validation)",
    "train": "that it was trained on",
    "group": "new, of groups that it was trained or validated on",
}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is scored.

    Attributes:
        split: The images.
        on: What they are, "unseen", "test", "val", "train" or "all"; "val" also
            where "unseen" was asked for and there is nothing of it.
        scored, left_out: How many images there are of each kind: "test" and "val" and "train" of
            those splits of the run, "new" to it, and new of a "group" that it has seen.
        caution: Why the figures say less than they seem to, or "".
    """

    split: Split
    on: str
    scored: dict[str, int]
    left_out: dict[str, int]
    caution: str

    def __str__(self) -> str:
        scored = _listed(self.scored) or f"{len(self.split)} images"
        left_out = _listed(self.left_out)
        return f"scored: {scored}" + (f"; left out: {left_out}" if left_out else "")


def choose(images: Split, seen: Seen | None, on: str, run: str) -> Chosen:
    """The images that score the classifier of a run.

    Args:
        images: all that there are.
        seen: what the run noted; None if it noted nothing.
        on: "unseen" is what it neither trained nor validated on, or else, if it kept nothing
            apart, its validation images; or one of the run's splits; or "all".
        run: what to call the run.

    Raises:
        ValueError: it cannot be known which images those are, or there are none.
    """
    check_known(seen, on, run)
    if seen is None or not seen.files:
        caution = f"{run} may have seen these images: which it was trained on is not known"
        return Chosen(split=images, on=on, scored={}, left_out={}, caution=caution)
    kinds = _kinds(images, seen)
    if on == "unseen":
        _check_groups(images, seen, kinds, run)
        wanted = ["test", "new"]
        # A run that kept a test split is not scored on validation images just because DIR lacks it.
        if not np.isin(kinds, wanted).any() and not seen.count("test"):
            on = "val"
    kept = (
        np.ones(len(kinds), bool)
        if on == "all"
        else np.isin(kinds, wanted if on == "unseen" else [on])
    )
    if not kept.any():
        there = _listed(_counts(kinds))
        raise ValueError(f"no image to score with --split {on}: in DIR are {there} ({run})")
    return Chosen(
        split=images.subset(kept),
        on=on,
        scored=_counts(kinds[kept]),
        left_out=_counts(kinds[~kept]),
        caution=_caution(_counts(kinds[kept]), run),
    )


def check_known(seen: Seen | None, on: str, run: str) -> None:
    """Raise ValueError if which images a run has seen is needed and not known."""
    if on == "all" or (seen is not None and seen.files):
        return
    why = (
        "does not say which images it was trained on: an earlier tltoolkit or other code made it"
        if seen is None
        else "was trained on images that were no files, which cannot be recognised among files"
    )
    raise ValueError(
        f"{run} {why}. A score could rest on images that it has learned. If it has seen none of "
        "those in DIR, pass --split all to score it on all of them"
    )


def _kinds(images: Split, seen: Seen) -> NDArray[np.str_]:
    numbers, groups = seen.split_of(images), seen.split_of_group(images)
    kinds = np.full(len(images), "new", "U5")  # "group", the longest, has five letters
    kinds[(groups == _TRAIN) | (groups == _VAL)] = "group"
    # After the groups: of an image that was seen itself, its group says nothing more.
    for number, name in enumerate(SPLITS):
        kinds[numbers == number] = name
    return kinds


def _check_groups(images: Split, seen: Seen, kinds: NDArray[np.str_], run: str) -> None:
    if seen.grouped and images.groups is None and (kinds == "new").any():
        raise ValueError(
            f"{run} kept groups of images together, and of which group the {(kinds == 'new').sum()}"
            " new images in DIR are is not known: pass --groups as the run had them, or --split "
            "test for the images that the run itself held out"
        )


def _caution(scored: dict[str, int], run: str) -> str:
    if "train" in scored:
        return f"{run} was trained on {scored['train']} of these images: the figures flatter it"
    if "val" in scored:
        return (
            f"{scored['val']} of these images are the validation split, which picked the best "
            f"epoch of {run}: the figures flatter it"
        )
    return ""


def _counts(kinds: NDArray[np.str_]) -> dict[str, int]:
    return {kind: int((kinds == kind).sum()) for kind in _KINDS if (kinds == kind).any()}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {_KINDS[kind]}" for kind, count in counts.items())
