"""A stage that solves the linear head to its optimum on stored features."""

from typing import Any

import keras
import numpy as np

from tltoolkit import _checks, freezing
from tltoolkit.network import Network, probabilities
from tltoolkit.training import probe, scoring
from tltoolkit.training.best import Best
from tltoolkit.training.job import History, Task


def fit(task: Task, best: Best) -> History:
    """Solve the head and give it to the model; the history has one epoch.

    Raises:
        ValueError: The head is not one dense layer.
    """
    job = task.job
    dense = linear_head(job.network)
    if dense is None:
        rule = "one whose head is one dense layer with a bias, for optimizer='lbfgs'"
        raise _checks.fail("model", rule, job.network.blocks[freezing.HEAD])
    stored, *val = task.stored()
    # Every stored version of an image is a row of its own.
    rows = stored.reshape(-1, stored.shape[-1])
    targets = np.tile(job.train.targets, (task.views, 1))
    held = None if job.val is None else (val[0][0], job.val.targets)
    found = probe.solve(rows, targets, held, job.multi_label, task.seed)
    dense.kernel.assign(found.kernel)
    dense.bias.assign(found.bias)

    def scores(features: np.ndarray, targets: np.ndarray, prefix: str) -> dict[str, float]:
        logits = features @ found.kernel + found.bias
        said = probabilities(logits, job.multi_label)
        return scoring.scores(said, targets, job.multi_label, prefix)

    logs = scores(rows, targets, "")
    if held is not None:
        logs |= scores(*held, "val_")
    if job.verbose:
        print(" - ".join(f"{name}: {value:.4f}" for name, value in logs.items()))
    best.consider(job.model, task.first_epoch, logs)
    return {name: [value] for name, value in logs.items()}


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
