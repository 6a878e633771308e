import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.data.stratify import deal
from tltoolkit.layers import graph
from tltoolkit.model.discovery import find_blocks
from tltoolkit.model.network import network_of

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 16


def conv(x: object, filters: int, name: str, strides: int = 1) -> object:
    return keras.layers.Conv2D(filters, 3, strides, padding="same", activation="relu", name=name)(x)


def plain(activation: str | None = "softmax", classes: int = 2) -> keras.Model:
    """Two convolutions, a pooling, a residual block, a head."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = conv(keras.layers.Rescaling(1 / 255, name="scale")(pixels), 8, "a")
    x = keras.layers.MaxPooling2D(name="pool_1")(conv(x, 8, "b"))
    x = keras.layers.Add(name="join")([x, conv(conv(x, 8, "c"), 8, "d")])
    x = conv(x, 8, "e", strides=2)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = keras.layers.Dropout(0.2, seed=1, name="drop")(x)
    return keras.Model(pixels, keras.layers.Dense(classes, activation, name="scores")(x))


def nested(activation: str | None = None) -> keras.Model:
    """The usual transfer model: a backbone as one layer, a head on top."""
    keras.utils.set_random_seed(0)
    whole = plain()
    backbone = keras.Model(whole.input, graph.output_of(whole, "e"), name="backbone")
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D(name="average")(backbone(pixels, training=False))
    return keras.Model(pixels, keras.layers.Dense(2, activation, name="scores")(x))


def data(count: int = 48) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 160, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    whole = tl.data.from_arrays(noise.astype(np.uint8), labels, val=0.0).train
    held = deal(labels, (0.75, 0.25), 0) == 1  # a quarter of each class, to the image
    return tl.data.ImageData(train=whole.subset(~held), val=whole.subset(held))


def test_blocks_end_where_branches_join_or_the_map_shrinks() -> None:
    assert find_blocks(plain()) == {
        "block1": ("scale", "a", "b"),
        "block2": ("pool_1", "c", "d", "join"),
        "block3": ("e",),
        "head": ("average", "drop", "scores"),
    }
    assert tl.blocks(plain()) == find_blocks(plain())


def test_nested_models_are_looked_into() -> None:
    assert list(tl.blocks(nested())) == ["block1", "block2", "block3", "head"]
    assert tl.blocks(nested())["block3"] == ("e",)


@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "VGG16"])
def test_blocks_of_known_networks_cover_every_layer(name: str) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=3)
    found = tl.blocks(model)
    names = [layer for layers in found.values() for layer in layers]
    assert sorted(names) == sorted(layer.name for layer in model.layers[1:])
    joins = sum(isinstance(layer, keras.layers.Add) for layer in model.layers)
    assert len(found) >= max(joins, 5)


def test_a_head_without_weights_begins_at_the_last_layer_that_has_some() -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(2, 1, name="scores")(conv(pixels, 4, "a", strides=2))
    model = keras.Model(pixels, keras.layers.GlobalAveragePooling2D(name="average")(x))
    assert tl.blocks(model)["head"] == ("scores", "average")


def test_a_model_without_weights_has_no_trainable_head() -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    with pytest.raises(ValueError, match="must have a trainable head"):
        tl.blocks(keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels)))


@pytest.mark.parametrize("make", [plain, nested])
def test_a_users_own_model_is_trained_in_place(make: object) -> None:
    model = make()
    before = {v.path: v.numpy() for v in model.variables}
    plan = tl.Plan(
        (
            tl.Stage("head", epochs=1, learning_rate=1e-2),
            tl.Stage("top", unfreeze=1, epochs=1, learning_rate=1e-3),
        )
    )
    run = tl.fine_tune(model, data(), plan, "none", verbose=0)
    assert run.model is model
    changed = {p.split("/")[0] for stage in run.stages for p in stage.changed}
    assert changed == {"e", "scores"}
    for v in model.variables:
        layer = v.path.split("/")[-2]
        if "seed" not in v.path:
            assert (not np.array_equal(v.numpy(), before[v.path])) == (layer in {"e", "scores"})
    report = tl.evaluate(model, data().val)
    assert report.f1_macro == pytest.approx(run.history["val_f1_macro"][run.best_epoch], abs=1e-6)


def test_logits_and_probabilities_are_told_apart() -> None:
    assert network_of(plain(None)).from_logits
    assert not network_of(plain("softmax")).from_logits
    assert not network_of(plain("sigmoid"), multi_label=True).from_logits
    logits, probabilities = (tl.evaluate(plain(a), data().val) for a in (None, "softmax"))
    np.testing.assert_allclose(logits.probabilities, probabilities.probabilities, atol=1e-6)


@pytest.mark.parametrize("unfreeze", ["head", 1, "all"])
def test_stored_activations_give_the_same_weights_as_computing_them_each_time(
    unfreeze: object,
) -> None:
    weights = []
    for views in (0, 1):
        stage = tl.Stage("a", unfreeze=unfreeze, epochs=2, learning_rate=1e-2, cache_views=views)
        run = tl.fine_tune(plain(), data(), tl.Plan((stage,)), "none", verbose=0)
        assert run.stages[0].views == (0 if unfreeze == "all" else views)
        weights.append(run.model.get_weights())
    for cached, computed in zip(*weights, strict=True):
        np.testing.assert_allclose(cached, computed, atol=1e-5)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="mine")
        self.body = keras.layers.Conv2D(4, 3, activation="relu", name="body")
        self.scores = keras.layers.Dense(2, name="scores")

    def call(self, x: object) -> object:
        return self.scores(keras.ops.mean(self.body(x / 255.0), axis=(1, 2)))


def test_a_layer_that_only_training_calls_is_not_the_head_of_a_subclassed_model() -> None:
    class Auxiliary(Subclassed):
        def __init__(self) -> None:
            super().__init__()
            self.auxiliary = keras.layers.Dense(2, name="auxiliary")

        def call(self, x: object, training: bool = False) -> object:
            if training:
                self.add_loss(keras.ops.mean(self.auxiliary(keras.ops.mean(x, axis=(1, 2)))))
            return super().call(x)

    model = Auxiliary()
    model(np.zeros((1, SIZE, SIZE, 3), "float32"), training=True)
    assert network_of(model).blocks == {"body": ("auxiliary", "body"), "head": ("scores",)}


def test_a_subclassed_model_trains_uncached_with_one_warning() -> None:
    model = Subclassed()
    model(np.zeros((1, SIZE, SIZE, 3), "float32"))
    body = model.body.kernel.numpy()
    plan = tl.Plan((tl.Stage("head", epochs=2, learning_rate=1e-2),))
    with pytest.warns(UserWarning, match="the graph of mine is not known") as warned:
        run = tl.fine_tune(model, data(), plan, "none", verbose=0)
    assert sum("is not known" in str(w.message) for w in warned) == 1
    assert run.stages[0].views == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tl.evaluate(model, data().val)
    np.testing.assert_array_equal(model.body.kernel, body)


def test_the_three_states_are_one_call_each() -> None:
    model = nested()
    for state, trained in (("none", set()), ("head", {"scores"}), ("all", {*"abcde", "scores"})):
        tl.freeze(model, state)
        assert {v.path.split("/")[-2] for v in model.trainable_variables} == trained


@pytest.mark.parametrize(
    ("shape", "make", "message"),
    [
        ((None, None, 3), keras.layers.GlobalAveragePooling2D, "fixed size"),
        ((16, 8, 3), keras.layers.GlobalAveragePooling2D, "every image is made square; put first"),
        ((16, 16, 4), keras.layers.GlobalAveragePooling2D, "3 channels, or with 1 for grey"),
    ],
)
def test_models_of_another_shape_are_refused(shape: tuple, make: type, message: str) -> None:
    pixels = keras.Input(shape)
    model = keras.Model(pixels, keras.layers.Dense(2)(make()(pixels)))
    with pytest.raises(ValueError, match=message):
        network_of(model)


def test_a_model_with_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="data with the model's 3 classes"):
        tl.fine_tune(plain(classes=3), data(), verbose=0)


def test_an_unbuilt_model_is_refused() -> None:
    with pytest.raises(ValueError, match="a functional model or one that was built on images"):
        network_of(keras.Sequential([keras.layers.Dense(2)]))


def test_the_run_of_a_users_own_model_is_saved_as_keras_does(tmp_path: Path) -> None:
    plan = tl.Plan((tl.Stage("head", epochs=1),))
    run = tl.fine_tune(nested(), data(), plan, "none", run_dir=tmp_path / "run", verbose=0)
    again = keras.saving.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(again.get_weights()[-1], run.model.get_weights()[-1])
    with pytest.raises(ValueError, match=r"tltoolkit\.foreign\.load reads a \.keras file"):
        tl.load(tmp_path / "run")
