"""Heads chosen by held-out loss among parts of the features, strengths and kinds; one average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tltoolkit.solving.choosing import NOT_HELD, deal, greedy, log_loss, temperature
from tltoolkit.solving.discriminant import LDA, RIDGE, Kind
from tltoolkit.solving.ridge import Ints
from tltoolkit.solving.rows import Parts, Rows
from tltoolkit.solving.scaling import Floats, stripes

# Ridges, as shares of the mean squared length of a scaled row: half decades, since the held-out
# loss of neighbours hardly differs.
STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-5, 1))
FIRST = STRENGTHS.index(0.1)  # where the best mostly was on seven sets
# Of an LDA, see `discriminant`: a few images, and as many as a small class has.
PULLS = (3.0, 10.0)
# Rows above which the choice is made on a part of them: its cost grows with their cube.
MOST_ROWS = 2500
EACH = 10  # rows of each class in that part: two for each of five folds
Candidates = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Chosen:
    """One head of an average.

    Attributes:
        candidate: The name of the features that it reads.
        strength: Of its ridge.
        kind: `RIDGE`, or the pull of an LDA.
        share: What its logits are multiplied by: its weight over its temperatures.
    """

    candidate: str
    strength: float
    kind: Kind
    share: float


@dataclass(frozen=True)
class Scored:
    """The best head of a candidate.

    Attributes:
        candidate: The name of the features that it reads.
        strength: Of its ridge.
        kind: `RIDGE`, or the pull of an LDA.
        log_loss: Of held-out rows, after a temperature.
        accuracy: Of held-out rows; of their labels where several are independent.
        weight: Of all heads of this candidate in the average, 0..1.
    """

    candidate: str
    strength: float
    kind: Kind
    log_loss: float
    accuracy: float
    weight: float


@dataclass(frozen=True)
class Choice:
    """What held-out rows say.

    Attributes:
        chosen: The heads whose average has the least loss.
        held_out: (N, C) its logits of each row, by heads that did not see it; NaN for rows that
            were not held out. The choice saw them: its loss is a little too good.
        table: The best head of each candidate; empty where no row could be held out.
    """

    chosen: tuple[Chosen, ...]
    held_out: Floats
    table: tuple[Scored, ...]


@dataclass(frozen=True)
class _Tried:
    candidate: str
    strength: float
    kind: Kind
    heat: float
    logits: Floats
    loss: float


def choose(
    features: npt.NDArray[np.floating],
    targets: Floats,
    parts: Parts,
    candidates: Candidates,
    *,
    multi_label: bool = False,
    kinds: Sequence[str] = (RIDGE, LDA),
    weights: Floats | None = None,
    groups: Ints | None = None,
    seed: int = 0,
) -> Choice:
    """Which heads to average, by what they say of rows that they have not seen.

    Args:
        features: (N, F).
        targets: (N, C) zeros and ones; one-hot unless `multi_label`.
        parts: Name -> columns of the features that are scaled together.
        candidates: Name -> the parts that a head may read.
        multi_label: Whether the C classes are independent.
        kinds: `RIDGE`, `LDA` or both.
        weights: (N,) of the rows; None is 1. They count in the sums, the prior and the choice.
        groups: (N,) rows of equal value, such as near copies, are held out together.
        seed: Of the folds.

    Raises:
        ValueError: Features that are not finite.
    """
    from threadpoolctl import threadpool_limits

    bad = np.flatnonzero(np.concatenate([~np.isfinite(x).all(1) for x in stripes(features)]))
    if len(bad):
        raise ValueError(f"`features` must be finite. Received: {len(bad)} rows, first {bad[0]}")
    given = np.ones(len(features)) if weights is None else np.asarray(weights, np.float64)
    together = np.arange(len(features)) if groups is None else groups
    some = _some(targets, together, seed)
    fold = deal(targets[some], together[some], seed=seed)
    held = fold != NOT_HELD
    out = np.full(targets.shape, np.nan)
    if not held.any():
        # No class has two groups: the strongest of each, since there is nothing to choose by.
        first = next(iter(candidates))
        return Choice((Chosen(first, STRENGTHS[-1], _kinds(kinds)[-1], 1.0),), out, ())
    rows = Rows(features[some], targets[some], given[some], parts, multi_label)
    # On a machine that works for others, too, threads of the linear algebra library that wait for
    # one another took minutes for what one alone did in seconds.
    with threadpool_limits(limits=1, user_api="blas"):
        tried = [
            one for name in candidates for one in _climb(rows, name, candidates[name], fold, kinds)
        ]
    target, heavy = targets[some][held], given[some][held]
    counts = greedy([one.logits for one in tried], target, multi_label, heavy)
    mixed = np.average([one.logits for one in tried], axis=0, weights=counts)
    last = temperature(mixed, target, multi_label, heavy)
    out[some[held]] = mixed / last
    shares = counts / counts.sum()
    chosen = tuple(
        Chosen(one.candidate, one.strength, one.kind, float(share / last / one.heat))
        for one, share in zip(tried, shares, strict=True)
        if share
    )
    table = tuple(_scored(name, tried, shares, target, multi_label) for name in candidates)
    return Choice(chosen, out, table)


def average(rows: Rows, candidates: Candidates, chosen: Sequence[Chosen]) -> tuple[Floats, Floats]:
    """Kernel (F, C) and bias (C,) on raw features: the chosen heads, solved on these rows.

    An average in the logits of linear heads is a linear head, whatever each of them reads.
    """
    heads = [rows.solve(candidates[one.candidate], one.strength, one.kind) for one in chosen]
    return added(heads, [one.share for one in chosen], rows.counts, rows.multi_label)


def added(
    heads: Sequence[tuple[Floats, Floats]],
    shares: Sequence[float],
    counts: Floats,
    multi_label: bool,
) -> tuple[Floats, Floats]:
    """Kernel (F, C) and bias (C,) that give the sum of the logits of heads times their shares.

    Args:
        heads: Kernel and bias of each.
        shares: What the logits of each are multiplied by.
        counts: (C,) weight of the rows that have each label.
        multi_label: Whether the labels are independent.
    """
    kernel = np.einsum("h,hfc->fc", shares, [head[0] for head in heads])
    bias = np.einsum("h,hc->c", shares, [head[1] for head in heads])
    if not multi_label:  # logits count up to a constant per row
        there = counts > 0
        kernel = kernel - kernel[:, there].mean(1, keepdims=True)
        bias = bias - bias[there].mean()
    return kernel, bias


def _climb(
    rows: Rows, name: str, names: Sequence[str], fold: Ints, kinds: Sequence[str]
) -> list[_Tried]:
    """Heads on some parts, of ever better strengths: from `FIRST` on, each way while it helps."""
    held = fold != NOT_HELD
    target, heavy = rows.targets[held], rows.weights[held]

    def attempt(strength: float) -> list[_Tried]:
        made = []
        shown = _kinds(kinds)
        for kind, said in zip(shown, rows.held_out(names, fold, strength, shown), strict=True):
            heat = temperature(said[held], target, rows.multi_label, heavy)
            logits = said[held] / heat
            loss = log_loss(logits, target, rows.multi_label, heavy)
            made.append(_Tried(name, strength, kind, heat, logits, loss))
        return made

    def least(made: list[_Tried]) -> float:
        return min(one.loss for one in made)

    start = attempt(STRENGTHS[FIRST])
    found = list(start)
    for way in (STRENGTHS[FIRST + 1 :], STRENGTHS[:FIRST][::-1]):
        before = least(start)
        for strength in way:
            made = attempt(strength)
            found += made
            if least(made) >= before:
                break
            before = least(made)
    return found


def _scored(
    name: str, tried: Sequence[_Tried], shares: Floats, targets: Floats, multi_label: bool
) -> Scored:
    its = [(one, share) for one, share in zip(tried, shares, strict=True) if one.candidate == name]
    best = min((one for one, _ in its), key=lambda one: one.loss)
    right = (best.logits > 0) == (targets > 0)
    if not multi_label:
        right = best.logits.argmax(1) == targets.argmax(1)
    weight = float(sum(share for _, share in its))
    return Scored(name, best.strength, best.kind, best.loss, float(right.mean()), weight)


def _kinds(kinds: Sequence[str]) -> tuple[Kind, ...]:
    return (*((RIDGE,) if RIDGE in kinds else ()), *(PULLS if LDA in kinds else ()))


def _some(targets: Floats, groups: Ints, seed: int) -> Ints:
    """All rows, or about MOST_ROWS: whole groups, each class by its share, but EACH at least."""
    if len(targets) <= MOST_ROWS:
        return np.arange(len(targets))
    order = np.random.default_rng(seed).permutation(len(targets))
    share = MOST_ROWS / len(targets)
    taken = [order[: int(np.ceil(share * len(order)))]]
    for c in range(targets.shape[1]):
        its = order[targets[order, c] > 0]
        taken.append(its[: max(int(np.ceil(share * len(its))), EACH)])
    return np.flatnonzero(np.isin(groups, groups[np.concatenate(taken)]))
