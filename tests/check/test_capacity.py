"""check.capacity: verdicts, planted bugs told apart, nothing changed."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.check.overfitting import guessing
from tltoolkit.data.sources import Arrays

SIZE = 16
layers = keras.layers


def data(count: int = 48, learnable: bool = True, **options: Any) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pixels = rng.integers(0, 120, (count, SIZE, SIZE, 3))
    if learnable:
        pixels += 60 * labels[:, None, None, None]
    return tl.data.from_arrays(pixels.astype(np.uint8), labels, **{"val": 0.25, **options})


def build(*first: Any, units: int = 12, classes: int = 2) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, -1),
            *first,
            layers.Conv2D(units, 3, strides=2, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten() if units > 1 else layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2, seed=2, name="dropout"),
            layers.Dense(classes, name="scores"),
        ],
        name="net",
    )


class Shuffle(layers.Layer):
    """The planted bug: images change places, labels do not."""

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        places = keras.random.shuffle(keras.ops.arange(keras.ops.shape(x)[0]))
        return keras.ops.take(x, places, axis=0)


class Forgets(layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.stop_gradient(x) * 0 + 1.0


class Moving(Arrays):
    """A source that gives another image for the same number each time."""

    calls = 0

    def image(self, index: int) -> Any:
        self.calls += 1
        return super().image((index + self.calls // 20) % len(self))


def test_a_network_that_learns_by_heart_is_fine() -> None:
    found = tl.check.capacity(build(), data(learnable=False))
    assert found.verdict == "fine", str(found)
    assert found.attempts[-1].errors == 0
    assert found.guess_loss == pytest.approx(np.log(2))
    assert len(found.plot().axes[0].lines) == len(found.attempts) + 1


def test_a_network_of_one_unit_is_too_small() -> None:
    # Brightness tells most of these labels; one unit learns no more than that.
    plain = data(val=0.0)
    labels = plain.train.labels ^ (np.arange(48) % 7 == 0)
    pixels = np.stack([plain.train.image(i) for i in range(48)])
    flipped = tl.data.from_arrays(pixels, labels, val=0.0)
    found = tl.check.capacity(build(units=1), flipped, samples=40, steps=60, rates=(1e-2,))
    assert found.verdict == "too small", str(found)
    assert "unfreeze more" in found.reason


def frozen_head(model: keras.Model) -> None:
    model.get_layer("scores").trainable = False


def frozen_all(model: keras.Model) -> None:
    model.trainable = False


@pytest.mark.parametrize(
    ("freeze", "reason"),
    [
        (frozen_head, "the head is frozen: net/scores/kernel, net/scores/bias do not train"),
        (frozen_all, "nothing trains: every layer is frozen"),
        (lambda model: tl.freeze(model, "none"), "nothing trains: every layer is frozen"),
    ],
)
def test_a_frozen_head_is_told(freeze: Callable[[keras.Model], Any], reason: str) -> None:
    model = build()
    freeze(model)
    flags = [layer.trainable for layer in model._flatten_layers()]
    found = tl.check.capacity(model, data())
    assert (found.verdict, found.attempts) == ("bug", ())
    assert reason in found.reason
    assert [layer.trainable for layer in model._flatten_layers()] == flags


def test_a_layer_that_shuffles_the_batch_is_told() -> None:
    found = tl.check.capacity(build(Shuffle()), data())
    assert found.verdict == "bug"
    assert "a layer mixes up the images of a batch" in found.reason


def test_a_source_that_shuffles_is_told() -> None:
    plain = data()
    pixels = np.stack([plain.train.image(i) for i in range(len(plain.train))])
    source = Moving(pixels)
    moving = dataclasses.replace(
        plain.train, source=source, indices=np.arange(len(pixels), dtype=np.int64)
    )
    found = tl.check.capacity(build(), dataclasses.replace(plain, train=moving, val=None))
    assert found.verdict == "bug"
    assert "images and labels are not paired: read a second time" in found.reason


def test_a_preprocessing_that_hands_out_the_image_before_is_told() -> None:
    seen: list[Any] = [np.zeros((SIZE, SIZE, 3), np.uint8)]

    class Buffer:
        def __deepcopy__(self, memo: Any) -> "Buffer":
            return self

        def __call__(self, image: Any) -> Any:
            seen.append(image)
            return seen[-2]

    pipeline = tl.augment.Pipeline(Buffer(), SIZE)
    found = tl.check.capacity(build(), data(), pipeline=pipeline)
    assert "images and labels are not paired" in found.reason


def test_one_image_with_two_labels_is_told() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, SIZE, SIZE, 3), dtype=np.uint8)
    pixels[1] = pixels[0]
    twice = tl.data.from_arrays(pixels, np.arange(20) % 2, val=0.0, duplicates="allow")
    found = tl.check.capacity(build(), twice)
    assert found.verdict == "bug"
    assert "one image has two labels: images[0] (0) and images[1] (1)" in found.reason


def test_outputs_without_a_link_to_the_images_are_told() -> None:
    found = tl.check.capacity(build(Forgets()), data(), steps=15, rates=(1e-3,))
    assert found.verdict == "bug"
    stays = "the loss stays at that of guessing" in found.reason
    assert stays or "do not depend on the images" in found.reason


def test_a_variable_without_a_gradient_is_named() -> None:
    images = keras.Input((SIZE, SIZE, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(images))
    cut = layers.Lambda(lambda x: keras.ops.stop_gradient(x), name="cut")(
        layers.Dense(4, name="lost")(x)
    )
    model = keras.Model(images, layers.Dense(2, name="scores")(cut))
    found = tl.check.capacity(model, data())
    assert found.verdict == "bug"
    assert "no gradient reaches lost/kernel, lost/bias" in found.reason


def test_several_labels_per_image() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (30, SIZE, SIZE, 3), dtype=np.uint8)
    multi = tl.data.from_arrays(pixels, rng.integers(0, 2, (30, 3)).astype(np.uint8), val=0.0)
    found = tl.check.capacity(build(classes=3), multi, samples=12)
    assert found.verdict == "fine", str(found)


def test_the_loss_of_guessing() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 1]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert guessing(targets, False) == pytest.approx(entropy)
    assert guessing(targets, True) == pytest.approx(entropy)
    assert guessing(np.array([[1, 0], [1, 0]]), False) == 0


def test_training_afterwards_is_the_same_to_the_bit() -> None:
    def trained(checked: bool) -> list[np.ndarray]:
        model = build()
        model.compile("sgd", "mse")
        compiled = model.optimizer
        state = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        if checked:
            assert tl.check.capacity(model, data()).verdict == "fine"
        assert model.optimizer is compiled
        assert (random.getstate(), np.random.get_state()[1].tolist()) == state  # noqa: NPY002
        plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=1, batch_norm="train"),))
        return tl.fine_tune(model, data(), plan, "none", verbose=0).model.get_weights()

    for one, other in zip(trained(False), trained(True), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "`samples` must be an integer >= 2"),
        ({"samples": 49}, "`samples` must be an integer >= 2 and <= 48"),
        ({"steps": 3}, "`steps` must be an integer >= 10"),
        ({"rates": ()}, "`rates` must be at least one learning rate"),
        ({"rates": (-1.0,)}, "`rates` must be a finite number > 0"),
        ({"pipeline": tl.augment.Pipeline(None, 8)}, "a pipeline with the model's image_size 16"),
        ({"data": None}, "`data` must be an ImageData"),
        ({"model": keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Flatten()])}, "weights"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tl.check.capacity(**{"model": build(), "data": data(val=0.0), **options})
