"""Loss, accuracy and exact macro F1 of a stage's outputs, as the history of a run names them."""

from typing import Any

import numpy as np

from tltoolkit.evaluation import Report
from tltoolkit.training import objective
from tltoolkit.training.job import Task


def scores(
    task: Task, loss: Any, outputs: np.ndarray, targets: np.ndarray, prefix: str
) -> dict[str, float]:
    """What `fit` would log of outputs and targets (N, C); with a prefix also `f1_macro`."""
    found = objective.values(task, loss, outputs, targets)
    if prefix:
        several = task.job.multi_label
        labels = targets.astype(np.int64) if several else targets.argmax(1)
        said = task.job.network.probabilities(outputs, several)
        report = Report.from_predictions(labels, said)
        # As ValidationMetrics has it, so that solved and fitted stages compare.
        found["f1_macro"] = report.average("f1", "macro", present=True)
    return {prefix + name: value for name, value in found.items()}
