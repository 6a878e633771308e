"""Loss, accuracy and exact macro F1 of a stage's outputs, as the history of a run names them."""

from typing import Any

import numpy as np

from tltoolkit.callbacks import ValidationMetrics
from tltoolkit.training import objective
from tltoolkit.training.job import Task


def scores(
    task: Task, loss: Any, outputs: np.ndarray, targets: np.ndarray, prefix: str
) -> dict[str, float]:
    """What `fit` would log of outputs and targets (N, C); with a prefix also `f1_macro`."""
    found = objective.values(task, loss, outputs, targets)
    if prefix:
        found |= macro_f1(task, outputs, targets)
    return {prefix + name: value for name, value in found.items()}


def macro_f1(task: Task, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The exact `f1_macro` of outputs and targets (N, C); NaN where an output is not finite."""
    metrics = ValidationMetrics(
        per_class=(),
        averages=("f1_macro",),
        multi_label=task.job.multi_label,
        from_logits=task.job.network.from_logits,
    )
    return metrics.score(targets, outputs)
