"""The head of least held-out loss: parts of the features, strengths and kinds averaged into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tltoolkit.solving.choosing import NOT_HELD, deal, greedy, log_loss, temperature
from tltoolkit.solving.discriminant import LDA, RIDGE, Kind
from tltoolkit.solving.ridge import Ints
from tltoolkit.solving.rows import Parts, Rows
from tltoolkit.solving.scaling import Floats

# Ridges, as shares of the mean squared length of a scaled row.
STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-5, 1))
# Of an LDA, see `discriminant`: a few images, and as many as a small class has.
PULLS = (3.0, 10.0)
# Rows above which the choice is made on a part of them: its cost grows with their cube.
MOST_ROWS = 2500
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
class Solved:
    """A linear head: logits = features @ kernel + bias.

    Attributes:
        kernel: (F, C); zero for features that no chosen head reads.
        bias: (C,).
        chosen: The heads that it is the average of.
        held_out: (N, C) logits of each row by heads that did not see it; NaN for rows that were
            never held out.
        table: The best head of each candidate.
    """

    kernel: Floats
    bias: Floats
    chosen: tuple[Chosen, ...]
    held_out: Floats
    table: tuple[Scored, ...]


def solve(
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
) -> Solved:
    """Choose among heads by what they say of held-out rows, average, and solve on all rows.

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
        ValueError: Features that are not finite; rows of which none can be held out.
    """
    check_finite(features)
    given = np.ones(len(features)) if weights is None else np.asarray(weights, np.float64)
    together = np.arange(len(features)) if groups is None else groups
    some = _some(targets, together, seed)
    fold = deal(targets[some], together[some], seed=seed)
    say = fold != NOT_HELD
    if not say.any():
        raise ValueError("`targets` must have two groups of rows in at least one class")
    rows = Rows(features[some], targets[some], given[some], parts, multi_label)
    tried = [
        (name, strength, kind)
        for name in candidates
        for strength in STRENGTHS
        for kind in _kinds(kinds)
    ]
    held = [
        logits[say]
        for name in candidates
        for strength in STRENGTHS
        for logits in rows.held_out(candidates[name], fold, strength, _kinds(kinds))
    ]
    target, heavy = targets[some][say], given[some][say]
    heats = [temperature(one, target, multi_label, heavy) for one in held]
    held = [one / heat for one, heat in zip(held, heats, strict=True)]
    counts = greedy(held, target, multi_label, heavy)
    mixed = np.average(held, axis=0, weights=counts)
    last = temperature(mixed, target, multi_label, heavy)
    chosen = tuple(
        Chosen(*tried[i], share=float(counts[i] / counts.sum() / last / heats[i]))
        for i in np.flatnonzero(counts)
    )
    whole = rows if len(some) == len(features) else None
    kernel, bias = average(
        whole or Rows(features, targets, given, parts, multi_label), candidates, chosen
    )
    out = np.full(targets.shape, np.nan)
    out[some[say]] = mixed / last
    losses = [log_loss(one, target, multi_label, heavy) for one in held]
    right = [_accuracy(one, target, multi_label) for one in held]
    table = []
    for name in candidates:
        its = [i for i, (candidate, _, _) in enumerate(tried) if candidate == name]
        best = min(its, key=losses.__getitem__)
        weight = float(counts[its].sum() / counts.sum())
        table.append(Scored(*tried[best], losses[best], right[best], weight))
    return Solved(kernel, bias, chosen, out, tuple(table))


def average(rows: Rows, candidates: Candidates, chosen: Sequence[Chosen]) -> tuple[Floats, Floats]:
    """Kernel (F, C) and bias (C,) of heads that were chosen before, solved on these rows."""
    heads = [rows.solve(candidates[one.candidate], one.strength, one.kind) for one in chosen]
    kernel = np.sum([one.share * head[0] for one, head in zip(chosen, heads, strict=True)], axis=0)
    bias = np.sum([one.share * head[1] for one, head in zip(chosen, heads, strict=True)], axis=0)
    if not rows.multi_label:  # logits count up to a constant per row
        there = rows.counts > 0
        kernel = kernel - kernel[:, there].mean(1, keepdims=True)
        bias = bias - bias[there].mean()
    return kernel, bias


def check_finite(features: npt.NDArray[np.floating]) -> None:
    """Raise ValueError for features that are NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        raise ValueError(f"the features of {len(bad)} images are not finite; the first is {bad[0]}")


def _kinds(kinds: Sequence[str]) -> tuple[Kind, ...]:
    return (*((RIDGE,) if RIDGE in kinds else ()), *(PULLS if LDA in kinds else ()))


def _accuracy(logits: Floats, targets: Floats, multi_label: bool) -> float:
    if multi_label:
        return float(np.mean((logits > 0) == (targets > 0)))
    return float(np.mean(logits.argmax(1) == targets.argmax(1)))


def _some(targets: Floats, groups: Ints, seed: int) -> Ints:
    """All rows, or about MOST_ROWS: whole groups, each class by its share, but some of each."""
    if len(targets) <= MOST_ROWS:
        return np.arange(len(targets))
    order = np.random.default_rng(seed).permutation(len(targets))
    share = MOST_ROWS / len(targets)
    taken = [order[: int(np.ceil(share * len(order)))]]
    for c in range(targets.shape[1]):
        its = order[targets[order, c] > 0]
        # Two for each of the five folds, so that no class is left out of the choice.
        taken.append(its[: max(int(np.ceil(share * len(its))), 10)])
    return np.flatnonzero(np.isin(groups, groups[np.concatenate(taken)]))
