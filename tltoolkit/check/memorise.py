"""Train on a few images until none is wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tltoolkit.callbacks.weight_average import estimate_batch_norm
from tltoolkit.model import freezing
from tltoolkit.plans.stages import Stage
from tltoolkit.training import gradient
from tltoolkit.training.job import Job, task_of
from tltoolkit.training.objective import loss_of

# Steps between two looks at the errors.
LOOK = 5


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One training by heart.

    Attributes:
        learning_rate: Of Adam.
        losses: One per step.
        loss: In inference mode, at the end.
        errors: Images that are wrong in inference mode, at the end.
    """

    learning_rate: float
    losses: tuple[float, ...]
    loss: float
    errors: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What learns, and from what.

    Attributes:
        trainer: The part of the model above what is frozen.
        start: Values of its variables.
        x: (N, ...) its inputs for all images.
        y: (N, C) targets.
        loss: From targets and outputs to a number.
        answers: From outputs (N, C) to probabilities.
        multi_label: Whether an image may have several labels.
        seed: Of dropout.
    """

    trainer: Any
    start: list[NDArray[Any]]
    x: Any
    y: Any
    loss: Any
    answers: Callable[[NDArray[Any]], NDArray[Any]]
    multi_label: bool
    seed: int

    def reset(self) -> None:
        """Back to the start."""
        for variable, value in zip(self.trainer.variables, self.start, strict=True):
            variable.assign(value)
        # Dropout draws the same in every attempt, so that only the rate differs.
        gradient.reseed(self.trainer, self.seed)


def subject_of(job: Job) -> Subject:
    """The images of a job, activations of what is frozen computed, as the model is set now."""
    model = job.model
    # A stage for form's sake, by which it is decided where to cut.
    task = task_of(job, Stage("memorise", epochs=1, augment=None), 0, 0, freezing.applied(model))
    if task.tensor is None:
        # A batch is all images here: `capacity` gives as many as there are to learn.
        images, _ = next(iter(job.train.batches(job.augmented, job.batch_size)))
        x = tf.cast(job.network.as_input(images)[0], tf.float32)
    else:
        stored, _ = task.stored()
        assert stored is not None  # there is a boundary
        x = tf.constant(stored[0])
    trainer = task.trainer()
    return Subject(
        trainer=trainer,
        # Copied, since the array of a variable is its memory, which training overwrites.
        start=[np.copy(v.numpy()) for v in trainer.variables],
        x=x,
        y=tf.constant(job.train.targets),
        loss=loss_of(task),
        answers=lambda said: job.network.probabilities(said, job.multi_label),
        multi_label=job.multi_label,
        seed=job.seed,
    )


def attempt(subject: Subject, learning_rate: float, steps: int) -> Attempt:
    """Adam on all images at once, until none is wrong, the loss breaks, or `steps` are over."""
    subject.reset()
    trainer = subject.trainer
    variables = trainer.trainable_variables
    # Not the stage's optimizer: no decay, schedule or clipping may stand in the way.
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(variables)

    def step() -> Any:
        with tf.GradientTape() as tape:
            value = subject.loss(subject.y, trainer(subject.x, training=True))
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value

    # Anew for each attempt, whose optimizer has variables of its own.
    traced = tf.function(step, autograph=False)
    losses: list[float] = []
    loss, errors = np.inf, len(subject.y)
    while len(losses) < steps and errors:
        losses += [float(traced()) for _ in range(min(LOOK, steps - len(losses)))]
        # No way back from it, and what inference would say is of broken weights.
        if not np.isfinite(losses[-1]):
            loss = np.inf
            break
        loss, errors = _outcome(subject)
    return Attempt(learning_rate=learning_rate, losses=tuple(losses), loss=loss, errors=errors)


def _outcome(subject: Subject) -> tuple[float, int]:
    """Loss and errors in inference mode."""
    trainer = subject.trainer
    # Averages that BatchNorm has gathered in a few steps are not yet those of these images.
    estimate_batch_norm(trainer, [subject.x])
    outputs = trainer(subject.x, training=False)
    said, truth = subject.answers(outputs.numpy()), subject.y.numpy()
    if subject.multi_label:
        wrong = ((said > 0.5) != (truth > 0.5)).any(1)
    else:
        wrong = said.argmax(1) != truth.argmax(1)
    return float(subject.loss(subject.y, outputs)), int(wrong.sum())
