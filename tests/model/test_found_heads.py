"""Where the head of a model begins that is not made of maps alone."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tltoolkit as tl
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import network_of

SIZE, WIDTH = 16, 8


class ClassToken(layers.Layer):
    """Puts a learned token before the others."""

    def build(self, shape: tuple) -> None:
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, x: object) -> object:
        first = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([first, x], axis=1)


class Positions(layers.Layer):
    """Adds a learned vector to each token."""

    def build(self, shape: tuple) -> None:
        self.table = self.add_weight(shape=(1, *shape[1:]), name="table")

    def call(self, x: object) -> object:
        return x + self.table


def block(x: object, i: int) -> object:
    y = layers.LayerNormalization(name=f"norm_{i}a")(x)
    y = layers.MultiHeadAttention(2, 4, name=f"attention_{i}")(y, y)
    x = layers.Add(name=f"add_{i}a")([x, y])
    y = layers.LayerNormalization(name=f"norm_{i}b")(x)
    y = layers.Dense(4 * WIDTH, "gelu", name=f"wide_{i}")(y)
    return layers.Add(name=f"add_{i}b")([x, layers.Dense(WIDTH, name=f"narrow_{i}")(y)])


def vit(pooling: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = layers.Conv2D(WIDTH, 4, 4, name="patches")(layers.Rescaling(1 / 255, name="scale")(pixels))
    x = layers.Reshape((-1, WIDTH), name="tokens")(x)
    x = ClassToken(name="class_token")(x) if pooling == "token" else x
    x = Positions(name="positions")(x)
    for i in range(3):
        x = block(x, i)
    x = layers.LayerNormalization(name="norm")(x)
    if pooling == "token":
        x = x[:, 0]
    elif pooling == "flatten":
        x = layers.Dense(16, "gelu", name="hidden")(layers.Flatten(name="flatten")(x))
    elif pooling == "attention":
        probe = layers.Dense(1, name="probe")(x)
        x = layers.Dot(1, name="weigh")([layers.Softmax(1, name="soft")(probe), x])
        x = layers.Flatten(name="flatten")(x)
    else:
        x = layers.GlobalAveragePooling1D(keepdims=pooling == "keepdims", name="pool")(x)
        x = layers.Flatten(name="flatten")(x) if pooling == "keepdims" else x
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def mixer() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Reshape((-1, WIDTH))(layers.Conv2D(WIDTH, 4, 4, name="patches")(pixels))
    for i in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization(name=f"norm_{i}a")(x))
        y = layers.Permute((2, 1))(layers.Dense(16, name=f"tokens_{i}")(y))
        x = layers.Add()([x, y])
        y = layers.Dense(WIDTH, name=f"channels_{i}")(layers.LayerNormalization()(x))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def conv1d() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Reshape((SIZE, SIZE * 3))(pixels)
    x = layers.MaxPooling1D()(layers.Conv1D(8, 3, activation="relu", name="a")(x))
    x = layers.Conv1D(8, 3, activation="relu", name="b")(x)
    x = layers.GlobalMaxPooling1D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def recurrent() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.LSTM(8, return_sequences=True, name="a")(layers.Reshape((SIZE, SIZE * 3))(pixels))
    return keras.Model(pixels, layers.Dense(2, name="scores")(layers.LSTM(8, name="b")(x)))


def keepdims(last: str) -> keras.Model:
    """As MobileNetV3: the pooled map goes through convolutions."""
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(16, 3, 2, name="a")(pixels)
    x = layers.Conv2D(16, 3, 2, name="b")(x)
    if last == "layer":
        x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    else:
        x = ops.mean(x, axis=(1, 2), keepdims=True)
    x = layers.Conv2D(4, 1, activation="relu", name="hidden")(x)
    x = layers.Conv2D(2, 1, name="scores")(layers.Dropout(0.1, name="drop")(x))
    return keras.Model(pixels, layers.Flatten(name="flatten")(x))


def squeezed() -> keras.Model:
    """Channel attention inside, whose pooling ends nothing."""
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, 2, name="a")(pixels)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Conv2D(8, 3, name="b")(layers.Multiply(name="gated")([x, gate]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


class Whole(layers.Layer):
    """A backbone that is one layer, from images to vectors."""

    def __init__(self) -> None:
        super().__init__(name="whole")
        self.conv, self.pool = layers.Conv2D(16, 3), layers.GlobalAveragePooling2D()

    def call(self, x: object) -> object:
        return self.pool(self.conv(x))


def one_layer() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    return keras.Model(pixels, layers.Dense(2, name="scores")(Whole()(pixels)))


def perceptron() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Dense(16, "relu", name="hidden")(layers.Flatten(name="flatten")(pixels))
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def linear() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Flatten(name="flatten")(pixels)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def two_poolings() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, name="a")(pixels)
    both = [layers.GlobalAveragePooling2D(name="mean")(x), layers.GlobalMaxPooling2D(name="max")(x)]
    x = layers.Concatenate(name="both")(both)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def two_heads() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(16, 3, name="a")(pixels))
    scores = [layers.Dense(2, name="one")(x), layers.Dense(2, name="two")(x)]
    return keras.Model(pixels, layers.Average(name="average")(scores))


def vgg() -> keras.Model:
    """Most weights are in the dense layers of the head, which is one nonetheless."""
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(4, 3, padding="same", name="a")(pixels))
    x = layers.Dense(32, "relu", name="fc1")(layers.Flatten(name="flatten")(x))
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def one_pixel() -> keras.Model:
    """Maps of one position are maps still, as in a small image's last blocks."""
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.MaxPooling2D(16, name="shrink")(layers.Conv2D(8, 1, name="a")(pixels))
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(64, 1, name="b")(x))
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


