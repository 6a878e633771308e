"""Loss, accuracy and exact macro F1 of probabilities, as the history of a run names them."""

import numpy as np

from tltoolkit.evaluation import Report
from tltoolkit.training import probe


def scores(
    probabilities: np.ndarray, targets: np.ndarray, multi_label: bool, prefix: str
) -> dict[str, float]:
    """`loss` and `accuracy` of (N, C) probabilities and targets; with a prefix also `f1_macro`."""
    labels = targets.astype(np.int64) if multi_label else targets.argmax(1)
    said = (probabilities >= 0.5) if multi_label else probabilities.argmax(1)
    found = {
        "loss": probe.log_loss(probabilities, targets, multi_label),
        "accuracy": float((said == labels).mean()),
    }
    if prefix:
        found["f1_macro"] = float(Report.from_predictions(labels, probabilities).f1_macro)
    return {prefix + name: value for name, value in found.items()}
