"""A stage that solves the linear head to its optimum on stored features."""

import numpy as np

from tltoolkit.plans.terms import LBFGS
from tltoolkit.training import closed, objective, probe, saying, scoring
from tltoolkit.training.job import History, Task
from tltoolkit.training.linear import activated, check_stage, l2_of, linear_head
from tltoolkit.training.progress import Progress


def fit(task: Task, progress: Progress) -> History:
    """Solve the head and give it to the model; the history has one epoch.

    Raises:
        ValueError: The head is not one dense layer.
    """
    job = task.job
    check_stage(job.network, task.stage)
    dense = linear_head(job.network)
    assert dense is not None
    rows, targets = _rows(task)
    held = _held(task)
    solve = _logistic if task.stage.optimizer == LBFGS else _closed
    kernel, bias = solve(task, rows, targets, held)
    offsets = job.correction.offsets
    bias = bias if offsets is None else bias - offsets
    kernel, bias = (job.network.per_output(part, job.multi_label) for part in (kernel, bias))
    dense.kernel.assign(kernel)
    dense.bias.assign(bias)
    loss = objective.loss_of(task)

    def scores(features: np.ndarray, targets: np.ndarray, prefix: str) -> dict[str, float]:
        said = activated(job.network, features @ kernel + bias)
        return scoring.scores(task, loss, said, targets, prefix)

    logs = scores(rows, targets, "")
    if held is not None:
        logs |= scores(*held, "val_")
    if job.verbose:
        print(f"Solved: {saying.values(logs)}", flush=True)
    progress.best.consider(job.model, task.first_epoch, logs)
    return {name: [value] for name, value in logs.items()}


def _rows(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Features (M, F) and targets (M, C): every stored version of an image is a row of its own."""
    if task.job.correction.imbalance.features is not None:
        rows, targets = task.made_up
        return rows[0], targets
    stored = task.stored()[0]
    assert stored is not None
    targets = np.tile(task.job.train.targets, (task.views, 1))
    return stored.reshape(-1, stored.shape[-1]), targets


def _groups(task: Task) -> np.ndarray | None:
    """Which rows are of one group, or versions of one image; None if each is on its own."""
    source, views = task.job.train.source, task.views
    groups = getattr(source, "groups", None)
    if groups is None and views == 1:
        return None
    return np.tile(np.arange(len(source)) if groups is None else groups, views)


def _held(task: Task) -> tuple[np.ndarray, np.ndarray] | None:
    """Features (M, F) and targets (M, C) of the validation images."""
    val = task.stored()[1]
    return None if task.job.val is None or val is None else (val[0], task.job.val.targets)


def _logistic(
    task: Task, rows: np.ndarray, targets: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (F, C) and bias (C,) by logistic regression."""
    job = task.job
    correction, made_up = job.correction, job.correction.imbalance.features is not None
    dense = linear_head(job.network)
    found = probe.solve(
        rows,
        targets,
        held,
        job.multi_label,
        task.seed,
        weights=correction.solver_weights(targets, made_up),
        val_weights=None if held is None else correction.solver_weights(held[1]),
        l2=l2_of(dense),
        groups=None if made_up else _groups(task),
    )
    return found.kernel, found.bias


def _closed(
    task: Task, rows: np.ndarray, targets: np.ndarray, held: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (F, C) and bias (C,) by closed forms, chosen on all images, solved on these."""
    groups, val = _groups(task), task.job.val
    together = np.arange(len(rows)) if groups is None else groups
    if held is not None and val is not None:
        own = getattr(val.source, "groups", None)
        # No group lies in two splits, so that numbers which follow are those of new groups.
        _, together = np.unique(together, return_inverse=True)
        _, later = np.unique(np.arange(len(held[0])) if own is None else own, return_inverse=True)
        together = np.concatenate([together, later + together.max() + 1])
    return closed.choose(task, rows, targets, together, held).on(rows, targets)
