"""The validation images, scored at the end of each epoch from what is stored of them."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit.callbacks import ValidationMetrics
from tltoolkit.training import objective, scoring
from tltoolkit.training.job import Task


class Validation(keras.callbacks.Callback):
    """Scores the validation images after each epoch, and adds the scores to its logs.

    In place of `fit(validation_data=...)`, which would compute the frozen part of the model in
    every epoch where training does, and hands the outputs to nobody. Comes before all callbacks
    that read the logs. It tells the callbacks of the user what `fit` would: their `on_test_*`
    are called, and `ValidationMetrics` among them get the outputs.

    Args:
        task: The stage.
        model: What `held` goes through.
        loss: That of the stage.
        held: Batches of the validation images, or of their activations, in their own order.
    """

    def __init__(self, task: Task, model: Any, loss: Any, held: tf.data.Dataset) -> None:
        super().__init__()
        self.task = task
        self.held = held
        self.others = task.job.callbacks
        self.watched = any(_is_own(one.on_test_batch_end) for one in self.others)
        # A corrected loss is a metric too, which is exact, and takes the place of the first.
        self.metrics = [keras.metrics.Mean(name="loss"), *objective.metrics_of(task, loss)]
        self.last: dict[str, float] = {}
        # By its signature, as the last batch is smaller and would be traced again.
        self._step = tf.function(
            _step_of(model, loss, self.metrics), input_signature=held.element_spec, autograph=False
        )

    def scores(self) -> dict[str, float]:
        """Name -> value, as `fit` would name them; each with "val_" before it."""
        for metric in self.metrics:
            metric.reset_state()
        self._tell("on_test_begin", {})
        outputs = np.concatenate([self._scored(i, *batch) for i, batch in enumerate(self.held)])
        logs = self._logs()
        self._tell("on_test_end", dict(logs))
        assert self.task.job.val is not None
        targets = self.task.job.val.targets
        for one in self.others:
            if isinstance(one, ValidationMetrics):
                logs |= one.score(targets, outputs)
        logs |= scoring.macro_f1(self.task, outputs, targets)
        return {f"val_{name}": logs[name] for name in sorted(logs)}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the scores to the logs, which Keras hands on to all callbacks that follow."""
        self.last = self.scores()
        if logs is not None:
            logs.update(self.last)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Here too, where `fit` would repeat those of the last epoch."""
        if logs is not None:
            logs.update(self.last)

    def _scored(self, number: int, x: Any, y: Any) -> np.ndarray:
        self._tell("on_test_batch_begin", number, {})
        outputs: np.ndarray = self._step(x, y).numpy()
        self._tell("on_test_batch_end", number, self._logs() if self.watched else {})
        return outputs

    def _logs(self) -> dict[str, float]:
        return {metric.name: float(metric.result()) for metric in self.metrics}

    def _tell(self, event: str, *what: int | Mapping[str, float]) -> None:
        for one in self.others:
            getattr(one, event)(*what)


def _step_of(model: Any, loss: Any, metrics: list[Any]) -> Any:
    """From a batch to its outputs; the metrics take them in."""
    mean, *others = metrics

    def step(x: Any, y: Any) -> Any:
        outputs = model(x, training=False)
        penalties = sum(keras.ops.sum(penalty) for penalty in model.losses)
        # By the number of rows, since the last batch has fewer.
        mean.update_state(loss(y, outputs) + penalties, sample_weight=tf.shape(x)[0])
        for metric in others:
            metric.update_state(y, outputs)
        return outputs

    return step


def _is_own(method: Any) -> bool:
    """Whether a callback has a method of its own in place of Keras' empty one."""
    return getattr(method, "__func__", method) is not keras.callbacks.Callback.on_test_batch_end
