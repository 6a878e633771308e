"""The linear head solved to its optimum on stored features."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from tltoolkit.network import probabilities

# Inverse strengths of the L2 penalty on standardised features, from strong to weak.
PENALTIES = tuple(10.0 ** (k / 2) for k in range(-10, 3))
FOLDS = 3
PATIENCE = 2
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
    groups: np.ndarray | None = None,
) -> Solution:
    """Logistic regression by L-BFGS, its penalty the one of least log loss on `val`.

    Penalties are tried from strong to weak, each starting from the solution before, until the
    loss has grown twice. Without `val` a third of the training rows stands in for it, and the
    solution is then fitted on all of them.

    Args:
        features: (N, F).
        targets: (N, C) zeros and ones, one-hot unless `multi_label`.
        val: Features and targets to pick the penalty by, or None.
        multi_label: Whether the C classes are independent.
        seed: Seed of the stand-in split.
        weights: Of the rows, (N,), or of their classes, (N, C), where `multi_label`; None is 1.
        val_weights: The same of `val`.
        groups: (N,) rows of equal value are on one side of the stand-in split.
    """
    from threadpoolctl import threadpool_limits

    fit = features, targets, weights
    # One step multiplies matrices so small that the threads of the linear algebra library wait
    # for one another longer than they work: one alone was 3 to 4 times faster on 2 cores.
    with threadpool_limits(limits=1, user_api="blas"):
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
    p = probabilities.astype(np.float64).clip(np.finfo(np.float64).tiny, 1)
    if multi_label:
        absent = (1 - probabilities.astype(np.float64)).clip(np.finfo(np.float64).tiny, 1)
        losses = -(targets * np.log(p) + (1 - targets) * np.log(absent))
    else:
        losses = -(targets * np.log(p)).sum(1)
    return float(np.average(losses, weights=weights))


def _without_val(
    rows: Rows, multi_label: bool, seed: int, groups: np.ndarray | None = None
) -> float:
    features, targets, weights = rows
    fit, held = _stand_in(targets, multi_label, seed, groups)
    parts = [
        (features[i], targets[i], None if weights is None else weights[i]) for i in (fit, held)
    ]
    return _path(parts[0], parts[1], multi_label, PENALTIES).penalty


def _stand_in(
    targets: np.ndarray, multi_label: bool, seed: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and rows to judge by; of the first folds whose fit has every class."""
    from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

    several = groups is not None and len(np.unique(groups)) >= FOLDS
    rare = multi_label or targets.sum(0).min() < FOLDS
    kinds = [StratifiedGroupKFold] * several + [KFold if rare else StratifiedKFold]
    labels = targets.argmax(1)
    with warnings.catch_warnings():
        # Of classes with fewer rows than there are folds, which is why the fit is looked at.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        found = [
            fold
            for kind in kinds
            for fold in kind(FOLDS, shuffle=True, random_state=seed).split(
                targets, labels, groups if kind is StratifiedGroupKFold else None
            )
        ]
    whole = (fold for fold in found if (targets[fold[0]].any(0) == targets.any(0)).all())
    fit, held = next(whole, found[-1])
    return fit, held


def _path(fit: Rows, val: Rows | None, multi_label: bool, penalties: tuple[float, ...]) -> Solution:
    features, targets, row_weights = fit[0].astype(np.float64), *fit[1:]
    mean, std = features.mean(0), features.std(0)
    std[std == 0] = 1  # a feature that never varied says nothing, and must not when it does
    scaled = (features - mean) / std
    # Under an L2 penalty the solution lies in the span of the rows: with few of them it is
    # found among as many numbers instead of among all features, which is the same and quicker.
    span = np.linalg.qr(scaled.T)[0] if len(scaled) < scaled.shape[1] else None
    scaled = scaled if span is None else scaled @ span
    best, least, worse = None, np.inf, 0
    models = _models(targets.shape[1], multi_label)
    for penalty in penalties:
        weights, intercepts = _fit(models, (scaled, targets, row_weights), multi_label, penalty)
        kernel = (weights if span is None else weights @ span.T).T / std[:, None]
        found = Solution(
            kernel=kernel.astype(np.float32),
            bias=(intercepts - mean @ kernel).astype(np.float32),
            penalty=penalty,
        )
        loss = 0.0 if val is None else _loss(found, val, multi_label)
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

    count = classes if multi_label else 1
    return [LogisticRegression(tol=1e-5, max_iter=1000, warm_start=True) for _ in range(count)]


def _fit(
    models: list[Any], rows: Rows, multi_label: bool, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, F) and intercepts (C,)."""
    scaled, targets, row_weights = rows
    labels = targets.T if multi_label else targets.argmax(1)[None]
    for i, (model, column) in enumerate(zip(models, labels, strict=True)):
        given = row_weights[:, i] if multi_label and row_weights is not None else row_weights
        model.set_params(C=penalty).fit(scaled, column, sample_weight=given)
    weights = np.concatenate([model.coef_ for model in models])
    intercepts = np.concatenate([model.intercept_ for model in models])
    if not multi_label and len(weights) == 1:
        # scikit-learn's two classes are one logit; the head has two.
        return np.concatenate([-weights, weights]) / 2, np.concatenate(
            [-intercepts, intercepts]
        ) / 2
    return weights, intercepts
