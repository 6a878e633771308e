"""Losses of a stage's own model, images and optimizer at many learning rates."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tltoolkit.training import gradient, rates
from tltoolkit.training.job import Task
from tltoolkit.training.objective import loss_of
from tltoolkit.training.rates import RateCurve
from tltoolkit.training.terms import SWEEP
from tltoolkit.training.untouched import untouched

# From where weights hardly move to where the loss explodes.
LOW, HIGH = 1e-6, 10.0
# Of a sweep, through seven decades; of a rung, of which the last quarter is averaged.
SWEEP_STEPS, RUNG_STEPS = 100, 30
# Of a rung, the share of last steps whose mean loss is its result.
LAST = 0.25

# From one rate per step to one loss per step.
Losses = Callable[[NDArray[np.float64]], Iterator[float]]


def find_rate(
    task: Task,
    mode: str = SWEEP,
    low: float = LOW,
    high: float = HIGH,
    steps: int | None = None,
) -> RateCurve:
    """Try rates on a stage whose freeze plan is applied; the model stays as it is.

    Args:
        task: The stage; its own learning rate and schedule do not matter.
        mode: `"sweep"`: the rate grows exponentially from step to step. `"ladder"`: every rate
            of 0.1, 0.03, 0.01, ... gets the same steps from the same weights.
        low: Lowest rate.
        high: Highest rate.
        steps: Of the whole sweep, or of each rung; None is 100 or 30.
    """
    with untouched(task.job.model):
        trainer = task.trainer()
        make = _losses(trainer, task)
        if mode == SWEEP:
            return sweep(make, low, high, steps or SWEEP_STEPS)
        return ladder(make, low, high, steps or RUNG_STEPS)


def sweep(make: Losses, low: float, high: float, steps: int) -> RateCurve:
    """One loss per step at a rate that grows exponentially, until the loss explodes.

    Args:
        make: From one rate per step to the losses of as many training steps; each time it is
            called from the same weights and images.
        low: First rate.
        high: Last rate.
        steps: How many.
    """
    tried = np.geomspace(low, high, steps)
    losses: list[float] = []
    for loss in make(tried):
        losses.append(loss)
        if rates.diverged(np.array(losses), steps):
            break
    seen = tried[: len(losses)], np.array(losses)
    # Each suggestion is tried from the start: a sweep's own losses depend on the rates before.
    return rates.from_sweep(*seen, steps, lambda rate: rung(make, rate, RUNG_STEPS))


def ladder(make: Losses, low: float, high: float, steps: int) -> RateCurve:
    """One rung per rate of 0.1, 0.03, 0.01, ...; the other arguments as for `sweep`."""
    tried = rates.rungs(low, high)
    return rates.from_ladder(tried, np.array([rung(make, rate, steps) for rate in tried]))


def rung(make: Losses, rate: float, steps: int) -> float:
    """The mean loss at the end of so many steps at one rate, from the start."""
    losses = list(make(np.full(steps, rate)))
    return float(np.mean(losses[-max(1, int(LAST * steps)) :]))


def _losses(trainer: Any, task: Task) -> Losses:
    """Training steps of a stage; traced once, whatever the rates."""
    # Of any length, so that a sweep and its rungs share one traced step.
    listed = tf.Variable(np.zeros(1, np.float32), shape=tf.TensorShape([None]))
    optimizer = gradient.optimizer_of(trainer, task, lambda factor: _Listed(listed, factor))
    step = training_step(trainer, loss_of(task), optimizer)
    changing = [*trainer.variables, *optimizer.variables]
    # Copied, since the array of a variable is its memory, which steps overwrite.
    start = [np.copy(v.numpy()) for v in changing]

    def make(rates: NDArray[np.float64]) -> Iterator[float]:
        for variable, value in zip(changing, start, strict=True):
            variable.assign(value)
        gradient.reseed(trainer, task.seed)
        listed.assign(rates.astype(np.float32))
        with task.data() as (train, _):
            epochs = itertools.chain.from_iterable(itertools.repeat(train))
            # The batches never end: the rates do.
            yield from (step(batch) for batch, _ in zip(epochs, rates, strict=False))

    return make


class _Listed(keras.optimizers.schedules.LearningRateSchedule):
    """The rates of a list, one per step; the list can be another one next time."""

    def __init__(self, rates: Any, factor: float) -> None:
        self.rates = rates
        self.factor = factor

    def __call__(self, step: Any) -> Any:
        return self.factor * tf.gather(self.rates, tf.cast(step, tf.int64))


def training_step(trainer: Any, loss: Any, optimizer: Any) -> Callable[[Any], float]:
    """A function from a batch to its loss, which it then goes down by one step.

    Not `fit`, because that would have to compile a model that may be the user's own.
    """
    variables = trainer.trainable_variables
    # Now, so that its variables can be noted before the first step.
    optimizer.build(variables)

    def step(x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(y, trainer(x, training=True), sample_weight=weight)
            # Penalties of layers, which `fit` adds to the loss as well.
            value += sum(trainer.losses)
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        return value

    # The last batch of an epoch may be smaller, which is no reason to trace again.
    traced = tf.function(step, reduce_retracing=True, autograph=False)
    return lambda batch: float(traced(*keras.utils.unpack_x_y_sample_weight(batch)))
