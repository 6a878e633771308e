"""The linear head solved to its optimum on stored features."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from tltoolkit.data.folds import set_aside
from tltoolkit.model.network import probabilities

# Inverse strengths of the L2 penalty on standardised features, from strong to weak.
PENALTIES = tuple(10.0 ** (k / 2) for k in range(-10, 3))
# scikit-learn's own, where one row per class leaves none to pick by.
NONE_HELD = 1.0
FOLDS = 3  # a third of the rows stands in for validation images
PATIENCE = 2  # a single rise may be the chance of few rows
# Of float32, a few units in the last place: stretched to a deviation of 1, such a feature would
# get a weight so large that sums with it lose the digits of all others.
ROUNDING = 1e-6
# Features (N, F), targets (N, C) and weights of the rows; see `solve`.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A linear classifier: logits = features @ kernel + bias.

    Attributes:
        kernel: (F, C) float32.
        bias: (C,) float32.
        penalty: The inverse penalty C that was picked.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float


def solve(
    features: np.ndarray,
    targets: np.ndarray,
    val: tuple[np.ndarray, np.ndarray] | None,
    multi_label: bool,
    seed: int = 0,
    *,
    weights: np.ndarray | None = None,
    val_weights: np.ndarray | None = None,
    l2: float = 0.0,
    groups: np.ndarray | None = None,
) -> Solution:
    """Logistic regression by L-BFGS, its penalty the one of least log loss on `val`.

    Penalties are tried from strong to weak, each starting from the solution before, until the
    loss has grown twice. Without `val` a third of the training rows stands in for it, every
    class that has two of them in both parts, and the solution is then fitted on all of them.

    A class without rows, and a label that every row has or none, would be solved by an infinite
    bias: they get the one of half a row that says otherwise.

    Args:
        features: (N, F).
        targets: (N, C) zeros and ones, one-hot unless `multi_label`.
        val: Features and targets to pick the penalty by, or None.
        multi_label: Whether the C classes are independent.
        seed: Seed of the stand-in split.
        weights: Of the rows, (N,), or of their classes, (N, C), where `multi_label`; None is 1.
        val_weights: The same of `val`.
        l2: Penalty given instead of picked: the minimum is that of the mean loss plus `l2` times
            the sum of the squared kernel, as Keras adds `regularizers.L2(l2)` to it. 0 picks one.
        groups: (N,) rows of equal value, such as versions of one image, are on one side of the
            stand-in split.
    """
    from threadpoolctl import threadpool_limits

    fit = features, targets, weights
    # One step multiplies matrices so small that the threads of the linear algebra library wait
    # for one another longer than they work: one alone was 3 to 4 times faster on 2 cores.
    with threadpool_limits(limits=1, user_api="blas"):
        if l2:
            return _path(fit, None, multi_label, (_inverse(l2, targets, multi_label),), scale=False)
        if val is not None:
            return _path(fit, (*val, val_weights), multi_label, PENALTIES)
        picked = _without_val(fit, multi_label, seed, groups)
        return _path(fit, None, multi_label, (picked,))


def log_loss(
    probabilities: np.ndarray,
    targets: np.ndarray,
    multi_label: bool,
    weights: np.ndarray | None = None,
) -> float:
    """Mean cross-entropy of probabilities (N, C), weighted as in `solve`; per class where
    `multi_label`."""
    # In float32 a probability may round to 0, whose logarithm is infinite.
    p = probabilities.astype(np.float64).clip(np.finfo(np.float64).tiny, 1)
    if multi_label:
        absent = (1 - probabilities.astype(np.float64)).clip(np.finfo(np.float64).tiny, 1)
        losses = -(targets * np.log(p) + (1 - targets) * np.log(absent))
    else:
        losses = -(targets * np.log(p)).sum(1)
    return float(np.average(losses, weights=weights))


def _inverse(l2: float, targets: np.ndarray, multi_label: bool) -> float:
    """scikit-learn's C for the penalty that Keras adds to the mean loss."""
    rows, classes = targets.shape
    if multi_label:  # Keras' mean is over the classes too
        return 1 / (2 * l2 * rows * classes)
    # One logit w of two classes is two of -w / 2 and w / 2, whose squares sum to half of w's.
    present = np.count_nonzero(targets.sum(0))
    return 1 / (l2 * rows) if present == 2 else 1 / (2 * l2 * rows)


