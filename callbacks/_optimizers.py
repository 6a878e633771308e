"""Reaching through the optimizers that wrap others."""

from typing import Any

import keras

from tltoolkit.layers import private


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that update weights: inside a loss scale or a MultiOptimizer, or itself."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return inner_optimizers(optimizer.inner_optimizer)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        return list(optimizer.optimizers)
    return [optimizer]


def optimizers_of(model: Any) -> list[Any]:
    """The optimizers that will update the weights of a compiled model.

    Raises:
        ValueError: a MultiOptimizer, and a model that has no weights yet.
    """
    if _is_multi(model.optimizer) and not model.optimizer.built:
        # It has none before it is built, which `fit` does in its first step. Others are left to
        # `fit`: a model may get its weights there, and what is built knows no more of them.
        if not model.built:
            raise ValueError(
                "a MultiOptimizer has no optimizers before the model has weights; give the model "
                "its input first (keras.Input, or model.build)"
            )
        # As `fit` builds it: variables belong to a strategy for good.
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    return inner_optimizers(model.optimizer)


def _is_multi(optimizer: Any) -> bool:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _is_multi(optimizer.inner_optimizer)
    return isinstance(optimizer, keras.optimizers.MultiOptimizer)


def rate_of(optimizer: Any) -> float:
    """The learning rate that the next step uses."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def has_schedule(optimizer: Any) -> bool:
    """Whether the optimizer was made with a schedule, so that a rate cannot be assigned."""
    return isinstance(
        private.rate_source(optimizer), keras.optimizers.schedules.LearningRateSchedule
    )


def rate_names(optimizers: list[Any]) -> list[str]:
    """The names of the rates in the logs, as Keras gives them."""
    if len(optimizers) == 1:
        return ["learning_rate"]
    return [f"learning_rate_{optimizer.name}" for optimizer in optimizers]
