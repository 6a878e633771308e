"""What must stay on one side of a split: one patient's, video's or sender's images."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tltoolkit import _checks
from tltoolkit.data import listing

Keys = NDArray[np.str_]


def by_path(groups: Any, names: Sequence[str]) -> Keys | None:
    """The group of each image by its path: (N,) texts.

    Args:
        groups: a regular expression that is searched in the path, whose first group in
            parentheses, or else whole match, is the key; or a function from the path to the key.
        names: (N,) the paths below the folder of the data, with slashes.

    Raises:
        ValueError: a wrong expression, or a path that it does not match or has no key.
        TypeError: neither text nor a function.
    """
    if groups is None:
        return None
    if isinstance(groups, str):
        return _named(groups, [_match(_compiled(groups), name) for name in names], names)
    if not callable(groups):
        rule = "a regular expression as text, or a function from a path to a key"
        raise TypeError(str(_checks.fail("groups", rule, groups)))
    return _named(groups, [groups(name) for name in names], names)


def of_values(values: ArrayLike | None, names: Sequence[str]) -> Keys | None:
    """The group of each image from a row of N texts or whole numbers."""
    if values is None:
        return None
    # As objects: beside a text, NumPy would write 7.0 as "7.0", another group than 7.
    row = np.asarray(values, object)
    if isinstance(values, str) or row.ndim != 1 or len(row) != len(names):
        shown = values if row.ndim == 0 else row.shape
        raise _checks.fail("groups", f"a row with the group of each of {len(names)} images", shown)
    return _named("the row", row.tolist(), names)


def as_bytes(group: str) -> bytes:
    """A group's name for hashing; it may come from a file name that is no UTF-8."""
    return group.encode("utf-8", "surrogateescape")


def check_given(groups: Keys, split: NDArray[np.int64], names: Sequence[str]) -> None:
    """Raise ValueError if the splits that the source itself gives share a group.

    Args:
        groups: (N,) of the images.
        split: (N,) the numbers of their splits.
        names: of the splits.
    """
    held: dict[str, set[int]] = {}
    for group, number in zip(groups.tolist(), split.tolist(), strict=True):
        held.setdefault(group, set()).add(number)
    crossing = sorted(group for group, numbers in held.items() if len(numbers) > 1)
    if crossing:
        found = [
            f"{group!r} ({', '.join(names[number] for number in sorted(held[group]))})"
            for group in crossing
        ]
        raise ValueError(
            f"{len(crossing)} of {len(held)} groups are in more than one split:\n"
            f"{listing.lines(found)}\n"
            "Scores on them say little. Move them, or leave `groups` out to allow it."
        )


def check_several(groups: Keys) -> None:
    """Raise ValueError unless there are at least two groups, since one cannot be split."""
    if len(set(groups.tolist())) == 1:
        raise _checks.fail("groups", "at least two groups to split", f"all {str(groups[0])!r}")


def _compiled(pattern: str) -> "re.Pattern[str]":
    try:
        return re.compile(pattern)
    except re.error as error:
        raise _checks.fail("groups", f"a regular expression ({error})", pattern) from error


def _match(pattern: "re.Pattern[str]", name: str) -> str | None:
    found = pattern.search(name)
    if found is None:
        return None
    key: str | None = found[1] if pattern.groups else found[0]
    return key


def _named(groups: Any, keys: Sequence[Any], names: Sequence[str]) -> Keys:
    texts = [_text(key) for key in keys]
    without = [name for name, text in zip(names, texts, strict=True) if not text]
    if without:
        raise ValueError(
            f"`groups` gives no group to {len(without)} of {len(names)} images: "
            f"{_checks.listed(without)}. Received: groups={groups!r}"
        )
    return np.array(texts, np.str_)


def _text(key: Any) -> str:
    """A key as text; "" for none."""
    # pandas makes floats of a column of whole numbers in which one is missing.
    if isinstance(key, (float, np.floating)) and float(key).is_integer():
        key = int(key)
    # Whatever else there may be, such as a list or NaN, is not what somebody meant by a group.
    return str(key).strip() if isinstance(key, (str, int, np.integer)) else ""
