"""Make data fit for training, or say why it is not."""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tltoolkit.data import listing
from tltoolkit.data.duplicates import Group, Member, copies, crosses_splits, describe
from tltoolkit.data.split import Split
from tltoolkit.data.verdicts import inspect

# The split that keeps an image that several have: scores must not depend on such images.
_KEEPERS = ("test", "val", "train")


def without_unfit(
    splits: dict[str, Split], on_bad: str, duplicates: str, hashes: bool
) -> tuple[dict[str, Split], Counter[str]]:
    """The splits without what is unfit, and how many images that is by reason.

    See `ImageData.check`.
    """
    verdicts = dict(zip(splits, inspect(list(splits.values()), hashes=hashes), strict=True))
    bad = {
        Member(split, i): f"{splits[split].name(i)}: {verdict.reason}"
        for split, row in verdicts.items()
        for i, verdict in enumerate(row)
        if verdict.reason is not None
    }
    leaks = [group for group in copies(verdicts) if crosses_splits(group)]
    if bad:
        _report_unreadable(list(bad.values()), sum(map(len, splits.values())), on_bad)
    extra: list[Member] = []
    if leaks and duplicates != "allow":
        _report_leaks([describe(group, splits) for group in leaks], duplicates)
        extra = [member for group in leaks for member in _extra(group)]
    # Two reasons never meet in one image: copies are told among readable ones alone.
    left_out = Counter({"unreadable": len(bad), "copies in another split": len(extra)})
    return _without(splits, [*bad, *extra]), +left_out


def _report_unreadable(lines: Sequence[str], total: int, on_bad: str) -> None:
    listed = f"{len(lines)} of {total} images cannot be read:\n{_listing(lines)}"
    if on_bad == "error":
        raise ValueError(f'{listed}\nRepair or remove them, or pass on_bad="skip" to go without.')
    # The level, here and below, is that of the line that calls `ImageData.check`.
    warnings.warn(f"left out: {listed}", stacklevel=4)


def _report_leaks(lines: Sequence[str], duplicates: str) -> None:
    listed = f"{len(lines)} images are in more than one split:\n{_listing(lines)}"
    if duplicates == "error":
        raise ValueError(
            f"{listed}\nScores on them say nothing. Remove them, or pass "
            'duplicates="drop" to keep each in test before val before train, '
            'or duplicates="allow" to keep all.'
        )
    warnings.warn(f"kept only in test before val before train: {listed}", stacklevel=4)


def _listing(found: Sequence[str]) -> str:
    return listing.lines(found, "; see data.audit().problems")


def _extra(group: Group) -> list[Member]:
    present = {member.split for member in group}
    keeper = next(split for split in _KEEPERS if split in present)
    return [member for member in group if member.split != keeper]


def _without(splits: dict[str, Split], members: Sequence[Member]) -> dict[str, Split]:
    kept = {name: np.ones(len(split), bool) for name, split in splits.items()}
    for member in members:
        kept[member.split][member.i] = False
    return {name: split.subset(kept[name]) for name, split in splits.items()}
