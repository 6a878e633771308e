"""Deal images out to parts so that every label is spread by the wanted shares."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64] | NDArray[np.uint8]


def deal(labels: Labels, shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """The part, 0..len(shares) - 1, that each image goes to: (N,) int64.

    After iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification of
    Multi-Label Data"): labels are dealt from the rarest on, each image to the part that still
    wants most images of that label. With one label per image this is plain stratification.
    Every part with a share wants at least one image of each label. The result depends on the
    arguments alone.

    Args:
        labels: (N,) class numbers, or (N, C) zeros and ones.
        shares: the fraction of each part; they add up to 1.
        seed: shuffles the images.
    """
    rows = labels_of_rows(labels)
    # RandomState's stream is frozen by NumPy for good; that of default_rng is not.
    order = np.random.RandomState(seed).permutation(len(rows)).tolist()
    members: dict[int, list[int]] = {}
    for row in order:
        for label in rows[row]:
            members.setdefault(label, []).append(row)
    wanted = {c: [max(1.0, s * len(m)) if s else 0.0 for s in shares] for c, m in members.items()}
    room = [share * len(rows) for share in shares]
    parts = np.full(len(rows), -1)

    def put(row: int, part: int) -> None:
        parts[row] = part
        room[part] -= 1
        for label in rows[row]:
            wanted[label][part] -= 1

    choices = [part for part, share in enumerate(shares) if share]
    for label in sorted(members, key=lambda c: (len(members[c]), c)):
        for row in members[label]:
            if parts[row] == -1:
                put(row, max(choices, key=lambda part: (wanted[label][part], room[part])))
    for row in order:
        if parts[row] == -1:  # an image without any label
            put(row, max(choices, key=lambda part: room[part]))
    return parts


def keep_every_label(parts: NDArray[np.int64], labels: Labels) -> NDArray[np.int64]:
    """The parts, with one image of each label that part 0 lacks moved into part 0."""
    parts = parts.copy()
    rows = labels_of_rows(labels)
    kept = {label for row in np.flatnonzero(parts == 0) for label in rows[row]}
    for place, row in enumerate(rows):
        if not kept.issuperset(row):
            parts[place] = 0
            kept.update(row)
    return parts


def labels_of_rows(labels: Labels) -> list[list[int]]:
    """The class numbers of each image."""
    if labels.ndim == 1:
        return [[label] for label in labels.tolist()]
    return [np.flatnonzero(row).tolist() for row in labels]
