"""SHA-256 of the content of many images: read on all cores, remembered between runs."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit.data.memory import Memory
from tltoolkit.data.parallel import each
from tltoolkit.data.sources import Source


def digests(source: Source, indices: Iterable[int]) -> list[str | None]:
    """The digest of each of these images of a source; None for one that cannot be read.

    A file whose size and modification time are as `check`, `audit` or this function saw them is
    not read again. Shows its progress on a terminal.
    """
    chosen = [int(index) for index in indices]
    if not chosen:
        return []
    # All files of the source, since where a memory lies depends on the folder that they share.
    memory = Memory([path for i in range(len(source)) if (path := source.path(i)) is not None])
    try:
        return each(lambda i: _digest(source, i, memory), chosen, len(chosen), "reading images")
    finally:
        memory.save()


def same_content(source: Source, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """A group number for each image of `indices`, (N,): equal where the content is equal.

    Groups are numbered in the order in which they first occur. Only images of equal size are
    read, on all cores; one that cannot be read is a group of its own.
    """
    sizes = [source.size(int(index)) for index in indices]
    frequency = Counter(sizes)
    frequency[None] = 0  # what has no size cannot be read, and equals nothing
    shared = [int(i) for i, size in zip(indices, sizes, strict=True) if frequency[size] > 1]
    content = dict(zip(shared, digests(source, shared), strict=True))
    groups: dict[object, int] = {}
    # Where there is no digest its own number, which no digest equals.
    keys = (content.get(index) or index for index in indices.tolist())
    return np.array([groups.setdefault(key, len(groups)) for key in keys], np.int64)


def _digest(source: Source, index: int, memory: Memory) -> str | None:
    path, stamp = source.path(index), source.stamp(index)
    if path is None or stamp is None:
        return _read(source, index)
    entry = memory.get(path)
    known = remembered(entry, stamp)
    if known is not None:
        return known
    digest = _read(source, index)
    if digest is not None:
        # Behind the digest an audit has put its verdict, which stays true of the same file.
        same = isinstance(entry, list) and entry[:1] == [stamp]
        memory.put(path, [stamp, digest, *(entry[2:] if same else ())])
    return digest


def _read(source: Source, index: int) -> str | None:
    try:
        return source.digest(index)
    except OSError:
        return None


def remembered(entry: Any, stamp: list[int]) -> str | None:
    """The digest in what is remembered of a file, a list that begins with stamp and digest."""
    if isinstance(entry, list) and len(entry) >= 2 and entry[0] == stamp:
        return entry[1] if isinstance(entry[1], str) and entry[1] else None
    return None