def _without_val(rows: Rows, multi_label: bool, seed: int, groups: np.ndarray | None) -> float:
    features, targets, weights = rows
    labels = targets.astype(np.uint8) if multi_label else targets.argmax(1)
    together = np.arange(len(targets)) if groups is None else groups
    held = set_aside(labels, together, 1 / FOLDS, seed)
    if not held.any():
        return NONE_HELD
    parts = [
        (features[i], targets[i], None if weights is None else weights[i]) for i in (~held, held)
    ]
    return _path(parts[0], parts[1], multi_label, PENALTIES).penalty


def _path(
    fit: Rows,
    val: Rows | None,
    multi_label: bool,
    penalties: tuple[float, ...],
    scale: bool = True,
) -> Solution:
    # In float64: near the optimum a step of L-BFGS is less than float32 can tell.
    features, targets, row_weights = fit[0].astype(np.float64), *fit[1:]
    mean, std = features.mean(0), features.std(0)
    # A feature that never varied, but for rounding, says nothing, and must not when it does.
    std[(std <= ROUNDING * abs(features).max(0)) | (not scale)] = 1
    scaled = (features - mean) / std
    # Under an L2 penalty the solution lies in the span of the rows: with few of them it is
    # found among as many numbers instead of among all features, which is the same and quicker.
    span = np.linalg.qr(scaled.T)[0] if len(scaled) < scaled.shape[1] else None
    scaled = scaled if span is None else scaled @ span
    best, least, worse = None, np.inf, 0
    models = _models(targets.shape[1], multi_label)
    for penalty in penalties:
        weights, intercepts = _fit(models, (scaled, targets, row_weights), multi_label, penalty)
        # Back to the features as they are stored: standardising is part of the solution.
        kernel = (weights if span is None else weights @ span.T).T / std[:, None]
        found = Solution(
            kernel=kernel.astype(np.float32),
            bias=(intercepts - mean @ kernel).astype(np.float32),
            penalty=penalty,
        )
        loss = 0.0 if val is None else _loss(found, val, multi_label)
        # Twice in a row, as a single rise may be the chance of few rows.
        worse = 0 if loss < least else worse + 1
        if loss < least:
            best, least = found, loss
        if worse == PATIENCE:
            break
    assert best is not None
    return best


def _loss(found: Solution, val: Rows, multi_label: bool) -> float:
    said = probabilities(val[0] @ found.kernel + found.bias, multi_label)
    return log_loss(said, val[1], multi_label, val[2])


def _models(classes: int, multi_label: bool) -> list[Any]:
    from sklearn.linear_model import LogisticRegression

    # Each keeps its own start for the next strength.
    count = classes if multi_label else 1
    # scikit-learn stops at 1e-4 or after 100 iterations (1.9.1); a head shall be at its optimum.
    return [LogisticRegression(tol=1e-5, max_iter=1000, warm_start=True) for _ in range(count)]


def _fit(
    models: list[Any], rows: Rows, multi_label: bool, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, F) and intercepts (C,)."""
    scaled, targets, row_weights = rows
    if not multi_label:
        return _fit_softmax(models[0], rows, penalty)
    weights = np.zeros((targets.shape[1], scaled.shape[1]))
    # Log odds of half a row that has the label, or lacks it.
    intercepts = np.where(targets[0] > 0, 1, -1) * np.log(2 * len(targets) - 1.0)
    for i in np.flatnonzero(np.ptp(targets, axis=0)):
        given = None if row_weights is None else row_weights[:, i]
        models[i].set_params(C=penalty).fit(scaled, targets[:, i], sample_weight=given)
        weights[i], intercepts[i] = models[i].coef_[0], models[i].intercept_[0]
    return weights, intercepts


def _fit_softmax(model: Any, rows: Rows, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    scaled, targets, row_weights = rows
    labels, present = targets.argmax(1), np.flatnonzero(targets.sum(0))
    found, bias = np.zeros((len(present), scaled.shape[1])), np.zeros(len(present))
    if len(present) > 1:
        model.set_params(C=penalty).fit(scaled, labels, sample_weight=row_weights)
        found, bias = model.coef_, model.intercept_
    if len(present) == 2:
        # scikit-learn's two classes are one logit; the head has two.
        found, bias = np.concatenate([-found, found]) / 2, np.concatenate([-bias, bias]) / 2
    weights = np.zeros((targets.shape[1], scaled.shape[1]))
    # Of a class without rows: as likely as half a row among all.
    intercepts = np.full(targets.shape[1], logsumexp(bias) - np.log(2 * len(targets)))
    weights[present], intercepts[present] = found, bias
    return weights, intercepts
