"""What is frozen stays as it is, also inside of composites, bodies and wrappers."""

import keras
import numpy as np
import pytest
from keras import layers

import tltoolkit as tl
from tltoolkit.callbacks.weight_average import estimate_batch_norm
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import network_of
from tltoolkit.runs.record import Run

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 8


class Block(layers.Layer):
    """A custom layer of convolution and normalisation."""

    def __init__(self, filters: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.conv = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.steps = [layers.BatchNormalization(), layers.ReLU()]

    def call(self, x: object) -> object:
        x = self.conv(x)
        for step in self.steps:
            x = step(x)
        return x


class Body(keras.Model):
    """A subclassed classifier whose body is a Sequential, which is called first, made last."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = layers.GlobalAveragePooling2D()
        self.scores = layers.Dense(2)
        self.body = keras.Sequential([layers.Rescaling(1 / 255), Block(4), Block(4)])

    def call(self, x: object, training: bool = False) -> object:
        return self.scores(self.pool(self.body(x, training=training)))


class Counts(layers.Layer):
    """Counts its calls in training mode."""

    def build(self, shape: tuple) -> None:
        self.kernel = self.add_weight(shape=(shape[-1],), name="kernel", initializer="ones")
        self.seen = self.add_weight(shape=(), name="seen", initializer="zeros", trainable=False)

    def call(self, x: object, training: bool = False) -> object:
        if training:
            self.seen.assign_add(1.0)
        return x * self.kernel


class AlwaysCounts(Counts):
    """Counts its calls in any mode."""

    def call(self, x: object) -> object:
        self.seen.assign_add(1.0)
        return x * self.kernel


def data(count: int = 24, val: float = 0.25) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 160, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, val=val)


def functional(*blocks: layers.Layer) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(x)
    for block in blocks:
        x = block(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def time_distributed() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    rows = layers.TimeDistributed(layers.BatchNormalization())(layers.Rescaling(1 / 255)(pixels))
    rows = layers.TimeDistributed(layers.Conv1D(4, 3))(rows)
    x = layers.GlobalAveragePooling2D()(rows)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def subclassed() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = Body()
    model(np.zeros((1, SIZE, SIZE, 3), "float32"))
    return model


MAKES = {
    "composite": lambda: functional(Block(4), Block(4)),
    "sequential": lambda: functional(keras.Sequential([Block(4), layers.Conv2D(4, 3)])),
    "wrapper": time_distributed,
    "subclassed": subclassed,
}


def norms_of(model: keras.Model) -> list[layers.Layer]:
    """Found by Keras' own walk, independent of the toolkit's."""
    return [one for one in model._flatten_layers() if isinstance(one, layers.BatchNormalization)]


def values(parts: list) -> list[np.ndarray]:
    return [v.numpy() for part in parts for v in part.variables]


def train(model: keras.Model, val: float = 0.25, **stage: object) -> Run:
    plan = tl.Plan((tl.Stage("a", **{"epochs": 1, "learning_rate": 1e-2, **stage}),))
    return tl.fine_tune(model, data(val=val), plan, "none", batch_size=9, verbose=0)


@pytest.mark.filterwarnings("ignore:the graph of")
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
@pytest.mark.parametrize(("batch_norm", "moves"), [("frozen", False), ("train", True)])
def test_batch_norm_inside_of_layers_is_frozen_unless_asked_for(
    make: object, batch_norm: str, moves: bool
) -> None:
    model = make()
    norms = norms_of(model)
    before, all_before = values(norms), values([model])
    run = train(model, unfreeze="all", batch_norm=batch_norm)
    changed = [not np.array_equal(a, b) for a, b in zip(before, values(norms), strict=True)]
    assert changed == [moves] * len(changed)
    assert sum(
        not np.array_equal(a, b) for a, b in zip(all_before, values([model]), strict=True)
    ) == len(run.stages[0].changed)


@pytest.mark.filterwarnings("ignore:the graph of")
def test_recalibration_reaches_the_norms_inside() -> None:
    for make in (MAKES["composite"], MAKES["subclassed"]):
        model = make()
        gammas = [norm.gamma.numpy() for norm in norms_of(model)]
        means = [norm.moving_mean.numpy() for norm in norms_of(model)]
        train(model, val=0.0, unfreeze="all", batch_norm="recalibrate")
        for norm, gamma, mean in zip(norms_of(model), gammas, means, strict=True):
            np.testing.assert_array_equal(norm.gamma, gamma)
            assert not np.array_equal(norm.moving_mean, mean)


def test_the_plan_says_what_stays_frozen_inside() -> None:
    model = functional(Block(4, "one"), Block(4, "two"))
    blocks = {"one": ("one",), "two": ("two",), "head": ("pool", "scores")}
    norm = {name: norms_of(model.get_layer(name))[0].name for name in ("one", "two")}
    plan = freezing.freeze_plan(model, blocks, 1)
    assert plan == {"one": False, "two": True, norm["two"]: False, "scores": True}
    freezing.apply_freeze(model, plan)
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"two", "scores"}
    assert freezing.freeze_plan(model, blocks, 1, "train") == {
        "one": False, "two": True, "scores": True,
    }  # fmt: skip


def test_freeze_holds_the_norms_inside_for_a_fit_of_ones_own() -> None:
    model = functional(Block(4))
    tl.freeze(model, "all")
    before = values(norms_of(model))
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(3, 5, (16, SIZE, SIZE, 3)).astype("float32")
    model.fit(x, np.eye(2, dtype="float32")[np.arange(16) % 2], verbose=0)
    for a, b in zip(before, values(norms_of(model)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("views", [0, 1])
def test_spectral_normalization_below_stands_still(views: int) -> None:
    model = functional(layers.SpectralNormalization(layers.Conv2D(4, 3), name="normed"))
    before = values([model.get_layer("normed")])
    run = train(model, unfreeze="head", cache_views=views)
    assert run.stages[0].views == views
    for a, b in zip(before, values([model.get_layer("normed")]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {path.split("/")[0] for path in run.stages[0].changed} == {"scores"}


@pytest.mark.usefixtures("traced")
def test_spectral_normalization_that_trains_still_normalises() -> None:
    normed = layers.SpectralNormalization(layers.Conv2D(4, 3), name="normed")
    model = functional(normed)
    vector = normed.vector_u.numpy()
    train(model, unfreeze="head", cache_views=0)
    np.testing.assert_array_equal(normed.vector_u, vector)
    train(model, unfreeze="all")
    assert not np.array_equal(normed.vector_u, vector)
    # Keras' own: the largest singular value of a normalised kernel is about 1.
    keras_own = layers.SpectralNormalization(layers.Conv2D(4, 3))
    keras_own(np.zeros((1, SIZE, SIZE, 3)))
    for mine, theirs in zip(normed.variables, keras_own.variables, strict=True):
        theirs.assign(mine)
    x = np.ones((1, SIZE, SIZE, 3), "float32")
    np.testing.assert_array_equal(normed(x, training=True), keras_own(x, training=True))
    np.testing.assert_array_equal(normed.vector_u, keras_own.vector_u)


@pytest.mark.filterwarnings("ignore:the graph of")
def test_it_stands_still_in_a_subclassed_model_too() -> None:
    class Normed(Body):
        def __init__(self) -> None:
            super().__init__()
            self.body = keras.Sequential([layers.SpectralNormalization(layers.Conv2D(4, 3))])

    model = Normed()
    model(np.zeros((1, SIZE, SIZE, 3), "float32"))
    before = values([model.body])
    train(model, unfreeze="head")
    for a, b in zip(before, values([model.body]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("traced")
def test_a_layer_of_ones_own_that_counts_stands_still() -> None:
    model = functional(Counts(name="counts"))
    train(model, unfreeze="head", cache_views=0)
    assert float(model.get_layer("counts").seen) == 0
    train(model, unfreeze="all")
    assert float(model.get_layer("counts").seen) == 2


@pytest.mark.parametrize(
    ("inside", "cache_views", "val", "how"),
    [
        (False, 0, 0.0, "traced"),
        (True, 0, 0.25, "eagerly"),
        (False, 1, 0.25, "eagerly"),
        (True, 1, 0.0, "eagerly"),
    ],
)
def test_one_that_cannot_stand_still_ends_the_first_step_not_the_last(
    inside: bool, cache_views: int, val: float, how: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(how)
    always: layers.Layer = AlwaysCounts(name="always")
    if inside:
        always = keras.Sequential([keras.Input((SIZE, SIZE, 3)), always], name="body")
    steps: list[int] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: dict) -> None:
            steps.append(batch)

    stage = tl.Stage("a", unfreeze="head", epochs=3, cache_views=cache_views)
    with pytest.raises(RuntimeError, match="stage 'a' changed frozen variables: .*always/seen"):
        tl.fine_tune(
            functional(always),
            data(val=val),
            tl.Plan((stage,)),
            "none",
            callbacks=[Watch()],
            verbose=0,
        )
    assert steps == []


def preactivation() -> keras.Model:
    """As ResNet50V2: a block begins with the normalisation of what came before."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = layers.Conv2D(4, 3, padding="same", name="conv2_out")(layers.Rescaling(1 / 255)(pixels))
    pre = layers.BatchNormalization(name="conv5_preact_bn")(x)
    pre = layers.ReLU(name="conv5_preact_relu")(pre)
    short = layers.Conv2D(8, 1, name="conv5_0_conv")(pre)
    y = layers.Conv2D(8, 3, padding="same", name="conv5_1_conv")(pre)
    y = layers.BatchNormalization(name="conv5_1_bn")(y)
    x = layers.Add(name="conv5_out")([short, y])
    x = layers.BatchNormalization(name="post_bn")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(2, name="scores")(x))


