"""Find images that are in the data more than once."""

import importlib.util
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tltoolkit.data import lookalikes
from tltoolkit.data.split import Split
from tltoolkit.data.verdicts import Verdict, inspect

# Images of a group that are named in a text: groups of frames of a video have thousands.
_NAMED = 10
# A class that looks fall into fewer groups than this looks alike as a whole, as letters or scans of
# one framing do: then looks tell nothing of copies. Five folds want as many.
_LEAST = 5


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


def tells_looks() -> bool:
    """Whether near copies can be told: imagehash, of the extra `audit`, is installed."""
    return importlib.util.find_spec("imagehash") is not None


def together(splits: Sequence[Split]) -> npt.NDArray[np.int64]:
    """(N,) numbers, splits one after the other: equal for images that belong together.

    Those are the images of a stated group, copies, and near copies of one class, such as several
    exposures of one thing; near copies are told where imagehash is installed.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    named = {str(number): split for number, split in enumerate(splits)}
    rows = inspect(splits, hashes=tells_looks())
    verdicts = dict(zip(named, rows, strict=True))
    starts = dict(zip(named, np.cumsum([0, *map(len, splits)]).tolist(), strict=False))
    count = sum(map(len, splits))

    def linked(groups: Iterable[Group]) -> npt.NDArray[np.int64]:
        """(N,) for each image the first one of its group."""
        first = np.arange(count)
        for group in groups:
            at = [starts[member.split] + member.i for member in group]
            first[at] = at[0]
        return first

    links = [_stated(splits), linked(copies(verdicts))]
    if tells_looks():
        labels = np.concatenate([split.labels for split in splits])
        links.append(_of_one_class(linked(alike(verdicts)), labels))
    ends = np.tile(np.arange(count), len(links)), np.concatenate(links)
    graph = coo_array((np.ones(len(ends[0])), ends), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _stated(splits: Sequence[Split]) -> npt.NDArray[np.int64]:
    """(N,) for each image the first one of its stated group."""
    # No stated group lies in two splits, and without groups each image is on its own.
    keys = [
        (k, i if split.groups is None else split.groups[i])
        for k, split in enumerate(splits)
        for i in range(len(split))
    ]
    first: dict[Any, int] = {}
    return np.array([first.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


def _of_one_class(first: npt.NDArray[np.int64], labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The same without links between classes, and within classes that look alike as a whole."""
    _, row = np.unique(labels, axis=0, return_inverse=True)
    row = row.ravel()
    # Of a group of two classes each keeps its own first one.
    _, place, group = np.unique(
        np.stack([first, row]), axis=1, return_index=True, return_inverse=True
    )
    found = place[group.ravel()]
    for label in np.unique(row):
        its = np.flatnonzero(row == label)
        if len(np.unique(found[its])) < min(_LEAST, len(its)):
            found[its] = its
    return np.asarray(found, np.int64)


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
