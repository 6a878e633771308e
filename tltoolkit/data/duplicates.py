"""Find images that are in the data more than once."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tltoolkit.data import lookalikes
from tltoolkit.data.split import Split
from tltoolkit.data.verdicts import Verdict

# Images of a group that are named in a text: groups of frames of a video have thousands.
_NAMED = 10


class Member(NamedTuple):
    """One image of the data: the name of its split and its place there."""

    split: str
    i: int


Group = tuple[Member, ...]


def copies(verdicts: dict[str, list[Verdict]]) -> list[Group]:
    """The groups of two or more images with the same content, in the order of the data."""
    groups: dict[str, list[Member]] = {}
    for split, row in verdicts.items():
        for i, verdict in enumerate(row):
            if verdict.reason is None:
                groups.setdefault(verdict.digest, []).append(Member(split, i))
    return [tuple(group) for group in groups.values() if len(group) > 1]


def alike(verdicts: dict[str, list[Verdict]]) -> list[Group]:
    """The groups of images that look alike; of copies only the first counts."""
    seen: dict[str, tuple[Member, str]] = {}
    for split, row in verdicts.items():
        for i, verdict in enumerate(row):
            if verdict.reason is None:
                seen.setdefault(verdict.digest, (Member(split, i), verdict.hash))
    members = [member for member, _ in seen.values()]
    hashes = np.array([int(hashed, 16) for _, hashed in seen.values()], np.uint64)
    return [tuple(members[k] for k in places.tolist()) for places in lookalikes.groups(hashes)]


def crosses_splits(group: Group) -> bool:
    """Whether the images of a group are in different splits."""
    return len({member.split for member in group}) > 1


def crosses_classes(group: Group, splits: dict[str, Split]) -> bool:
    """Whether the images of a group have different labels."""
    return len({splits[m.split].labels[m.i].tobytes() for m in group}) > 1


def describe(group: Sequence[Member], splits: dict[str, Split]) -> str:
    """The images of a group by name, with their splits and classes; of a large one the first."""
    named = [
        f"{splits[m.split].name(m.i)} ({m.split}, {splits[m.split].label_text(m.i)})"
        for m in group[:_NAMED]
    ]
    rest = Counter(m.split for m in group[_NAMED:])
    more = ", ".join(f"{count} in {split}" for split, count in rest.items())
    return " = ".join([*named, f"{len(group) - _NAMED} more ({more})"] if rest else named)
