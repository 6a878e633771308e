"""A stage trained by gradient descent: compile, fit, estimate BatchNorm anew if asked."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit import freezing, optimizers
from tltoolkit.callbacks import EarlyStopping, ValidationMetrics
from tltoolkit.callbacks.weight_average import estimate_batch_norm
from tltoolkit.training import scoring
from tltoolkit.training.best import Best, KeepBest
from tltoolkit.training.job import History, Task

# Biases, and the scales and shifts of normalisation, keep their size.
UNDECAYED = ("bias", "gamma", "beta")


def fit(task: Task, best: Best) -> History:
    """Train the stage; the model then has the weights of its last epoch."""
    trainer = task.trainer()
    _reseed(trainer, task.seed)
    _compile(trainer, task)
    with task.data() as (train, val):
        fitted = trainer.fit(
            train,
            validation_data=val,
            epochs=task.stage.epochs,
            shuffle=False,
            verbose=task.job.verbose,
            callbacks=_callbacks(task, best),
        )
        history: History = fitted.history
        if task.stage.batch_norm == "recalibrate":
            _recalibrate(trainer, task, best, history, train, val)
    return history


def _compile(trainer: Any, task: Task) -> None:
    options = {
        "from_logits": task.job.network.from_logits,
        "label_smoothing": task.stage.label_smoothing,
    }
    if task.job.multi_label:
        threshold = 0.0 if options["from_logits"] else 0.5
        loss = keras.losses.BinaryCrossentropy(**options)
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)
    else:
        loss = keras.losses.CategoricalCrossentropy(**options)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    # XLA is slower than TensorFlow's own kernels on a CPU; elsewhere Keras decides.
    jit_compile = "auto" if tf.config.list_physical_devices("GPU") else False
    trainer.compile(_optimizer(trainer, task), loss, metrics=[accuracy], jit_compile=jit_compile)


def _optimizer(trainer: Any, task: Task) -> Any:
    stage, steps = task.stage, task.job.steps
    from_top = list(task.job.network.blocks.values())[::-1]
    depth = {layer: i for i, names in enumerate(from_top) for layer in names}
    trained = [(layer, v) for layer in trainer.layers for v in layer.trainable_variables]
    return optimizers.build(
        stage.optimizer,
        lambda factor: optimizers.schedule(
            stage.schedule,
            stage.learning_rate * factor,
            steps * stage.epochs,
            round(steps * stage.warmup),
        ),
        {v.path: stage.layer_decay ** depth[layer.name] for layer, v in trained},
        momentum=stage.momentum,
        weight_decay=stage.weight_decay,
        clip_norm=stage.clip_norm,
        undecayed=[v for _, v in trained if v.name in UNDECAYED],
    )


def _callbacks(task: Task, best: Best) -> list[Any]:
    job, stage = task.job, task.stage
    own: list[Any] = [
        KeepBest(job.model, best, task.first_epoch),
        keras.callbacks.TerminateOnNaN(),
    ]
    if job.val is not None:
        own.append(
            ValidationMetrics(
                per_class=(),
                averages=("f1_macro",),
                multi_label=job.multi_label,
                from_logits=job.network.from_logits,
            )
        )
    if stage.early_stopping is not None:
        own.append(EarlyStopping(monitor="val_loss", patience=stage.early_stopping))
    return [*own, *job.callbacks]


def _reseed(trainer: Any, seed: int) -> None:
    # Dropout draws from a generator per layer, whose state would depend on what ran before.
    generators = [layer.seed_generator for layer in trainer.layers if freezing.is_random(layer)]
    for i, generator in enumerate(generators):
        generator.state.assign(np.random.SeedSequence((seed, i)).generate_state(2))


def _recalibrate(
    trainer: Any, task: Task, best: Best, history: History, train: Any, val: Any
) -> None:
    """Estimate BatchNorm's averages anew, and add the outcome to the history as an epoch."""
    job = task.job
    unfrozen = freezing.trained_layers(job.network.blocks, task.stage.unfreeze)
    norms = [layer for layer in trainer.layers if freezing.is_batch_norm(layer)]
    for layer in norms:
        layer.trainable = layer.name in unfrozen
    estimate_batch_norm(trainer, train)
    for layer in norms:
        layer.trainable = False
    logs = {name: values[-1] for name, values in history.items()}
    if job.val is not None:
        outputs = trainer.predict(val, verbose=0)
        said = job.network.probabilities(outputs, job.multi_label)
        logs |= scoring.scores(said, job.val.targets, job.multi_label, "val_")
    for name, value in logs.items():
        history[name].append(value)
    best.consider(job.model, task.first_epoch + len(history["loss"]) - 1, logs)
