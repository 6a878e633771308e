"""Keras optimizers as a stage asks for them: schedule, layer-wise rates, decay, clipping."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras

from tltoolkit.plans.terms import OPTIMIZERS

# The class of each of `terms.OPTIMIZERS`.
CLASSES = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": partial(keras.optimizers.SGD, nesterov=True),
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
}


def schedule(name: str, learning_rate: float, steps: int, warmup_steps: int) -> Any:
    """A float or a Keras schedule: linear warm-up to `learning_rate`, then `name`.

    The first of k warm-up steps has a k-th of the rate, not zero, so that no step is lost.
    """
    start = learning_rate / max(1, warmup_steps)
    if name == "constant":
        return (
            keras.optimizers.schedules.PolynomialDecay(start, warmup_steps, learning_rate)
            if warmup_steps
            else learning_rate
        )
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    # After a warm-up of the whole stage none are left, which CosineDecay refuses (Keras 3.15.1).
    return keras.optimizers.schedules.CosineDecay(
        start, max(1, steps - warmup_steps), warmup_target=learning_rate, warmup_steps=warmup_steps
    )


def build(
    name: str,
    rate: Callable[[float], Any],
    factors: Mapping[int, float],
    *,
    momentum: float,
    weight_decay: float,
    clip_norm: float | None,
    undecayed: Sequence[Any],
) -> Any:
    """An optimizer whose learning rate for a variable is `rate(factor)`.

    Args:
        name: A key of `terms.OPTIMIZERS`.
        rate: From a factor to a learning rate or Keras schedule.
        factors: id of a variable -> factor of its rate, for every variable that trains. One
            distinct factor makes a plain optimizer, several a `keras.optimizers.MultiOptimizer`.
        momentum: For those optimizers that have one.
        weight_decay: Decoupled, for every variable but `undecayed`, where the optimizer has it.
        clip_norm: Limit of the norm of all gradients together, or None.
        undecayed: Variables without weight decay.
    """
    # As floats: Keras 3.15 compares them with the type of its variables.
    given = {"momentum": float(momentum), "weight_decay": float(weight_decay)}
    extra = {argument: given[argument] for argument in sorted(OPTIMIZERS[name])}

    def single(factor: float, clip: float | None = None) -> Any:
        made = CLASSES[name](rate(factor), global_clipnorm=clip, **extra)
        if extra.get("weight_decay") and undecayed:
            made.exclude_from_weight_decay(var_list=list(undecayed))
        return made

    distinct = sorted(set(factors.values()))
    if len(distinct) == 1:
        return single(distinct[0], clip_norm)
    by_factor = {factor: single(factor) for factor in distinct}
    moving = frozenset(key for key, factor in factors.items() if factor)
    return ClippedMultiOptimizer(lambda v: by_factor[factors[id(v)]], clip_norm, moving)


class ClippedMultiOptimizer(keras.optimizers.MultiOptimizer):
    """Keras' MultiOptimizer with the gradient of all variables clipped as one vector.

    The inner optimizers see only their own share, so they cannot clip by the whole norm.

    Args:
        optimizer_map: From a variable to its optimizer.
        clip_norm: Limit of the norm, or None.
        moving: ids of the variables that it is the norm of. One at a rate of 0, such as a wide
            head that is kept, would have the steps of all others shortened.
    """

    def __init__(
        self, optimizer_map: Callable[[Any], Any], clip_norm: float | None, moving: frozenset[int]
    ) -> None:
        super().__init__(optimizer_map)
        self.clip_norm = clip_norm
        self.moving = moving
        self.built_for: tuple[int, ...] = ()

    def build(self, variables: Sequence[Any]) -> None:
        """Note which variables `apply` alone is about."""
        super().build(variables)
        # Their ids: Keras counts a variable that an optimizer holds among the optimizer's own.
        self.built_for = tuple(map(id, variables))

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Clip, then let each inner optimizer update its variables."""
        if self.clip_norm is not None:
            named = trainable_variables is not None
            own = map(id, trainable_variables) if named else self.built_for
            counted = [g for g, key in zip(grads, own, strict=True) if key in self.moving]
            squares = [keras.ops.sum(keras.ops.square(g)) for g in counted if g is not None]
            norm = keras.ops.sqrt(sum(squares))
            # Never above 1, and never a division by zero.
            scale = self.clip_norm / keras.ops.maximum(norm, self.clip_norm)
            grads = [None if g is None else g * keras.ops.cast(scale, g.dtype) for g in grads]
        super().apply(grads, trainable_variables)
