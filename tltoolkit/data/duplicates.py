"""Find images that are in the data more than once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tltoolkit.data.images import Split
from tltoolkit.data.verdicts import Verdict

# Of 64 bits; unrelated photographs differ in about 32.
_ALIKE = 4
_BLOCK = 1024


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


def lookalikes(verdicts: dict[str, list[Verdict]]) -> list[Group]:
    """The pairs of images that look alike without being copies.

    Compares all pairs, by matrix products: about a second for 20,000 images, and four times as
    long for twice as many.
    """
    seen: dict[str, tuple[Member, str]] = {}
    for split, row in verdicts.items():
        for i, verdict in enumerate(row):
            if verdict.reason is None:
                seen.setdefault(verdict.digest, (Member(split, i), verdict.look))
    members = [member for member, _ in seen.values()]
    looks = np.array([int(look, 16) for _, look in seen.values()], ">u8")
    bits = np.unpackbits(looks.view(np.uint8)).reshape(-1, 64).astype(np.float32) * 2 - 1
    pairs: list[Group] = []
    for start in range(0, len(bits), _BLOCK):
        # The product of two rows of +-1 is 64 minus twice the number of bits that differ.
        close = bits[start : start + _BLOCK] @ bits[start:].T >= 64 - 2 * _ALIKE
        pairs += [
            (members[start + a], members[start + b])
            for a, b in np.argwhere(np.triu(close, 1)).tolist()
        ]
    return pairs


def crosses_splits(group: Group) -> bool:
    """Whether the images of a group are in different splits."""
    return len({member.split for member in group}) > 1


def crosses_classes(group: Group, splits: dict[str, Split]) -> bool:
    """Whether the images of a group have different labels."""
    return len({splits[m.split].labels[m.i].tobytes() for m in group}) > 1


def describe(group: Sequence[Member], splits: dict[str, Split]) -> str:
    """The images of a group by name, with their splits and classes."""
    return " = ".join(
        f"{splits[m.split].name(m.i)} ({m.split}, {splits[m.split].label_text(m.i)})" for m in group
    )
