"""What a stage minimises and reports: its loss, corrected for imbalance, and the metrics."""

from typing import Any

import keras
import numpy as np

from tltoolkit import losses
from tltoolkit.imbalance import deferred_from
from tltoolkit.training.job import Task

PLAIN = "cross_entropy"


def loss_of(task: Task) -> losses.CrossEntropy:
    """The loss that the stage trains by."""
    correction, name = task.job.correction, task.job.correction.imbalance.loss
    offsets = correction.offsets
    options: dict[str, Any] = {
        "class_weights": correction.class_weights,
        "offsets": None if offsets is None else list(offsets),
        "label_smoothing": task.stage.label_smoothing,
        "from_logits": task.job.network.from_logits,
    }
    if name == "ldam":
        # In place of the others: they count from a late epoch on.
        options["class_weights"] = correction.deferred_weights
        return losses.LDAM(list(correction.counts), margin=correction.imbalance.margin, **options)
    if name == "asymmetric":
        # Before `multi_label` is set, which it has itself.
        return losses.Asymmetric(**options)
    options["multi_label"] = task.job.multi_label
    if name in ("focal", "balanced_focal"):
        # Balanced focal is focal with its weights, which `class_weights` has in it already.
        return losses.Focal(gamma=correction.imbalance.gamma, **options)
    return losses.CrossEntropy(**options)


def metrics_of(task: Task, loss: losses.CrossEntropy) -> list[Any]:
    """Accuracy and, where the loss is a corrected one, that loss and the plain one, exactly."""
    network = task.job.network
    # A logit of 0 is a probability of one half.
    threshold = 0.0 if network.from_logits else 0.5
    if network.one_for_two(task.job.multi_label):
        # Keras' binary accuracy takes targets (B, 1), and these are (B, 2).
        found = [keras.metrics.MeanMetricWrapper(_is_right, "accuracy", threshold=threshold)]
    elif task.job.multi_label:
        found = [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
    else:
        found = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if not task.job.correction.in_loss:
        return found
    plain = losses.CrossEntropy(multi_label=task.job.multi_label, from_logits=network.from_logits)
    return [*found, losses.MeanLoss(loss, "loss"), losses.MeanLoss(plain, PLAIN)]


def _is_right(y_true: Any, y_pred: Any, threshold: float) -> Any:
    """Whether one output (B, 1) is on the right side, for targets (B, 2)."""
    return keras.ops.equal(y_true[:, 1] > 0.5, y_pred[:, 0] > threshold)


def callbacks_of(task: Task, loss: losses.CrossEntropy) -> list[Any]:
    """What changes the loss from epoch to epoch."""
    if not isinstance(loss, losses.LDAM):
        return []
    return [losses.DeferWeights(loss, deferred_from(task.stage.epochs))]


def values(task: Task, loss: losses.CrossEntropy, outputs: Any, targets: Any) -> dict[str, float]:
    """The loss and metrics of outputs and targets (N, C), by name."""
    found = metrics_of(task, loss)
    if all(metric.name != "loss" for metric in found):
        found.append(losses.MeanLoss(loss, "loss"))
    for metric in found:
        metric.update_state(targets, np.asarray(outputs, np.float32))
    return {metric.name: float(metric.result()) for metric in found}
