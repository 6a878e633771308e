"""Watch weights, updates, gradients and activations of every layer."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tltoolkit import _checks
from tltoolkit._checks import SWITCH, Integer, Table
from tltoolkit.callbacks import monitor_advice
from tltoolkit.layers import graph

MONITOR: Table = {"freq": Integer(1) | "epoch", "stop_on_nan": SWITCH}


class TrainingMonitor(keras.callbacks.Callback):
    """Record the health of every layer, say what is far off, and stop on NaN.

    For each layer: minimum, maximum, mean and norm of its trained weights, and the
    update-to-weight ratio ||w_after - w_before|| / ||w_before|| of one step (healthy near 1e-3;
    Karpathy, CS231n notes). With a `batch`, also of the gradients and activations on that
    batch, without dropout and without touching the model, at the price of one training step;
    and the share of dead units: channels that give 0 for the whole batch.

    Args:
        batch: (x, y) as the model trains on it, kept to measure on; None for weights only.
        freq: "epoch" (the update is that of the epoch's first step, all else is measured at its
            end), or a number of steps between two measurements.
        log_dir: directory for TensorBoard histograms; None writes none.
        stop_on_nan: stop training at the first step whose loss is NaN or infinite.

    Attributes:
        records: one dict per layer, kind ("weights", "gradients", "activations") and moment,
            with epoch, step, layer, kind, min, max, mean, norm, dead, update_ratio.
        advice: sentences, each said once per moment, with the epoch.

    Activations need a functional or Sequential model; of others they are left out. With
    `steps_per_execution=n` the ratio is the mean over the n steps of an execution.

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu", name="d")])
    >>> model.compile(keras.optimizers.SGD(1e-9), "mse")
    >>> x, y = np.ones((4, 2)), np.ones((4, 3))
    >>> monitor = TrainingMonitor((x, y))
    >>> history = model.fit(x, y, verbose=0, callbacks=[monitor])
    >>> [row["kind"] for row in monitor.records]
    ['weights', 'gradients', 'activations']
    >>> "raise the learning rate" in monitor.advice[0]
    True
    """

    def __init__(
        self,
        batch: tuple[Any, Any] | None = None,
        freq: str | int = "epoch",
        log_dir: str | Path | None = None,
        stop_on_nan: bool = True,
    ) -> None:
        super().__init__()
        if batch is not None and not (isinstance(batch, tuple) and len(batch) == 2):
            raise _checks.fail("batch", "a pair (x, y) or None", type(batch))
        _checks.arguments(MONITOR, locals())
        # Now, and not when the first histogram is written.
        if log_dir is not None and importlib.util.find_spec("tensorboard") is None:
            raise ImportError("`log_dir` needs tensorboard: pip install 'tltoolkit[tensorboard]'")
        self.batch = batch
        self.freq = freq
        self.log_dir = log_dir
        self.stop_on_nan = stop_on_nan
        self.records: list[dict[str, Any]] = []
        self.advice: list[str] = []
        self._step = 0
        self._epoch = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start afresh."""
        self.records, self.advice = [], []
        self._step = 0
        self._before: list[Any] | None = None
        self._ratios: dict[str, float] = {}
        self._names: dict[int, str] | None = None
        self._batch_tensors: Any = None
        self._writer: Any = (
            None if self.log_dir is None else tf.summary.create_file_writer(str(self.log_dir))
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the weights if the step that follows is measured."""
        if self._is_due(batch):
            # With steps_per_execution the end is not the same batch.
            self._begin = batch
            # Copies: the optimizer changes variables in place.
            self._before = [tf.identity(w.value) for w in self.model.trainable_weights]

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure the update; stop on NaN."""
        if self._before is not None:
            if self._before:  # before its first step, a model may have no weights yet
                self._ratios = self._update_ratios(self._before, batch - self._begin + 1)
            self._before = None
            if self.freq != "epoch":
                self._measure()
        self._step += 1
        loss = (logs or {}).get("loss", 0.0)
        if self.stop_on_nan and not math.isfinite(loss):
            # Found now: after another step everything would be NaN.
            where = self._first_broken()
            self.advice.append(f"epoch {self._epoch + 1}: stopped, the loss is {loss}; {where}")
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure everything."""
        if self.freq == "epoch":
            self._measure()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the TensorBoard file."""
        if self._writer is not None:
            self._writer.close()

    def table(self) -> str:
        """The latest measurement as aligned text, one line per layer and kind."""
        last = self.records[-1]["step"] if self.records else None
        return monitor_advice.table([row for row in self.records if row["step"] == last])

    def get_state(self) -> dict[str, Any]:
        """All that changes while training runs."""
        return {"records": self.records, "advice": self.advice, "step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        self.records, self.advice = list(state["records"]), list(state["advice"])
        self._step = state["step"]

    def _is_due(self, batch: int) -> bool:
        return batch == 0 if self.freq == "epoch" else self._step % int(self.freq) == 0

    def _layers(self) -> list[Any]:
        """Layers with weights of their own that are trained, innermost ones only."""
        return [layer for layer in _leaves(self.model) if layer.trainable_weights]

    def _name(self, layer: Any) -> str:
        """Its own, or its path where layers of nested models have one name."""
        if self._names is None:
            self._names = graph.labels(self.model)
        return self._names.get(id(layer), layer.name)

    def _update_ratios(self, values: list[Any], steps: int) -> dict[str, float]:
        # By identity, as Keras compares variables by value.
        before = dict(zip(map(id, self.model.trainable_weights), values, strict=True))
        ratios = {}
        for layer in self._layers():
            old = [before[id(w)] for w in layer.trainable_weights]
            change = [w.value - o for w, o in zip(layer.trainable_weights, old, strict=True)]
            size = float(tf.linalg.global_norm(old))
            if size > 0:
                ratios[self._name(layer)] = float(tf.linalg.global_norm(change)) / size / steps
        return ratios

    def _measure(self) -> None:
        groups = {
            ("weights", self._name(layer)): _joined(layer.trainable_weights)
            for layer in self._layers()
        }
        groups |= self._on_batch()
        # All layers in one graph: five numbers of each would be as many calls.
        numbers = _statistics(list(groups.values())).numpy().tolist() if groups else []
        rows = []
        for (kind, name), (low, high, mean, norm, dead) in zip(groups, numbers, strict=True):
            row = {"epoch": self._epoch, "step": self._step, "layer": name, "kind": kind}
            row |= {"min": low, "max": high, "mean": mean, "norm": norm}
            row["dead"] = dead if kind == "activations" else None
            row["update_ratio"] = self._ratios.get(name) if kind == "weights" else None
            rows.append(row)
        self.records += rows
        self.advice += [f"epoch {self._epoch + 1}: {text}" for text in monitor_advice.advice(rows)]
        if self._writer is not None:
            self._write(groups)

    def _on_batch(self) -> dict[tuple[str, str], Any]:
        """Gradients and activations by kind and layer."""
        if self.batch is None:
            return {}
        if self._batch_tensors is None:
            self._batch_tensors = keras.tree.map_structure(tf.convert_to_tensor, self.batch)
            self._gradients = tf.function(self._gradients_of_batch)
            self._probe = _probe(self.model)
        gradients = dict(zip(map(id, self.model.trainable_weights), self._gradients(), strict=True))
        groups = {}
        for layer in self._layers():
            own = [gradients[id(w)] for w in layer.trainable_weights]
            own = [g for g in own if g is not None]
            if own:
                groups["gradients", self._name(layer)] = _joined(own)
        if self._probe is not None:
            activations = self._probe(self._batch_tensors[0])
            groups |= {("activations", name): value for name, value in activations.items()}
        return groups

    def _gradients_of_batch(self) -> list[Any]:
        x, y = self._batch_tensors
        with tf.GradientTape() as tape:
            # In inference mode, so that measuring draws nothing and moves no averages.
            outputs = self.model(x, training=False)
            loss = self.model.compute_loss(x=x, y=y, y_pred=outputs, training=False)
        # The tape knows TensorFlow's variables, not the Keras ones around them.
        weights = [w.value for w in self.model.trainable_weights]
        return list(tape.gradient(loss, weights))

    def _first_broken(self) -> str:
        """Which layer, in order, is the first with a number that is not finite."""
        groups = self._on_batch()
        for layer in self._layers():
            groups["weights", self._name(layer)] = _joined(layer.trainable_weights)
        # Activations first: they name the layer where it began.
        for kind in ("activations", "weights", "gradients"):
            for (of, name), value in groups.items():
                if of == kind and not bool(tf.reduce_all(tf.math.is_finite(value))):
                    return f"the first layer with {kind} that are not finite is {name}"
        return "all weights are still finite: look at the inputs, the targets and the loss"

    def _write(self, groups: dict[tuple[str, str], Any]) -> None:
        with self._writer.as_default(step=self._step):
            for (kind, name), value in groups.items():
                tf.summary.histogram(f"{kind}/{name}", tf.cast(value, tf.float32))
            for name, ratio in self._ratios.items():
                tf.summary.scalar(f"update_ratio/{name}", ratio)
        self._writer.flush()


def _leaves(model: Any) -> Iterator[Any]:
    """The layers of a model in order, those of nested models instead of these."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _leaves(layer)
        else:
            yield layer


def _joined(tensors: list[Any]) -> Any:
    """All values of a layer in one float32 vector."""
    flat = [tf.reshape(tf.convert_to_tensor(tensor), [-1]) for tensor in tensors]
    return tf.concat([tf.cast(values, tf.float32) for values in flat], axis=0)


@tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator,unused-ignore]
def _statistics(tensors: list[Any]) -> Any:
    """(len(tensors), 5): minimum, maximum, mean, norm, and the share of dead channels."""
    rows = []
    for tensor in tensors:
        values = tf.cast(tensor, tf.float32)
        # Channels are last; of a vector, as weights are, every number is one and nobody reads it.
        silent = tf.reduce_all(tf.equal(values, 0), axis=range(values.shape.rank - 1))
        dead = tf.reduce_mean(tf.cast(silent, tf.float32))
        extremes = [tf.reduce_min(values), tf.reduce_max(values), tf.reduce_mean(values)]
        rows.append(tf.stack([*extremes, tf.norm(values), dead]))
    return tf.stack(rows)


def _probe(model: Any) -> Any:
    """A compiled function from x to the outputs of the layers by name; None without a graph."""
    if not graph.is_functional(model):
        return None
    # Not `layer.output`: a layer may belong to another model too, and be called there as well.
    calls = [node for node in graph.nodes(model) if not node.is_input]
    names = graph.labels(model)
    single = {names[id(n.layer)]: n.outputs[0] for n in calls if len(n.outputs) == 1}
    # A Sequential has no `input` of its own before it is called.
    inputs = model.inputs if isinstance(model, keras.Sequential) else model.input
    probe = graph.part(model, inputs, single)
    return tf.function(lambda x: probe(x, training=False))