HEADS = {
    "one pixel": (one_pixel, ("pool", "scores")),
    "vit, average": (lambda: vit("average"), ("pool", "scores")),
    "vit, keepdims": (lambda: vit("keepdims"), ("pool", "flatten", "scores")),
    "vit, flatten": (lambda: vit("flatten"), ("flatten", "hidden", "scores")),
    "vit, attention": (lambda: vit("attention"), ("flatten", "scores")),
    "mixer": (mixer, ("pool", "scores")),
    "conv1d": (conv1d, ("pool", "scores")),
    "recurrent": (recurrent, ("scores",)),
    "keepdims": (lambda: keepdims("layer"), ("pool", "hidden", "drop", "scores", "flatten")),
    "channel attention": (squeezed, ("pool", "scores")),
    "one layer": (one_layer, ("scores",)),
    "perceptron": (perceptron, ("scores",)),
    "linear": (linear, ("flatten", "scores")),
    "two poolings": (two_poolings, ("mean", "max", "both", "scores")),
    "two heads": (two_heads, ("pool", "one", "two", "average")),
    "vgg": (vgg, ("flatten", "fc1", "scores")),
}


@pytest.mark.parametrize(("make", "head"), HEADS.values(), ids=HEADS)
def test_the_head_begins_after_the_last_pooling_or_block(make: object, head: tuple) -> None:
    model = make()
    found = tl.blocks(model)
    assert set(found["head"]) == set(head)
    assert not freezing.unclear_head(model, found)
    plan = tl.freeze(model, "head")
    trained = {path.split("/")[0] for path in (v.path for v in model.trainable_variables)}
    assert trained == {name for name in head if plan.get(name)}


@pytest.mark.parametrize(
    ("make", "weighted"),
    [(lambda: vit("token"), {"scores"}), (lambda: keepdims("operation"), {"hidden", "scores"})],
    ids=["vit, token", "mean, keepdims"],
)
def test_operations_without_a_layer_are_part_of_it(make: object, weighted: set) -> None:
    model = make()
    tl.freeze(model, "head")
    assert {v.path.split("/")[0] for v in model.trainable_variables} == weighted


def test_each_half_of_a_transformer_block_is_a_block() -> None:
    found = tl.blocks(vit("average"))
    assert found["block2"] == ("norm_0b", "wide_0", "narrow_0", "add_0b")
    assert len(found) == 8


def data(count: int = 16) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 160, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, val=0.25)


@pytest.mark.usefixtures("eagerly")
def test_a_transformer_is_fine_tuned_head_first() -> None:
    model = vit("token")
    plan = tl.Plan(
        (
            tl.Stage("head", optimizer="lbfgs", augment="none"),
            tl.Stage("top", unfreeze=1, epochs=1, learning_rate=1e-3),
        )
    )
    run = tl.fine_tune(model, data(), plan, "none", verbose=0)
    assert {path.split("/")[0] for path in run.stages[0].changed} == {"scores"}
    assert {path.split("/")[0] for path in run.stages[1].changed} == {"norm", "scores"}
    assert run.stages[1].views == 1


def ensemble() -> keras.Model:
    """Two whole networks whose scores are averaged: no one place begins a head."""
    pixels = keras.Input((SIZE, SIZE, 3))

    def network() -> object:
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(pixels))
        return layers.Dense(2)(x)

    return keras.Model(pixels, layers.Average()([network(), network()]))


def all_in_one() -> keras.Model:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            pool = layers.GlobalAveragePooling2D()
            self.net = keras.Sequential([layers.Conv2D(8, 3), pool, layers.Dense(2)])

        def call(self, x: object) -> object:
            return self.net(x)

    model = Net()
    model(np.zeros((1, SIZE, SIZE, 3), "float32"))
    return model


@pytest.mark.filterwarnings("ignore:the graph of")
@pytest.mark.parametrize("make", [ensemble, all_in_one])
def test_a_head_that_is_the_model_is_an_error_that_says_what_was_found(make: object) -> None:
    plan = tl.Plan((tl.Stage("a", unfreeze="head", epochs=1),))
    with pytest.raises(
        ValueError,
        match=r"`unfreeze` must be 'all' for this model: what was found as its head.* weights,",
    ):
        tl.fine_tune(make(), data(), plan, "none", verbose=0)
    model = make()
    tl.evaluate(model, data().val)
    tl.check.data(data(), model)
    plan = tl.Plan((tl.Stage("a", unfreeze="all", epochs=1),))
    run = tl.fine_tune(model, data(), plan, "none", verbose=0)
    assert len(run.stages[0].changed) == len(model.trainable_variables)


def test_the_layer_called_last_is_the_head_of_a_subclassed_model() -> None:
    class HeadFirst(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.scores = layers.Dense(2, name="scores")
            self.body = layers.Conv2D(2, 3, name="body")

        def call(self, x: object) -> object:
            return self.scores(ops.mean(self.body(x), axis=(1, 2)))

    model = HeadFirst()
    model(np.zeros((1, SIZE, SIZE, 3), "float32"))
    assert network_of(model).blocks == {"body": ("body",), "head": ("scores",)}


def test_the_boundary_of_a_transformer_is_its_pooled_vector() -> None:
    model = vit("average")
    cut = freezing.boundary(model, tl.freeze(model, "head"))
    assert tuple(cut.shape) == (None, WIDTH)
    whole = np.random.default_rng(0).integers(0, 255, (3, SIZE, SIZE, 3)).astype("float32")
    lower, upper = graph.part(model, model.input, cut), graph.part(model, cut, model.output)
    np.testing.assert_allclose(upper(lower(whole)), model(whole), atol=1e-6)
