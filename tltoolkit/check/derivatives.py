"""gradients: the automatic gradients of a layer, model or loss against differences."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.check import double
from tltoolkit.check.terms import GRADIENTS
from tltoolkit.layers.random_states import same_random_state

# A difference over a kink (a ReLU at 0) is wrong by itself; over a smaller step there is none.
SMALLER = (1.0, 0.1, 0.01)
# Derivatives this much smaller than the largest of their variable are compared with that.
FLOOR = 1e-3
# What rounding may do to a sum of the outputs, relative to its size.
ROUNDING = 100 * np.finfo(np.float64).eps

# Of the rows that a loss is checked on, if it does not say how many it takes.
CLASSES = 3

# Outputs as a function of nothing, and the variables that they depend on by name.
Point = tuple[Callable[[], Any], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class GradientCheck:
    """What `gradients` found. Prints as a table, the worst first.

    Attributes:
        errors: Name of a variable or an input -> relative error of its gradient, at its worst
            entry: |automatic - difference| / the larger of the two.
        tolerance: Largest relative error that passes.
    """

    errors: Mapping[str, float]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether all gradients are right."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """Names whose gradient is wrong, the worst first."""
        names = sorted(self.errors, key=lambda name: -self.errors[name])
        # Not `>`, so that a NaN is wrong.
        return tuple(name for name in names if not self.errors[name] <= self.tolerance)

    def __str__(self) -> str:
        verdict = "all gradients are right" if self.ok else f"wrong: {', '.join(self.wrong)}"
        rows = sorted(self.errors.items(), key=lambda row: -row[1])
        return "\n".join([verdict, *(f"{error:9.1e}  {name}" for name, error in rows)])


def gradients(
    target: Any,
    *inputs: Any,
    training: bool = True,
    h: float = 1e-4,
    tolerance: float = 1e-5,
    entries: int = 20,
    seed: int = 0,
) -> GradientCheck:
    """Compare automatic gradients with central differences, in float64.

    For layers, models and losses of your own. The outputs are summed up with random weights;
    the derivative of that by each variable and each input is compared with
    (f(x + h) - f(x - h)) / 2h, entry by entry. What is checked is a copy in float64, built from
    the config, since the rounding of float32 would hide errors; `target` stays as it is.

    Args:
        target: A Keras layer or model; or a loss, as a `keras.losses.Loss` or a function of
            `(y_true, y_pred)`, which is differentiated by `y_pred` alone.
        *inputs: What the layer is called with, arrays; or `y_true` and `y_pred`. Whole numbers
            are not differentiated by. Without any, random numbers of the shape that a model or
            a built layer takes, or four random one-hot rows and rows of probabilities, of as many
            classes as a loss of `tl.losses` says, or else of three.
        training: Whether the layer is called as in training.
        h: Step of the differences, > 0. Where they disagree, h / 10 and h / 100 are tried too,
            because a kink may lie between.
        tolerance: Largest relative error that passes, > 0.
        entries: How many entries of each variable and input are looked at, >= 1, at random.
        seed: Of all that is random here.

    Raises:
        TypeError: Something that cannot be called.
        ValueError: An argument out of range; a layer that draws random numbers, that computes
            in float32 whatever its inputs are, or that cannot be built anew.
    """
    _checks.arguments(GRADIENTS, locals())
    if not callable(target):
        raise TypeError(str(_checks.fail("target", "a layer, a model or a loss", target)))
    rng = np.random.default_rng(seed)
    with contextlib.ExitStack() as stack:
        # First in, last out: also what building the copy draws is put back.
        stack.enter_context(same_random_state())
        stack.enter_context(double.float64())
        if isinstance(target, keras.layers.Layer):
            values = [double.as_float64(value) for value in inputs or _layer_inputs(target, rng)]
            copy = stack.enter_context(double.layer_copy(target, tuple(values)))
            function, points = _of_layer(copy, values, training)
        else:
            function, points = _of_loss(target, inputs, rng)
        function = _summed(function, target, rng)
        with tf.GradientTape() as tape:
            total = function()
        automatic = tape.gradient(total, list(points.values()))
        errors = {
            name: _error(function, value, gradient, h, tolerance, entries, rng)
            for (name, value), gradient in zip(points.items(), automatic, strict=True)
        }
    return GradientCheck(errors=errors, tolerance=tolerance)


def _of_loss(loss: Any, inputs: tuple[Any, ...], rng: np.random.Generator) -> Point:
    true, said = _loss_inputs(inputs, getattr(loss, "classes", None) or CLASSES, rng)
    prediction = tf.Variable(said)
    function = double.loss_function(loss)
    return lambda: function(true, prediction.value()), {"y_pred": prediction}


def _of_layer(copy: Any, values: list[Any], training: bool) -> Point:
    fed = [tf.Variable(v) if v.dtype == tf.float64 else v for v in values]
    kept = [(v, v.numpy()) for v in copy.non_trainable_variables]

    def outputs() -> Any:
        out = copy(*(tf.convert_to_tensor(value) for value in fed), training=training)
        # Averages that a call moves must not make the next call another function.
        for variable, value in kept:
            # But for these: put back, dropout would draw the same twice and not be noticed.
            if "seed_generator" not in variable.path:
                variable.assign(value)
        return out

    # Paths of layers that nobody named can be the same.
    points = {f"{v.path} ({i})": v.value for i, v in enumerate(copy.trainable_variables)}
    names = ["input"] if len(fed) == 1 else [f"input {i}" for i in range(len(fed))]
    floats = zip(names, fed, strict=True)
    return outputs, points | {name: v for name, v in floats if isinstance(v, tf.Variable)}


def _loss_inputs(
    inputs: tuple[Any, ...], classes: int, rng: np.random.Generator
) -> tuple[Any, Any]:
    if not inputs:
        inputs = (
            np.eye(classes)[rng.integers(0, classes, 4)],
            # By 5, away from 0 and 1, where the logarithm in a loss is too steep for differences.
            rng.dirichlet(np.ones(classes) * 5, 4),
        )
    if len(inputs) != 2:
        raise _checks.fail("inputs", "y_true and y_pred for a loss", inputs)
    true, said = (double.as_float64(value) for value in inputs)
    if said.dtype != tf.float64:
        raise _checks.fail("inputs", "y_true and y_pred, the latter of floating point", said)
    return true, said


def _layer_inputs(layer: Any, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    shapes = None
    if isinstance(layer, keras.Model) and layer.built and hasattr(layer, "inputs"):
        shapes = [tuple(tensor.shape) for tensor in layer.inputs or []]
    elif layer.built:
        # Keras notes it when a layer is built, unless that took several shapes (3.15.1).
        shape = (layer.get_build_config() or {}).get("input_shape")
        shapes = [tuple(shape)] if isinstance(shape, list | tuple) else None
    if not shapes or any(size is None for shape in shapes for size in shape[1:]):
        rule = "given for a layer whose input shape is not known, as gradients(layer, x)"
        raise _checks.fail("inputs", rule, ())
    return [rng.normal(size=(3, *shape[1:])) for shape in shapes]


def _summed(
    function: Callable[[], Any], target: Any, rng: np.random.Generator
) -> Callable[[], Any]:
    """The outputs as one number; checked to be of float64 and the same each time."""
    first, second = (keras.tree.flatten(function()) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        if one.dtype != tf.float64:
            rule = f"one that computes in the precision of its inputs, not in {one.dtype.name}"
            raise _checks.fail("target", rule, target)
        if not np.array_equal(one.numpy(), other.numpy(), equal_nan=True):
            rule = (
                "one that gives the same output twice; this one draws random numbers or keeps a "
                "state: check it with training=False, with a rate of 0, or with a fixed integer "
                "seed in each call"
            )
            raise _checks.fail("target", rule, target)
    # Random, as a plain sum is blind to what cancels, such as all of a softmax.
    weights = [rng.normal(size=one.shape) for one in first]

    def total() -> Any:
        parts = zip(keras.tree.flatten(function()), weights, strict=True)
        return tf.add_n([tf.reduce_sum(out * weight) for out, weight in parts])

    # Traced: it is called twice for each entry that is looked at.
    return tf.function(total, autograph=False)


def _error(
    function: Callable[[], Any],
    variable: Any,
    gradient: Any,
    h: float,
    tolerance: float,
    entries: int,
    rng: np.random.Generator,
) -> float:
    """The largest relative error over some entries of a variable."""
    start = variable.numpy()
    # An automatic gradient of None says that the outputs do not depend on the variable.
    found = np.zeros(start.shape) if gradient is None else tf.convert_to_tensor(gradient).numpy()
    floor = FLOOR * max(np.abs(found).max(initial=0), np.finfo(np.float64).tiny)
    chosen = rng.permutation(start.size)[:entries]

    def moved(entry: int, by: float) -> float:
        value = start.copy()
        value.flat[entry] += by
        variable.assign(value)
        return float(function())

    def error(entry: int, step: float) -> float:
        up, down = moved(entry, step), moved(entry, -step)
        difference, said = (up - down) / (2 * step), found.flat[entry]
        # Taken off the error, or a flat entry of a large sum would seem wrong.
        rounding = ROUNDING * max(abs(up), abs(down)) / step
        apart = max(0.0, abs(difference - said) - rounding)
        return float(apart / max(abs(difference), abs(said), floor))

    worst = 0.0
    try:
        for entry in chosen:
            least = np.inf
            for factor in SMALLER:
                least = min(least, error(int(entry), h * factor))
                # A wrong gradient is wrong at every step; a kink is passed by at a smaller one.
                if least <= tolerance:
                    break
            worst = max(worst, least)
    finally:
        # Also after Ctrl-C: without a copy these are the layer's own variables.
        variable.assign(start)
    return worst
