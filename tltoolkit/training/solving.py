"""A stage that solves the linear head to its optimum on stored features."""

from dataclasses import dataclass, replace

import numpy as np

from tltoolkit.data import duplicates
from tltoolkit.model import freezing
from tltoolkit.plans.stages import Stage
from tltoolkit.plans.terms import LBFGS
from tltoolkit.solving.statistics import Statistics, names_read, size
from tltoolkit.training import closed, objective, probe, saying, scoring
from tltoolkit.training.closed import Choice
from tltoolkit.training.job import History, Job, Task, task_of
from tltoolkit.training.linear import activated, check_stage, l2_of, linear_head
from tltoolkit.training.progress import Progress


def fit(task: Task, progress: Progress) -> History:
    """Solve the head and give it to the model; the history has one epoch.

    Raises:
        ValueError: The head is not one dense layer.
    """
    check_stage(task.job.network, task.stage)
    rows, targets = _rows(task)
    held = _held(task)
    if task.stage.optimizer == LBFGS:
        found = _logistic(task, rows, targets, held)
    else:
        progress.choice = choice_of(task)
        found = progress.choice.on(rows, targets)
    logs = give(task, *found)
    if task.job.verbose:
        print(f"Solved: {saying.values(logs)}", flush=True)
    progress.best.consider(task.job.model, task.first_epoch, logs)
    return {name: [value] for name, value in logs.items()}


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A head in closed form, and what it was solved on.

    Attributes:
        task: Its stage.
        choice: The heads that were chosen.
        held: Whether the validation images were among its rows.
        heat: What its logits were divided by afterwards.
    """

    task: Task
    choice: Choice
    held: bool = False
    heat: float = 1.0

    def size(self) -> int:
        """Bytes that the statistics take."""
        (one,) = self.choice.choices
        names = names_read(self.choice.parts, self.choice.candidates, one.chosen)
        return size(self.choice.parts, names)

    def statistics(self) -> Statistics:
        """The sums of its rows, for a head without weights of rows: see `known.counts_alike`."""
        rows, targets = on_rows(self.task, self.held)
        (one,) = self.choice.choices
        chosen = [replace(head, share=head.share / self.heat) for head in one.chosen]
        return Statistics.of(rows, targets, self.choice.parts, self.choice.candidates, chosen)


def task_of_head(job: Job, stage: Stage) -> Task:
    """The task of a run's first stage, which solves the head, on the model as it is now."""
    plan = freezing.freeze_plan(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)
    return task_of(job, stage, 0, 0, plan)


def choice_of(task: Task) -> Choice:
    """The heads in closed form that images which they have not seen speak for."""
    rows, targets = _rows(task)
    held, train, val = _held(task), task.job.train.source, task.job.val
    together = duplicates.together([train] if val is None else [train, val.source])
    count = len(train)
    # Versions of one image belong together. A row that was made up lies between several images.
    made_up = task.job.correction.imbalance.features is not None
    groups = (
        np.arange(len(rows)) + len(together) if made_up else np.tile(together[:count], task.views)
    )
    return closed.choose(task, rows, targets, np.concatenate([groups, together[count:]]), held)


def give(task: Task, kernel: np.ndarray, bias: np.ndarray) -> dict[str, float]:
    """Give the head a kernel (F, C) and a bias (C,) for the training classes; its scores."""
    job, dense = task.job, linear_head(task.job.network)
    assert dense is not None
    offsets = job.correction.offsets
    # A fitted head learns logits that the loss adds them to; a solved one has learned the sum.
    bias = bias if offsets is None else bias - offsets
    kernel, bias = (job.network.per_output(part, job.multi_label) for part in (kernel, bias))
    dense.kernel.assign(kernel)
    dense.bias.assign(bias)
    loss = objective.loss_of(task)

    def scores(features: np.ndarray, targets: np.ndarray, prefix: str) -> dict[str, float]:
        said = activated(job.network, features @ kernel + bias)
        return scoring.scores(task, loss, said, targets, prefix)

    held = _held(task)
    return scores(*_rows(task), "") | ({} if held is None else scores(*held, "val_"))


def on_training(task: Task, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the chosen heads, solved on the training images."""
    return choice.on(*_rows(task))


def usual(task: Task, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a head on the last block alone, solved on the training images."""
    return choice.usual(*_rows(task))


def on_all(task: Task, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of the chosen heads, solved on training and validation images together."""
    return choice.on(*on_rows(task, held=True))


def on_rows(task: Task, held: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features and targets of the training images, and where `held` of the validation images."""
    rows, more = _rows(task), _held(task) if held else None
    if more is None:
        return rows
    return np.concatenate([rows[0], more[0]]), np.concatenate([rows[1], more[1]])


def held_out_f1(task: Task, choice: Choice) -> float:
    """Macro F1 of what the chosen heads say of images that they have not seen; NaN for none."""
    targets, held = _rows(task)[1], _held(task)
    if held is not None:
        targets = np.concatenate([targets, held[1]])
    # NaN marks rows that no part held out.
    said = np.isfinite(choice.held_out).all(1)
    if not said.any():
        return float("nan")
    logits = choice.held_out[said]
    per_output = task.job.network.per_output(logits, task.job.multi_label)
    outputs = activated(task.job.network, per_output)
    return scoring.macro_f1(task, outputs, targets[: len(said)][said])["f1_macro"]


def validated(task: Task, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (M, C) of the validation images, and their targets."""
    held = _held(task)
    assert held is not None  # asked for only where there are some
    return held[0] @ kernel + bias, held[1]


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
        # A row that was made up lies between several images.
        groups=None if made_up else _groups(task),
    )
    return found.kernel, found.bias
