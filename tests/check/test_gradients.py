"""Planted wrong gradients are found, right ones pass."""

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tltoolkit as tl

ops, layers = keras.ops, keras.layers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5))
MAPS = RNG.normal(size=(2, 6, 6, 3))
ROWS = RNG.normal(size=(2, 5, 4))


def planted(forward: Callable[[Any], Any], backward: Callable[[Any, Any], Any]) -> Any:
    """A layer of a formula and of a gradient that somebody wrote for it."""

    @tf.custom_gradient
    def formula(x: Any) -> Any:
        return forward(x), lambda up: backward(x, up)

    return layers.Lambda(formula)


class Scale(layers.Layer):
    """x * w, with w's gradient wrong by `factor`."""

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, shape: tuple[int, ...]) -> None:
        self.w = self.add_weight(shape=(shape[-1],), initializer="normal", name="w")

    def call(self, x: Any) -> Any:
        @tf.custom_gradient
        def product(x: Any, w: Any) -> Any:
            return x * w, lambda up: (up * w, self.factor * tf.reduce_sum(up * x, 0))

        return product(x, tf.convert_to_tensor(self.w))


class Inner(layers.Layer):
    """Another layer inside, and a constructor that takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3, activation="tanh")

    def call(self, x: Any) -> Any:
        return self.dense(x) ** 2


@tf.custom_gradient
def wrong_loss(true: Any, said: Any) -> Any:
    gap = said - true
    return tf.reduce_mean(gap**2, -1), lambda up: (None, up[:, None] * gap)  # twice too small


class WrongLoss(keras.losses.Loss):
    def call(self, y_true: Any, y_pred: Any) -> Any:
        return wrong_loss(y_true, y_pred)


def focal(true: Any, said: Any) -> Any:
    return -ops.sum(true * (1 - said) ** 2 * ops.log(said), -1)


WRONG = {
    "square without its 2": (planted(lambda x: x**2, lambda x, up: up * x), X),
    "sign": (planted(tf.sin, lambda x, up: -up * tf.cos(x)), X),
    "one per cent": (planted(tf.exp, lambda x, up: 1.01 * up * tf.exp(x)), X),
    "a thousandth": (planted(tf.tanh, lambda x, up: 1.001 * up * (1 - tf.tanh(x) ** 2)), X),
    "zero": (planted(lambda x: x * 3, lambda x, up: tf.zeros_like(x)), X),
    "one side only": (planted(tf.abs, lambda x, up: up * tf.cast(x > 0, x.dtype)), X),
    "upstream forgotten": (planted(lambda x: 2 * x, lambda x, up: 2 * tf.ones_like(x)), X),
    "one column": (
        planted(lambda x: x**3, lambda x, up: 3 * up * x**2 * np.array([1, 1, 1, 1, 1.1])),
        X,
    ),
    "rows mixed": (planted(lambda x: x**2, lambda x, up: 2 * up * x[::-1]), X),
    "a variable's": (Scale(1.05), X),
}
RIGHT = {
    "dense": (layers.Dense(3, activation="gelu"), X),
    "relu": (layers.Dense(30, activation="relu"), X),
    "conv": (layers.Conv2D(4, 3, activation="swish"), MAPS),
    "depthwise": (layers.DepthwiseConv2D(3), MAPS),
    "transposed": (layers.Conv2DTranspose(2, 3, strides=2), MAPS),
    "max pool": (layers.MaxPooling2D(), MAPS),
    "mean pool": (layers.GlobalAveragePooling2D(), MAPS),
    "batch norm": (layers.BatchNormalization(), MAPS),
    "layer norm": (layers.LayerNormalization(), X),
    "group norm": (layers.GroupNormalization(3), MAPS),
    "softmax": (layers.Softmax(), X),
    "lstm": (layers.LSTM(3), ROWS),
    "attention": (layers.MultiHeadAttention(2, 3), ROWS, ROWS),
    "embedding": (layers.Embedding(7, 3), np.array([[1, 2], [3, 6]])),
    "own": (Scale(), X),
    "own with a layer inside": (Inner(), X),
    "own formula": (planted(tf.sin, lambda x, up: up * tf.cos(x)), X),
    "cross-entropy": (keras.losses.CategoricalCrossentropy(label_smoothing=0.1),),
    "squared error": (keras.losses.MeanSquaredError(), X, X[::-1]),
    "own loss": (focal,),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_is_found_and_named(name: str) -> None:
    found = tl.check.gradients(*WRONG[name])
    assert not found.ok
    (wrong,) = found.wrong
    assert ("w" if name == "a variable's" else "input") in wrong
    assert str(found).startswith("wrong: ")


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_passes(name: str) -> None:
    found = tl.check.gradients(*RIGHT[name])
    assert found.ok, str(found)
    assert found.errors
    assert str(found).startswith("all gradients are right")


def test_the_relative_error_is_that_of_the_plant() -> None:
    found = tl.check.gradients(*WRONG["one per cent"])
    assert found.errors["input"] == pytest.approx(0.01 / 1.01, rel=1e-3)
    # up * 1.05 x against up * x: |1.05 - 1| / 1.05.
    (_, error), *_ = sorted(tl.check.gradients(*WRONG["a variable's"]).errors.items())[::-1]
    assert error == pytest.approx(0.05 / 1.05, rel=1e-3)


@pytest.mark.parametrize("loss", [wrong_loss, WrongLoss()])
def test_a_wrong_loss_is_found(loss: Any) -> None:
    assert tl.check.gradients(loss, X, X[::-1]).wrong == ("y_pred",)


COUNTS, WEIGHTS = [50, 20, 9, 4, 1], [1.0, 2.0, 3.0, 4.0, 5.0]
LOSSES = [
    tl.losses.CrossEntropy(),
    tl.losses.CrossEntropy(WEIGHTS, offsets=WEIGHTS, label_smoothing=0.1),
    tl.losses.CrossEntropy(WEIGHTS, multi_label=True),
    tl.losses.CrossEntropy(from_logits=False),
    tl.losses.CrossEntropy(from_logits=False, multi_label=True),
    tl.losses.LogitAdjusted(COUNTS),
    tl.losses.LDAM(COUNTS, WEIGHTS, scale=30.0),
    tl.losses.Focal(gamma=0.5),
    tl.losses.Focal(WEIGHTS, multi_label=True),
    tl.losses.BalancedFocal(COUNTS),
    tl.losses.Asymmetric(),
    tl.losses.Asymmetric(WEIGHTS, clip=0.0, from_logits=False),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_every_loss_of_the_toolkit_is_checked_as_it_is_made(loss: Any) -> None:
    found = tl.check.gradients(loss)
    assert found.ok, str(found)


def test_losses_of_one_output_are_right_too() -> None:
    for loss in (tl.losses.CrossEntropy(), tl.losses.Focal([1.0, 2.0]), tl.losses.LDAM([5, 2])):
        assert tl.check.gradients(loss, np.array([0, 1, 1, 0]), X[:, :1]).ok


def test_the_losses_cover_the_room() -> None:
    kinds = {type(loss).__name__ for loss in LOSSES}
    named = {getattr(tl.losses, name) for name in tl.losses.__all__}
    losses = {kind.__name__ for kind in named if issubclass(kind, keras.losses.Loss)}
    assert kinds == losses


def test_a_model_and_its_variables() -> None:
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Rescaling(0.5),
            layers.Conv2D(2, 3, activation="relu", name="conv"),
            layers.BatchNormalization(),
            layers.Flatten(),
            Scale(1.2, name="mine"),
            layers.Dense(2, activation="softmax"),
        ]
    )
    before = [v.numpy() for v in model.variables]
    found = tl.check.gradients(model)
    assert ["mine/w" in name for name in found.wrong] == [True]
    for variable, value in zip(model.variables, before, strict=True):
        assert variable.dtype == "float32"
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_kink_between_two_points_is_no_error() -> None:
    assert tl.check.gradients(layers.ReLU(), np.array([[3e-5, -2e-5, 1.0]])).ok


@pytest.mark.parametrize(
    "layer", [layers.Dropout(0.5), layers.Dropout(0.5, seed=1), layers.GaussianNoise(0.1)]
)
def test_random_layers_are_refused_with_a_word_on_how(layer: Any) -> None:
    with pytest.raises(ValueError, match="draws random numbers.*training=False, with a rate of 0"):
        tl.check.gradients(layer, X)
    assert tl.check.gradients(layer, X, training=False).ok


class Rounding(layers.Layer):
    def call(self, x: Any) -> Any:
        return ops.cast(x, "float32") * 2


class Nameless(layers.Layer):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def build(self, shape: tuple[int, ...]) -> None:
        self.bias = self.add_weight(shape=())

    def call(self, x: Any) -> Any:
        return self.function(x) + self.bias


@pytest.mark.parametrize(
    ("target", "inputs", "options", "message"),
    [
        (Rounding(), (X,), {}, "in the precision of its inputs, not in float32"),
        (Nameless(lambda x: x), (X,), {}, "built anew in float64; make it with dtype='float64'"),
        (layers.Dense(2), (), {}, r"`inputs` must be given for a layer whose input shape"),
        (focal, (X,), {}, "`inputs` must be y_true and y_pred for a loss"),
        (layers.Dense(2), (X,), {"h": 0}, "`h` must be a finite number > 0"),
        (layers.Dense(2), (X,), {"entries": 0}, "`entries` must be an integer >= 1"),
        (layers.Dense(2), (X,), {"training": 1}, "`training` must be True or False"),
        ("dense", (X,), {}, "`target` must be a layer, a model or a loss"),
    ],
)
def test_bad_arguments_are_refused(
    target: Any, inputs: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tl.check.gradients(target, *inputs, **options)


def test_settings_and_random_states_stay() -> None:
    inner, random_layer = Inner(), layers.Dropout(0.5)
    keras.utils.set_random_seed(3)
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        tl.check.gradients(inner, X)
        with pytest.raises(ValueError, match="draws random numbers"):
            tl.check.gradients(random_layer, X)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.config.floatx() == "float32"
    assert (random.getstate()[1], np.random.get_state()[1].tolist()) == (states[0][1], states[1])  # noqa: NPY002
