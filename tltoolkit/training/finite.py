"""A loss or weight that is not finite ends the run, and the error says where it came from."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tltoolkit._checks import listed
from tltoolkit.layers import graph
from tltoolkit.training.job import Task

SHOWN = 5  # images in the message; a batch has many


class Finite(keras.callbacks.Callback):
    """Stops at the first step whose loss is not finite, and at weights that are not.

    Args:
        task: The stage.
        start: Epoch and step at which its `fit` begins.
        kept: What is said of the checkpoint before, or "".

    Raises:
        FloatingPointError: In the step, naming stage, epoch, step, images and layer.
    """

    def __init__(self, task: Task, start: tuple[int, int] = (0, 0), kept: str = "") -> None:
        super().__init__()
        self.task = task
        self.start = start
        self.kept = kept
        self.epoch = self.step = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Look at the loss, which is the mean of the epoch so far: one NaN makes it NaN."""
        first_epoch, first_step = self.start
        self.step = batch + (first_step if self.epoch == first_epoch else 0)
        # A loss that is not logged cannot be looked at, and is no reason to stop.
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise self.error(f"the loss became {loss}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Look at the weights: the loss of the last step is from before its update."""
        self.check_weights()

    def check_weights(self) -> None:
        """Raise FloatingPointError unless all trained weights are finite."""
        if not _finite(self.model.trainable_variables):
            raise self.error("weights became NaN or infinite")

    def error(self, what: str) -> FloatingPointError:
        """What happened, when, on which images, in which layer, and what to do about it."""
        stage = self.task.stage
        names = listed(self.task.names(self.epoch, self.step), SHOWN)
        return FloatingPointError(
            f"{what} in stage {stage.name!r}, epoch {self.epoch + 1}, step {self.step + 1}, on "
            f"{names}; {self._first_broken()}; "
            f"try a learning_rate below {float(stage.learning_rate):g}{self.kept}"
        )

    def _first_broken(self) -> str:
        # The same step again, from data keyed by epoch and step.
        with self.task.data((self.epoch, self.step)) as (train, _):
            x, *_ = next(iter(train))
        name = first_broken(self.model, x)
        return (
            f"the first layer whose output is not finite is {name}"
            if name
            else "all layers give finite values: look at the targets"
        )


def first_broken(model: Any, x: Any) -> str | None:
    """The first layer, in the order of the graph, whose output on a batch is not finite.

    Of a model whose graph is not known, the first whose weights are not; None if all are.
    """
    # Without a graph outputs of single layers cannot be had.
    if not graph.is_functional(model):
        broken = (layer.name for layer in model.layers if not _finite(layer.weights))
        return next(broken, None)
    labels = graph.labels(model)
    calls = [
        (labels.get(id(node.layer), node.layer.name), tensor)
        for node in graph.nodes(model)
        for tensor in node.outputs
    ]
    probe = graph.part(model, model.inputs, [tensor for _, tensor in calls])
    outputs = probe(x, training=False)
    pairs = zip(calls, outputs, strict=True)
    return next((name for (name, _), output in pairs if not _finite([output])), None)


def _finite(values: Iterable[Any]) -> bool:
    tensors = [tf.convert_to_tensor(value) for value in values]
    # TensorFlow's is_finite takes no whole numbers, as states of generators are.
    floats = [tensor for tensor in tensors if tensor.dtype.is_floating]
    return all(bool(tf.reduce_all(tf.math.is_finite(tensor))) for tensor in floats)
