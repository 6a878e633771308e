"""What layers do, asked of wrappers, composites, bodies and code of the user's."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tltoolkit as tl
from tltoolkit.layers import graph, traits
from tltoolkit.model import freezing

SIZE = 8


class Held(layers.Layer):
    """A layer that keeps others in a list and under names of its own."""

    def __init__(self, *inner: layers.Layer) -> None:
        super().__init__()
        self.parts = list(inner)

    def call(self, x: object) -> object:
        for part in self.parts:
            x = part(x)
        return x


class OwnNoise(layers.Layer):
    """Draws from a generator under an unusual name."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = keras.random.SeedGenerator(3)

    def call(self, x: object, training: bool = False) -> object:
        return x + keras.random.normal(keras.ops.shape(x), seed=self.dice) if training else x


class DropPath(layers.Layer):
    """Draws without a generator, as much code found on the web does."""

    def call(self, x: object, training: bool = False) -> object:
        if not training:
            return x
        keep = tf.floor(0.5 + tf.random.uniform((tf.shape(x)[0], 1, 1, 1)))
        return x * keep


class InPython(layers.Layer):
    """Draws in Python, which a graph cannot show."""

    def call(self, x: object) -> object:
        drawn = tf.numpy_function(lambda: np.float32(np.random.rand()), [], tf.float32)  # noqa: NPY002
        return x * tf.ensure_shape(drawn, ())


class Double(layers.Layer):
    """Code of the user's that draws nothing."""

    def call(self, x: object) -> object:
        return 2 * x


def as_model(layer: layers.Layer) -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(2, 1, name="below")(pixels)
    x = layers.GlobalAveragePooling2D(name="pool")(layer(x))
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def called(layer: layers.Layer) -> graph.Node:
    return next(n for n in graph.nodes(as_model(layer)) if n.layer is layer)


RANDOM_PIXELS = [
    layers.RandomBrightness(0.2),
    layers.RandomContrast(0.2),
    layers.RandomFlip(),
    layers.RandomRotation(0.1),
    layers.RandomZoom(0.1),
    layers.RandomTranslation(0.1, 0.1),
    layers.RandomCrop(4, 4),
    layers.RandAugment((0, 255)),
    layers.AugMix((0, 255)),
    layers.MixUp(),
    layers.CutMix(),
    layers.RandomErasing(),
    layers.RandomHue(0.1, (0, 255)),
]
RANDOM = [
    layers.Dropout(0.5),
    layers.SpatialDropout2D(0.5),
    layers.GaussianNoise(0.1),
    layers.GaussianDropout(0.1),
    layers.AlphaDropout(0.1),
    OwnNoise(),
    Held(Held(layers.RandomBrightness(0.2))),
    Held(layers.Conv2D(2, 1), layers.Dropout(0.1)),
    keras.Sequential([Held(layers.GaussianNoise(0.3))]),
    layers.TimeDistributed(layers.Dropout(0.1)),
    layers.TimeDistributed(Held(layers.Dropout(0.1))),
    tl.callbacks.ScheduledSpatialDropout2D(0.1),
]


@pytest.mark.parametrize("layer", RANDOM_PIXELS + RANDOM, ids=lambda one: type(one).__name__)
def test_what_draws_is_random_whatever_holds_the_generator(layer: layers.Layer) -> None:
    assert traits.is_random(layer)
    assert traits.generators(layer)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Lambda(lambda x: x + tf.random.normal(tf.shape(x))),
        layers.Lambda(lambda x: x * keras.random.uniform((1,))),
        layers.Lambda(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * tf.random.uniform(()), lambda: x)),  # noqa: E501
        DropPath(),
        Held(DropPath()),
        keras.Sequential([layers.Conv2D(2, 1), Held(DropPath())]),
        InPython(),
    ],
    ids=["tf", "keras", "branch", "drop_path", "held", "sequential", "python"],
)  # fmt: skip
def test_code_of_the_users_is_seen_to_draw(layer: layers.Layer) -> None:
    model = as_model(layer)
    cut = freezing.boundary(model, {"below": False, "scores": True})
    assert cut._keras_history.operation.name == "below"


@pytest.mark.parametrize(
    "layer",
    [
        layers.Lambda(lambda x: x / 127.5 - 1),
        Double(),
        Held(Double(), layers.Conv2D(2, 1)),
        Held(layers.BatchNormalization()),
        layers.Dropout(0.0),
    ],
    ids=["lambda", "own", "held", "norm", "rate_0"],
)
def test_what_draws_nothing_is_computed_once(layer: layers.Layer) -> None:
    model = as_model(layer)
    values = [v.numpy() for v in model.variables]
    cut = freezing.boundary(model, {"below": False, "scores": True})
    assert cut._keras_history.operation.name == "pool"
    for before, now in zip(values, model.variables, strict=True):
        np.testing.assert_array_equal(before, now)


def test_code_that_was_never_called_counts_as_random() -> None:
    unknown = layers.Lambda(lambda x: x)
    assert traits.is_random(unknown)
    assert traits.is_random(Held(unknown))
    assert not traits.is_random(unknown, called(unknown))


def test_code_that_cannot_be_traced_counts_as_random() -> None:
    class Fails(layers.Layer):
        def call(self, x: object, training: bool = False) -> object:
            if training:
                raise RuntimeError("not now")
            return x

    layer = Fails()
    assert traits.is_random(layer, called(layer))


def test_norms_are_found_in_wrappers_and_composites() -> None:
    norms = [layers.BatchNormalization() for _ in range(3)]
    body = keras.Sequential([Held(norms[0]), layers.TimeDistributed(norms[1]), norms[2]])
    assert list(traits.batch_norms(body)) == norms


def test_what_changes_itself() -> None:
    normed = layers.SpectralNormalization(layers.Conv2D(2, 1))
    inner = Held(layers.BatchNormalization(), layers.Dropout(0.1), normed)
    inner(np.zeros((1, SIZE, SIZE, 3)))
    assert list(traits.self_changing(inner)) == [normed]


def data(count: int = 24) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 160, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, val=0.25)


def augmenting(layer: layers.Layer) -> keras.Model:
    """The usual model with augmentation as its first layers."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(layer(pixels))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def brightness() -> layers.Layer:
    return layers.RandomBrightness(0.3, value_range=(0, 255))


PLAN = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-2),))


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (lambda: Held(brightness()), "eagerly"),
        (lambda: keras.Sequential([brightness(), layers.RandomContrast(0.3)]), "eagerly"),
        (lambda: layers.RandAugment((0, 255)), "eagerly"),
        (OwnNoise, "traced"),
    ],
    ids=["held", "sequential", "rand_augment", "own"],
)
def test_augmentation_in_the_model_stays_on_and_repeats_with_the_seed(
    make: object, how: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(how)
    kernels = []
    for _ in range(2):
        model = augmenting(make())
        run = tl.fine_tune(model, data(), PLAN, "none", seed=4, verbose=0)
        assert run.stages[0].views == 0  # computed anew in every epoch
        kernels.append(model.get_layer("scores").kernel.numpy())
    np.testing.assert_array_equal(*kernels)
