"""Splits that stay splits: every image goes where its own content, or its group, says."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit._checks import listed
from tltoolkit.data.digests import digests, same_content
from tltoolkit.data.groups import as_bytes
from tltoolkit.data.parallel import each
from tltoolkit.data.sources import Source
from tltoolkit.data.stratify import Labels, labels_of_rows

# Bytes of a file that is read whole, and of each of the three blocks read of a larger one: a
# photograph of any size then costs one or three reads.
WHOLE, BLOCK = 2**16, 2**14


def split_numbers(
    source: Source,
    indices: NDArray[np.int64],
    labels: Labels,
    class_names: Sequence[str],
    groups: NDArray[np.str_] | None,
    shares: tuple[float, float],
    seed: int,
) -> NDArray[np.int64]:
    """The split of each image: (N,) int64, 0 train, 1 val, 2 test.

    An image has a place in [0, 1), the hash of the seed and of its content, or of its group. It
    is for test below the share of test, for val from 1 - the share of val on, else for train. So
    equal images are in one split, other images move none, names do not matter, and a larger share
    only takes images from train. Classes have their shares in expectation, not exactly.

    A class without any image in train gets one, with its group: the one whose place is nearest
    to those of train. A group that holds a copy of an image of another group is one with it, and
    then has the place of the first of them in the order of their names.

    Args:
        source: where the images come from.
        indices: (N,) their places there.
        labels: (N,) class numbers, or (N, C) zeros and ones.
        class_names: the C names, for the warning about a class that val or test lacks.
        groups: (N,) what must stay together, or None.
        shares: of val and test.
        seed: of the hash.
    """
    places, units = _places(source, indices, groups, int(seed))
    val, test = shares
    parts = np.zeros(len(places), np.int64)
    # From opposite ends, so that a larger val takes from train and leaves test alone.
    parts[places >= 1 - val] = 1
    parts[places < test] = 2
    outside = np.maximum(test - places, places - (1 - val))
    _keep_in_train(parts, labels, units, outside)
    for number, name, share in ((1, "val", val), (2, "test", test)):
        if share:
            _warn_of_missing(labels, class_names, parts == number, name, share)
    return parts


def units(
    source: Source, indices: NDArray[np.int64], groups: NDArray[np.str_] | None
) -> NDArray[np.int64]:
    """A number for each image of `indices`, (N,): equal where images must stay together.

    These are images with the same content or of the same group, and so on from one to the next.
    """
    contents = same_content(source, indices)
    if groups is None:
        return contents
    # Loading takes a second, which most data sets, having no groups, need not wait.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Contents and groups are the two sides of one graph, its nodes numbered in one row.
    named = np.unique(groups, return_inverse=True)[1] + contents.max() + 1
    size = int(named.max()) + 1
    linked = coo_array((np.ones(len(contents)), (contents, named)), shape=(size, size))
    return np.asarray(connected_components(linked, directed=False)[1][contents], np.int64)


def content_keys(source: Source, indices: NDArray[np.int64]) -> list[bytes]:
    """What stands for the content of each image of `indices`; equal for equal content.

    SHA-256 of a file of at most `WHOLE` bytes; of the size and the first, middle and last `BLOCK`
    bytes of a larger one; of pixels and of encoded images that are no file, whole. Files that
    cannot be read have one key in common.
    """
    chosen = indices.tolist()
    files = {index: (source.path(index), source.size(index)) for index in chosen}
    large = [i for i, (path, size) in files.items() if path is not None and (size or 0) > WHOLE]
    blocks_only = set(large)
    # What has no size is a pipe or a file that is gone: nothing to read.
    rest = [i for i, (_, size) in files.items() if size is not None and i not in blocks_only]
    keys = dict(zip(rest, digests(source, rest), strict=True))
    sampled = each(_sampled, [files[index] for index in large], len(large), "reading images")
    keys |= dict(zip(large, sampled, strict=True))
    return [bytes.fromhex(keys.get(index) or "") for index in chosen]


def _sampled(file: tuple[Any, Any]) -> str | None:
    path, size = file
    try:
        # With the size, which tells apart files that differ between the blocks by length alone.
        return hashlib.sha256(b"".join((size.to_bytes(8), *_blocks(path, size)))).hexdigest()
    except OSError:
        return None


def _blocks(path: str, size: int) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        for start in (0, (size - BLOCK) // 2, size - BLOCK):
            file.seek(start, os.SEEK_SET)
            yield file.read(BLOCK)


def _places(
    source: Source, indices: NDArray[np.int64], groups: NDArray[np.str_] | None, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The place of each image, and the number of what it must stay together with."""
    if groups is None:
        keys = content_keys(source, indices)
        number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        together = np.array([number_of[key] for key in keys], np.int64)
        return np.array([_place(key, seed) for key in keys]), together
    together = units(source, indices, groups)
    first: dict[int, str] = {}
    # Sorted, so that the order of the images does not decide.
    for number, group in sorted(zip(together.tolist(), groups.tolist(), strict=True)):
        first.setdefault(number, group)
    place = {number: _place(as_bytes(group), seed) for number, group in first.items()}
    return np.array([place[number] for number in together.tolist()]), together


def _place(key: bytes, seed: int) -> float:
    """A number in [0, 1) that is spread evenly, and another for another seed."""
    digest = hashlib.sha256(seed.to_bytes(4) + key).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53  # as many bits as a float holds


def _keep_in_train(
    parts: NDArray[np.int64],
    labels: Labels,
    units: NDArray[np.int64],
    outside: NDArray[np.float64],
) -> None:
    """Move one image, with what it stays together with, of each class that train lacks."""
    members: dict[int, list[int]] = {}
    for row, classes in enumerate(labels_of_rows(labels)):
        for label in classes:
            members.setdefault(label, []).append(row)
    # The rarest first: the group it brings along often holds images of the other classes too.
    for label in sorted(members, key=lambda label: (len(members[label]), label)):
        rows = np.array(members[label])
        if not (parts[rows] == 0).any():
            nearest = rows[np.argmin(outside[rows])]
            parts[units == units[nearest]] = 0


def _warn_of_missing(
    labels: Labels, class_names: Sequence[str], held: NDArray[np.bool_], split: str, share: float
) -> None:
    present = {label for row in labels_of_rows(labels[held]) for label in row}
    missing = [name for label, name in enumerate(class_names) if label not in present]
    if not missing and held.any():
        return
    what = f"no image of {listed(missing)}" if held.any() else "no image"
    warnings.warn(
        f"{what} came into the {split} split (`{split}`={share:g} of the images, each by the hash "
        "of its content or group): take a larger share, another seed, or tl.cross_validate",
        stacklevel=6,  # the caller of tl.data.from_...
    )
