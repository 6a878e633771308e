"""A stage trained by gradient descent: compile, fit, estimate BatchNorm anew if asked."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit.callbacks import EarlyStopping
from tltoolkit.callbacks.weight_average import estimate_batch_norm
from tltoolkit.layers import graph, traits
from tltoolkit.training import objective, optimizers, saying
from tltoolkit.training.best import Best, KeepBest
from tltoolkit.training.finite import Finite
from tltoolkit.training.frozen import FrozenCheck
from tltoolkit.training.job import History, Task, recalibrated
from tltoolkit.training.objective import loss_of
from tltoolkit.training.progress import Progress, StageCheckpoints
from tltoolkit.training.terms import BARS, LINES
from tltoolkit.training.validation import Validation

# Biases, and the scales and shifts of normalisation, keep their size.
UNDECAYED = ("bias", "gamma", "beta")


def fit(task: Task, progress: Progress) -> History:
    """Train the stage; the model then has the weights of its last epoch."""
    trainer = task.trainer()
    # By the stage's own seed, so that a stage is the same whatever ran before.
    reseed(trainer, task.seed)
    loss = loss_of(task)
    _compile(trainer, task, loss)
    with task.data(progress.start) as (train, held), _one_log(task, progress):
        validation = None if held is None else Validation(task, task.scorer(trainer), loss, held)
        fitted = trainer.fit(
            train,
            epochs=task.stage.epochs,
            # The data come in an order of their own, keyed by seed and epoch.
            shuffle=False,
            verbose=int(task.job.verbose == BARS),
            callbacks=[
                *objective.callbacks_of(task, loss),
                *_callbacks(task, progress, validation),
            ],
        )
        history: History = fitted.history
        if task.stage.batch_norm == "recalibrate":
            _recalibrate(trainer, task, progress.best, history, train, validation)
    return history


def _compile(trainer: Any, task: Task, loss: Any) -> None:
    stage, steps = task.stage, task.job.steps

    def rate(factor: float) -> Any:
        return optimizers.schedule(
            stage.schedule,
            float(stage.learning_rate) * factor,
            steps * stage.epochs,
            round(steps * stage.warmup),
        )

    # XLA is slower than TensorFlow's own kernels on a CPU; elsewhere Keras decides.
    jit_compile = "auto" if tf.config.list_physical_devices("GPU") else False
    trainer.compile(
        optimizer_of(trainer, task, rate),
        loss,
        metrics=objective.metrics_of(task, loss),
        jit_compile=jit_compile,
    )
    # Keras makes their variables within the first step (3.15.1), and TensorFlow then traces that
    # step once more: twice the time before a stage begins.
    with trainer.distribute_strategy.scope():
        trainer.optimizer.build(trainer.trainable_variables)
        targets = task.job.train.targets[:1]
        trainer.compute_metrics(None, targets, np.zeros_like(targets))


def optimizer_of(trainer: Any, task: Task, rate: Callable[[float], Any]) -> Any:
    """A new optimizer as the stage asks for it.

    Args:
        trainer: The model that trains, its freeze plan applied.
        task: The stage.
        rate: From a variable's factor of `layer_decay` and `head_rate` to a learning rate or
            Keras schedule.
    """
    stage = task.stage
    # Blocks from the top, so that the head is at depth 0 of any network.
    from_top = list(task.job.network.blocks.values())[::-1]
    depth = {layer: i for i, names in enumerate(from_top) for layer in names}
    labels = graph.labels(task.job.model)
    trained = [
        (labels[id(layer)], v) for layer in trainer.layers for v in layer.trainable_variables
    ]
    return optimizers.build(
        stage.optimizer,
        rate,
        {
            # Depth 0 is the head.
            id(v): stage.layer_decay ** depth[layer] * (1.0 if depth[layer] else stage.head_rate)
            for layer, v in trained
        },
        momentum=stage.momentum,
        weight_decay=stage.weight_decay,
        clip_norm=stage.clip_norm,
        undecayed=[v for _, v in trained if _is_undecayed(v)],
    )


def _is_undecayed(variable: Any) -> bool:
    """Offsets and scales, which have one dimension where they have no name, as in LayerScale."""
    return variable.name in UNDECAYED or len(variable.shape) < 2


def _callbacks(task: Task, progress: Progress, validation: Validation | None) -> list[Any]:
    job, stage = task.job, task.stage
    kept = "" if progress.directory is None else f"; a checkpoint is kept in {progress.directory}"
    finite = Finite(task, progress.start, kept)
    # Right behind, so that all others find the scores in the logs.
    own: list[Any] = [finite] if validation is None else [finite, validation]
    own.append(FrozenCheck(task, progress.begun["hashes"]))
    if stage.early_stopping is not None:
        own.append(EarlyStopping(monitor="val_loss", patience=stage.early_stopping))
    # After those that put an average of the weights into the model at the end of an epoch.
    best = KeepBest(job.model, progress.best, task.first_epoch)
    said = [saying.Lines()] * (job.verbose == LINES)
    callbacks = [*own, *job.callbacks, best, *said]
    if progress.directory is not None:
        # Last, so that a checkpoint has what all others made of the epoch.
        callbacks.append(StageCheckpoints(progress, task, callbacks, finite))
    return callbacks


@contextlib.contextmanager
def _one_log(task: Task, progress: Progress) -> Iterator[None]:
    """Let a CSVLogger go on with its file in later stages; each `fit` would begin it anew."""
    logs = [c for c in task.job.callbacks if isinstance(c, keras.callbacks.CSVLogger)]
    kept = [log.append for log in logs]
    begun = any(not result.stage.solved for result in progress.results)
    for log in logs:
        # The user's own choice counts as well.
        log.append = log.append or begun or progress.start != (0, 0)
    try:
        yield
    finally:
        for log, append in zip(logs, kept, strict=True):
            log.append = append


def reseed(trainer: Any, seed: int) -> None:
    """Start the generators of random layers anew, whatever ran before."""
    for i, generator in enumerate(traits.generators(trainer)):
        # A SeedGenerator's state is two numbers (Keras 3.15.1).
        generator.state.assign(np.random.SeedSequence((seed, i)).generate_state(2))


def _recalibrate(
    trainer: Any,
    task: Task,
    best: Best,
    history: History,
    train: Any,
    validation: Validation | None,
) -> None:
    """Estimate BatchNorm's averages anew, and add the outcome to the history as an epoch."""
    job = task.job
    moved = {id(norm) for norm in recalibrated(job, task.stage).values()}
    flags = [(norm, norm.trainable) for norm in traits.batch_norms(trainer)]
    for norm, _ in flags:
        # `estimate_batch_norm` goes by this flag.
        norm.trainable = id(norm) in moved
    estimate_batch_norm(trainer, train)
    for norm, trainable in flags:
        norm.trainable = trainable
    # Training figures of the last epoch: estimating has none of its own.
    logs = {name: values[-1] for name, values in history.items()}
    if validation is not None:
        logs |= validation.scores()
    for name, value in logs.items():
        history[name].append(value)
    best.consider(job.model, task.first_epoch + len(history["loss"]) - 1, logs)
