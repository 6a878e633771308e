"""A stage that solves the linear head to its optimum on stored features."""

from typing import Any

import keras
import numpy as np

from tltoolkit import _checks, freezing
from tltoolkit.network import Network, probabilities
from tltoolkit.training import objective, probe, scoring
from tltoolkit.training.job import History, Task
from tltoolkit.training.progress import Progress


def fit(task: Task, progress: Progress) -> History:
    """Solve the head and give it to the model; the history has one epoch.

    Raises:
        ValueError: The head is not one dense layer.
    """
    job = task.job
    dense = linear_head(job.network)
    if dense is None:
        rule = "one whose head is one dense layer with a bias, for optimizer='lbfgs'"
        raise _checks.fail("model", rule, job.network.blocks[freezing.HEAD])
    rows, targets = _rows(task)
    val = task.stored()[1]
    held = None if job.val is None or val is None else (val[0], job.val.targets)
    correction, made_up = job.correction, job.correction.imbalance.features is not None
    found = probe.solve(
        rows,
        targets,
        held,
        job.multi_label,
        task.seed,
        weights=correction.solver_weights(targets, made_up),
        val_weights=None if held is None else correction.solver_weights(held[1]),
    )
    offsets = correction.offsets
    bias = found.bias if offsets is None else found.bias - offsets
    dense.kernel.assign(found.kernel)
    dense.bias.assign(bias)
    loss = objective.loss_of(task)

    def scores(features: np.ndarray, targets: np.ndarray, prefix: str) -> dict[str, float]:
        outputs = features @ found.kernel + bias
        if not job.network.from_logits:
            outputs = probabilities(outputs, job.multi_label)
        return scoring.scores(task, loss, outputs, targets, prefix)

    logs = scores(rows, targets, "")
    if held is not None:
        logs |= scores(*held, "val_")
    if job.verbose:
        print(" - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
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


def linear_head(network: Network) -> Any | None:
    """The one dense layer of the head, if it takes stored features as they are; or None."""
    head = set(network.blocks[freezing.HEAD])
    weighted = [layer for layer in network.model.layers if layer.name in head and layer.weights]
    if network.output is None or len(weighted) != 1:
        return None
    dense = weighted[0]
    if not isinstance(dense, keras.layers.Dense) or not dense.use_bias:
        return None
    plan = freezing.freeze_plan(network.model, network.blocks, freezing.HEAD)
    cut = freezing.boundary(network.model, plan)
    fits = cut is not None and tuple(cut.shape) == (None, dense.kernel.shape[0])
    return dense if fits else None
