"""Which heads, and how much of each: by what they say of rows that they have not seen."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tltoolkit.solving.ridge import Ints
from tltoolkit.solving.scaling import Floats

FOLDS = 5  # each head is learned on four fifths of the rows
NOT_HELD = -1  # fold of the rows that are in no held-out part
ROUNDS = 8  # heads in an average, repetitions counted: more brought nothing on seven sets
HOTTEST = 1e3  # temperatures are looked for between this and its inverse
SAME = 1e-3  # of a temperature: the loss is flat around its minimum


def deal(targets: Floats, groups: Ints, folds: int = FOLDS, seed: int = 0) -> Ints:
    """(N,) fold of each row: classes spread evenly, groups whole.

    A class whose rows are all of one group cannot be both learned and held out: its rows are in
    every part that is learned from, and have no say in a choice (`NOT_HELD`).

    Args:
        targets: (N, C) zeros and ones.
        groups: (N,) rows of equal value stay together.
        folds: How many.
        seed: Of the order among groups of one size.
    """
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(group.max()) + 1, targets.shape[1]))
    # Unbuffered: plain indexing would count a group that comes twice once.
    np.add.at(counts, group, targets)
    sizes = np.bincount(group)
    alone = (counts > 0).sum(0) == 1
    order = np.random.default_rng(seed).permutation(len(counts))
    # Large groups first: what is left then evens out the folds.
    order = order[np.argsort(-sizes[order], kind="stable")]
    rarity = np.where(counts.sum(0) > 0, counts.sum(0), np.inf)
    fold, load, rows = (
        np.full(len(counts), NOT_HELD),
        np.zeros((folds, len(rarity))),
        np.zeros(folds),
    )
    for g in order:
        if (alone & (counts[g] > 0)).any():
            continue
        # By its rarest label, which is the hardest to spread; rows without any by size alone.
        has = counts[g] > 0
        main = int(np.where(has, rarity, np.inf).argmin())
        first = load[:, main] if has.any() else rows
        # Ties go to the fold with fewer rows, then to the first.
        fold[g] = np.lexsort((rows, first))[0]
        load[fold[g]] += counts[g]
        rows[fold[g]] += sizes[g]
    return fold[group]


def log_losses(logits: Floats, targets: Floats, multi_label: bool) -> Floats:
    """(N,) cross-entropy of logits (N, C); the mean over labels where `multi_label`."""
    if multi_label:
        return np.asarray((np.logaddexp(0, logits) - targets * logits).mean(1))
    return np.asarray(-(targets * log_softmax(logits, axis=1)).sum(1))


def log_loss(
    logits: Floats, targets: Floats, multi_label: bool, weights: Floats | None = None
) -> float:
    """Mean cross-entropy of logits (N, C) in weighted rows."""
    return float(np.average(log_losses(logits, targets, multi_label), weights=weights))


def temperature(
    logits: Floats, targets: Floats, multi_label: bool, weights: Floats | None = None
) -> float:
    """What to divide logits by for the least log loss (Guo et al. 2017)."""
    found = minimize_scalar(
        lambda x: log_loss(logits / np.exp(x), targets, multi_label, weights),
        bounds=(-np.log(HOTTEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": SAME},
    )
    return float(np.exp(found.x))


def greedy(
    held: list[Floats], targets: Floats, multi_label: bool, weights: Floats | None = None
) -> npt.NDArray[np.int64]:
    """How often each head is in the average: the best first, again and again, while it helps.

    Forward selection with replacement (Caruana et al. 2004) on logits (N, C) of held-out rows.
    """
    counts = np.zeros(len(held), np.int64)
    # A running sum: each round costs one addition for each head.
    total, least = np.zeros_like(held[0]), np.inf
    for size in range(1, ROUNDS + 1):
        losses = [log_loss((total + one) / size, targets, multi_label, weights) for one in held]
        best = int(np.argmin(losses))
        if not losses[best] < least:
            break
        least, total = losses[best], total + held[best]
        counts[best] += 1
    return counts
