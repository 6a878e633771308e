"""Reaching through the optimizers that wrap others."""

from typing import Any

import keras


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that update weights: inside a loss scale or a MultiOptimizer, or itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return inner_optimizers(optimizer.inner_optimizer)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return list(optimizer.optimizers)
    return [optimizer]


def optimizers_of(model: Any) -> list[Any]:
    """The optimizers that will update the weights of a compiled model."""
    if not model.optimizer.built:
        # A MultiOptimizer has none before it is built, which `fit` does in its first step.
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    return inner_optimizers(model.optimizer)


def rate_of(optimizer: Any) -> float:
    """The learning rate that the next step uses."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def has_schedule(optimizer: Any) -> bool:
    """Whether the optimizer was made with a schedule, so that a rate cannot be assigned."""
    return isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule)


def rate_names(optimizers: list[Any]) -> list[str]:
    """The names of the rates in the logs, as Keras gives them."""
    if len(optimizers) == 1:
        return ["learning_rate"]
    return [f"learning_rate_{optimizer.name}" for optimizer in optimizers]