def test_recalibration_reaches_the_first_norm_of_a_preactivation_block() -> None:
    model = preactivation()
    pattern = "conv5_*"
    norms = [model.get_layer(f"conv5_{name}_bn") for name in ("preact", "1")]
    before = [norm.moving_mean.numpy() for norm in norms]
    post = model.get_layer("post_bn").moving_mean.numpy()
    stage = tl.Stage("a", unfreeze=pattern, epochs=1, learning_rate=1e-3, batch_norm="recalibrate")
    run = tl.fine_tune(model, data(val=0.0), tl.Plan((stage,)), "none", batch_size=6, verbose=0)
    assert run.stages[0].views == 1
    np.testing.assert_array_equal(model.get_layer("post_bn").moving_mean, post)
    # The reference: the plain mean over all training images, of what the norm reads.
    images = np.stack([data(val=0.0).train.image(i) for i in range(24)])
    for norm, old in zip(norms, before, strict=True):
        assert not np.array_equal(norm.moving_mean, old)
    below = keras.Model(model.input, norms[0].input)(images.astype("float32"), training=False)
    np.testing.assert_allclose(
        norms[0].moving_mean, np.mean(below, axis=(0, 1, 2)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("backbone", ["resnet50v2"])
def test_the_boundary_lies_below_what_is_recalibrated_on_resnet50v2(backbone: str) -> None:
    model = tl.build_classifier(backbone, ("a", "b"), weights=None, image_size=32)
    network = network_of(model)
    plan = freezing.freeze_plan(model, network.blocks, 1, "recalibrate")
    moved = freezing.recalibrated(model, network.blocks, 1, "recalibrate")
    assert "conv5_block1_preact_bn" in moved
    cut = freezing.boundary(model, plan, moved)
    below = {node.layer.name for node in graph.nodes_below(model, cut)}
    assert not below & set(moved)
    assert cut._keras_history.operation.name == network.blocks["conv4"][-1]


def test_estimating_norms_leaves_all_else_as_it_was() -> None:
    model = functional(layers.SpectralNormalization(layers.Conv2D(4, 3)), Block(4))
    norm = norms_of(model)[0]
    others = [v for v in model.variables if "moving" not in v.name]
    before = [v.numpy() for v in others]
    x = np.random.default_rng(0).normal(size=(12, SIZE, SIZE, 3)).astype("float32")
    estimate_batch_norm(model, [x[:6], x[6:]])
    assert not np.array_equal(norm.moving_mean, np.zeros(4))
    for old, v in zip(before, others, strict=True):
        np.testing.assert_array_equal(v, old)
