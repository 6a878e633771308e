"""Groups of images that look alike, by their perceptual hashes."""

import numpy as np
from numpy.typing import NDArray

# Bits of 64 in which two hashes may differ; unrelated photographs differ in about 32.
ALIKE = 4
# Two hashes that differ in so many bits are equal in one of one more parts of them.
_PARTS = [(bits[0], len(bits)) for bits in np.array_split(np.arange(64), ALIKE + 1)]
# The bits of each 16-bit number: np.bitwise_count is quicker, but came with NumPy 2.0.
_BITS = np.array([number.bit_count() for number in range(2**16)], np.uint8)


def groups(hashes: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """The places of hashes that are alike, (K,) for each group, two or more, ascending.

    Alike are those that differ in at most `ALIKE` bits, and those that a chain of such links.
    Each hash is compared with those of equal parts that are in no group yet: about 5 seconds for
    100,000 photographs.
    """
    if not len(hashes):
        return []
    values, number = np.unique(hashes, return_inverse=True)
    joined = _joined(values)[number.ravel()]
    order = np.argsort(joined, kind="stable")
    cuts = np.flatnonzero(np.diff(joined[order])) + 1
    found = [places for places in np.split(order, cuts) if len(places) > 1]
    return sorted(found, key=lambda places: int(places[0]))


def _joined(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each of different hashes the place of the first one in its group."""
    first = np.full(len(values), -1)
    keys = [(values >> np.uint64(low) & np.uint64(2**n - 1)).astype(int) for low, n in _PARTS]
    buckets = [_buckets(part) for part in keys]
    for start in range(len(values)):
        if first[start] >= 0:
            continue
        first[start], reached = start, [start]
        while reached:
            place = reached.pop()
            for part, bucket in zip(keys, buckets, strict=True):
                rest = bucket[part[place]]
                # What is in a group leaves the bucket, else time grows with the square of a group.
                rest = bucket[part[place]] = rest[first[rest] < 0]
                near = rest[_differing(values[rest], values[place]) <= ALIKE]
                first[near] = start
                reached += near.tolist()
    return first


def _buckets(keys: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))


def _differing(values: NDArray[np.uint64], other: np.uint64) -> NDArray[np.int64]:
    """How many bits differ."""
    return _BITS[(values ^ other).view(np.uint16)].reshape(-1, 4).sum(axis=1)
