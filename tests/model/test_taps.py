"""Heads on several blocks: of our classifiers, and of models of the user's own."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tltoolkit as tl
from tltoolkit.layers import graph, private
from tltoolkit.layers.spatial import EPSILON, SpatialStatistics
from tltoolkit.model import freezing
from tltoolkit.model.classifier import with_head
from tltoolkit.model.network import network_of
from tltoolkit.model.settings import Settings
from tltoolkit.training import probe
from tltoolkit.training.features import Storage
from tltoolkit.training.solving import linear_head
from tltoolkit.tune.bench import Bench

SIZE = 32
ALL = ("mean", "std", "max")

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")


def pixels(count: int = 3, size: int = SIZE, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, channels)).astype("float32")


def data(count: int = 24, val: float = 0.25) -> tl.data.ImageData:
    """Noise, the brighter the higher its class."""
    labels = np.arange(count) % 2
    images = (pixels(count) * 0.4 + 60 * labels[:, None, None, None]).astype(np.uint8)
    return tl.data.from_arrays(images, labels, val=val)


def build(head: tl.Head | None = None, **options: object) -> keras.Model:
    given = {"class_names": ("0", "1"), "weights": None, "image_size": SIZE, **options}
    return tl.build_classifier(head=head, **given)


def on_blocks(*taps: str, statistics: tuple[str, ...] = ("mean", "std"), **rest: object) -> tl.Head:
    return tl.Head(taps=taps or "all", statistics=statistics, **rest)


def statistics_of(maps: np.ndarray, names: tuple[str, ...] = ALL) -> np.ndarray:
    """By a loop over images and channels, in float64."""
    functions = {"mean": np.mean, "std": lambda x: np.sqrt(np.var(x) + EPSILON), "max": np.max}
    return np.array(
        [
            [functions[name](one[..., c]) for name in names for c in range(maps.shape[-1])]
            for one in maps.astype(np.float64)
        ]
    )


def output(model: keras.Model, layer: str, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(model.input, graph.output_of(model, layer))(images))


def reference(model: keras.Model, blocks: list[str], names: tuple[str, ...]) -> np.ndarray:
    """The statistics of blocks, from their outputs."""
    ends = [tl.blocks(model)[block][-1] for block in blocks]
    return np.hstack([statistics_of(output(model, end, pixels()), names) for end in ends])


@pytest.fixture(scope="module")
def whole() -> keras.Model:
    return build()


# The layer


@pytest.mark.parametrize("names", [("mean",), ("std",), ("max",), ("mean", "max"), ALL])
@pytest.mark.parametrize("shape", [(5, 7, 3), (6, 3)])
def test_statistics_are_those_of_numpy(names: tuple[str, ...], shape: tuple[int, ...]) -> None:
    maps = np.random.default_rng(0).normal(100, 2, (4, *shape)).astype("float32")
    layer = SpatialStatistics(names)
    found = layer(maps)
    assert tuple(found.shape) == tuple(layer.compute_output_shape(maps.shape))
    np.testing.assert_allclose(found, statistics_of(maps, names), rtol=1e-5)


def test_statistics_come_in_one_order_and_survive_their_config() -> None:
    layer = SpatialStatistics(["max", "mean"], name="both")
    again = SpatialStatistics.from_config(json.loads(json.dumps(layer.get_config())))
    assert (again.statistics, again.name) == (("mean", "max"), "both")
    assert tl.Head(taps="all", statistics=["std", "mean"]).statistics == ("mean", "std")


def test_gradients_of_the_statistics_agree_with_differences() -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, 3, 2))
    assert tl.check.gradients(SpatialStatistics(ALL), maps).ok


def test_the_gradient_of_a_constant_map_is_finite() -> None:
    import tensorflow as tf

    maps = tf.constant(np.ones((1, 4, 4, 2), "float32"))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(SpatialStatistics(("std",))(maps))
    np.testing.assert_array_equal(tape.gradient(total, maps), 0)


def test_a_vector_is_its_own_mean_and_has_no_deviation() -> None:
    vector = np.arange(6, dtype="float32").reshape(2, 3)
    np.testing.assert_array_equal(SpatialStatistics()(vector), vector)
    with pytest.raises(ValueError, match="`statistics` must be \\('mean',\\) for vectors"):
        SpatialStatistics(("mean", "std"))(vector)


# Classifiers


# Where the taps of each family are, tests/backbones/test_rows.py shows.
@pytest.mark.parametrize("name", ["vgg16", "efficientnet_lite0"])
def test_a_head_on_all_blocks_reads_the_statistics_of_each(name: str) -> None:
    model = build(on_blocks(statistics=ALL), backbone=name)
    row, names = tl.backbones.get(name), [layer.name for layer in model.layers]
    assert tuple(tl.blocks(model)) == (*row.blocks, "head")
    images = pixels(2)
    taps = tl.backbones.taps_of(name, names).values()
    assert ("block2_conv2" if name == "vgg16" else "block2_0_project_bn") in taps
    ends = [graph.output_of(model, tap) for tap in taps]
    *maps, read = keras.Model(
        model.input, [*ends, graph.output_of(model, "head_features")]
    ).predict(images, verbose=0)
    expected = np.hstack([statistics_of(one) for one in maps])
    np.testing.assert_allclose(read, expected, rtol=1e-3, atol=1e-3 * abs(expected).max())
    assert linear_head(network_of(model)) is model.get_layer("logits")


def test_a_network_ends_at_its_last_tap() -> None:
    """Not at the pooling behind it; other heads on the same block read that, as ever."""
    model = build(on_blocks("block1", "block2"), backbone="vgg16")
    assert tl.blocks(model)["block2"][-1] == "block2_conv2"
    trunk = build(backbone="vgg16", trunk="block2")
    assert tl.blocks(trunk)["block2"][-1] == "block2_pool"
    pooled = output(trunk, "block2_pool", pixels()).mean(axis=(1, 2))
    np.testing.assert_allclose(output(trunk, "head_avg", pixels()), pooled, rtol=1e-5)
    tapped = build(on_blocks(), backbone="vgg16", trunk="block2")
    with pytest.raises(ValueError, match="`head` must be a head with taps, as the model has"):
        with_head(tapped, tl.Head())


def test_blocks_come_from_the_input_up_and_those_above_are_not_there(whole: keras.Model) -> None:
    model = build(on_blocks("block4", "block2", statistics=("std", "max")))
    assert list(tl.blocks(model)) == ["stem", "block1", "block2", "block3", "block4", "head"]
    expected = reference(whole, ["block2", "block4"], ("std", "max"))
    np.testing.assert_allclose(output(model, "head_features", pixels()), expected, rtol=1e-4)
    below = [layer for names in list(tl.blocks(whole).values())[:5] for layer in names]
    body = sum(whole.get_layer(name).count_params() for name in below)
    assert model.count_params() == body + 2 * (24 + 80) * 2 + 2
    freezing.apply_freeze(model, tl.freeze(model, "block3"))
    trained = {v.path.split("/")[0] for v in model.trainable_variables}
    assert trained <= {*tl.blocks(model)["block3"], *tl.blocks(model)["block4"], "logits"}


def test_one_tap_is_not_put_beside_anything(whole: keras.Model) -> None:
    model = build(on_blocks("block3", dropout=0.0))
    assert tl.blocks(model)["head"] == ("head_block3", "logits", "probabilities")
    expected = reference(whole, ["block3"], ("mean", "std"))
    np.testing.assert_allclose(output(model, "head_block3", pixels()), expected, rtol=1e-4)


def test_the_last_block_alone_by_its_mean_is_the_usual_head(whole: keras.Model) -> None:
    model = build(on_blocks("top", statistics=("mean",)))
    np.testing.assert_allclose(model(pixels()), whole(pixels()), atol=1e-6)


def test_a_part_takes_the_weights_of_a_whole_network(tmp_path: Path) -> None:
    other = build(seed=3)
    other.save(tmp_path / "other.keras")
    model = build(on_blocks("block1", "block3"), weights=tmp_path / "other.keras")
    expected = reference(other, ["block1", "block3"], ("mean", "std"))
    np.testing.assert_allclose(output(model, "head_features", pixels()), expected, rtol=1e-4)


def test_hidden_layers_and_several_labels_go_with_taps() -> None:
    model = build(on_blocks("stem", "block2", hidden=(7,), norm="layer"), multi_label=True)
    assert model.get_layer("head_dense_1").kernel.shape == (2 * (32 + 24), 7)
    assert model.layers[-1].activation is keras.activations.sigmoid


def test_features_are_float32_whatever_the_blocks_compute_in() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(on_blocks("stem", "block1"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("stem_conv").compute_dtype == "bfloat16"
    assert graph.output_of(model, "head_features").dtype == "float32"
    maps = output(model, tl.blocks(model)["stem"][-1], pixels()).astype(np.float32)
    found = output(model, "head_features", pixels())[:, :64]
    np.testing.assert_allclose(found, statistics_of(maps, ("mean", "std")), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "before"), [("efficientnet_lite0", "block2_0_project_bn"), ("vgg16", "block2_conv2")]
)
def test_a_tap_sees_the_dropout_of_its_block(name: str, before: str) -> None:
    options = {"backbone": name, "spatial_dropout": {"block2": 0.5}}
    model = build(on_blocks("block1", "block2"), **options)
    dropped = model.get_layer("block2_spatial_dropout")
    assert private.last_call(dropped).inputs[0] is graph.output_of(model, before)
    # As a head that is put on a network with another one does.
    other = with_head(build(**options), on_blocks("block1", "block2"))
    np.testing.assert_allclose(other(pixels()), model(pixels()), rtol=1e-4)
    features = keras.Model(model.input, graph.output_of(model, "head_features"))
    below = 2 * graph.output_of(model, tl.blocks(model)["block1"][-1]).shape[-1]
    mean, std = np.split(features(pixels(), training=True)[:, below:].numpy(), 2, axis=1)
    silent = mean == 0
    assert 0.2 < silent.mean() < 0.8
    np.testing.assert_allclose(std[silent], np.sqrt(EPSILON), rtol=1e-5)


def test_a_trunk_ends_what_all_blocks_are() -> None:
    model = build(on_blocks(), trunk="block2")
    assert list(tl.blocks(model)) == ["stem", "block1", "block2", "head"]


def test_it_survives_saving(tmp_path: Path) -> None:
    model = build(on_blocks("block4", "stem"), spatial_dropout={"block2": 0.2})
    again = tl.load(tl.save(model, tmp_path / "artifact")).model
    assert again.tltoolkit_settings == model.tltoolkit_settings
    np.testing.assert_array_equal(again(pixels()), model(pixels()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pixels()), model(pixels()))


def test_a_head_without_taps_is_written_as_before_there_were_any(whole: keras.Model) -> None:
    written = whole.tltoolkit_settings.to_dict()
    assert not {"taps", "statistics"} & written["head"].keys()
    assert Settings.from_dict(written) == whole.tltoolkit_settings
    tapped = dataclasses.replace(whole.tltoolkit_settings, head=on_blocks("block2"))
    assert Settings.from_dict(json.loads(json.dumps(tapped.to_dict()))) == tapped


def test_a_new_head_goes_on_the_blocks_that_there_are(whole: keras.Model) -> None:
    head = on_blocks("block1", "block4")
    model = with_head(whole, head)
    np.testing.assert_array_equal(model(pixels()), build(head)(pixels()))
    assert with_head(model, on_blocks("block2")).tltoolkit_settings.blocks[-1] == "block2"
    with pytest.raises(ValueError, match="`head` must be a head on blocks that the model has"):
        with_head(model, tl.Head())


# Training


def features_of(model: keras.Model, split: tl.data.Split) -> np.ndarray:
    images = np.stack([split.image(i) for i in range(len(split))])
    return output(model, "head_features", images)


def test_a_head_stage_is_cut_at_the_features_and_reads_each_image_once() -> None:
    model = build(on_blocks())
    network = network_of(model)
    plan = freezing.freeze_plan(model, network.blocks, "head")
    assert freezing.boundary(model, plan) is graph.output_of(model, "head_features")


def trained(head: tl.Head, **options: object) -> tuple[keras.Model, object]:
    stage = tl.Stage("only", **{"epochs": 1, "learning_rate": 1e-3, "augment": "none", **options})
    model = build(head)
    run = tl.fine_tune(model, data(16), tl.Plan((stage,)), batch_size=8, verbose=0)
    return run.model, run


@pytest.mark.parametrize(
    ("taps", "unfreeze", "views"),
    [
        ((), "head", 1),
        # The one tensor below all taps holds more numbers than an image: not worth storing.
        ((), 3, 0),
        # All that is frozen goes through block 3.
        (("block3", "block5"), 2, 1),
        # Block 3 is frozen above the cut at the end of block 2, which a tap reads too.
        (("block2", "block4"), 1, 1),
    ],
    ids=["head", "all and the last three", "one tensor", "a part"],
)
def test_stored_activations_change_nothing(
    taps: tuple[str, ...], unfreeze: object, views: int
) -> None:
    stored, run = trained(on_blocks(*taps), unfreeze=unfreeze)
    plain, other = trained(on_blocks(*taps), unfreeze=unfreeze, cache_views=0)
    assert [stage.views for stage in (*run.stages, *other.stages)] == [views, 0]
    for a, b in zip(stored.weights, plain.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=2e-5, err_msg=a.path)
    found = tl.blocks(stored)
    upper = list(found)[-1:] if unfreeze == "head" else list(found)[-1 - int(unfreeze) :]
    allowed = {layer for block in upper for layer in found[block]}
    changed = {path.split("/")[0] for path in run.stages[0].changed}
    assert "logits" in changed
    assert changed <= allowed
    assert unfreeze == "head" or changed > {"logits"}


def test_a_solved_head_is_the_solution_on_the_features() -> None:
    model, whole = build(on_blocks()), data()
    x = features_of(model, whole.train), features_of(model, whole.val)
    y = (np.eye(2, dtype=np.float32)[split.labels] for split in (whole.train, whole.val))
    targets, held = y
    tl.fine_tune(model, whole, tl.plans.linear_probe(), verbose=0)
    expected = probe.solve(x[0], targets, (x[1], held), multi_label=False)
    dense = model.get_layer("logits")
    np.testing.assert_allclose(
        features_of(model, whole.val) @ dense.kernel + dense.bias,
        x[1] @ expected.kernel + expected.bias,
        rtol=1e-2,
        atol=1e-2,
    )


def test_the_first_batch_is_looked_at_with_taps_too() -> None:
    said = tl.check.data(data(60, val=0.5), build(on_blocks("stem", "block2")))
    assert "1.000 by a linear probe" in str(said)


def test_a_search_builds_one_network_for_heads_on_different_blocks() -> None:
    bench = Bench(data=data(), weights=None, seed=0, storage=Storage())
    common = {"image_size": SIZE, "trunk": "block2", "optimizer": "lbfgs"}
    heads = [{"taps": ["stem", "block2"]}, {}, {"taps": "all", "statistics": ["mean", "std"]}]
    scores = [bench.score({**common, **head}, ()) for head in heads]
    assert len(bench.networks) == 1
    assert len(bench.features) == 3
    model = build(tl.Head(**heads[2]), trunk="block2")
    run = tl.fine_tune(model, data(), tl.plans.linear_probe(), verbose=0)
    assert run.history["val_f1_macro"][-1] == pytest.approx(scores[2])


# Models of one's own


def own(channels: int = 3, nested: bool = False, dense: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input((SIZE, SIZE, channels), name="images")
    x = layers.Rescaling(1 / 255, name="scale")(images)
    x = layers.Conv2D(4, 3, strides=2, activation="tanh", name="one")(x)
    y = layers.Conv2D(4, 3, padding="same", activation="tanh", name="two")(x)
    x = layers.Add(name="join")([x, y])
    x = layers.Conv2D(6, 3, strides=2, activation="tanh", name="three")(x)
    if nested:
        body = keras.Model(images, x, name="body")
        images = keras.Input((SIZE, SIZE, channels), name="outer")
        x = body(images)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dense:
        x = layers.Dense(5, activation="relu", name="wide")(x)
    return keras.Model(images, layers.Dense(2, name="scores")(x))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_of_ones_own_gets_a_head_on_its_blocks(nested: bool, channels: int) -> None:
    model = own(channels, nested)
    images = pixels(4, channels=channels)
    made = tl.surgery.head_on_blocks(model, ("a", "b", "c"), on_blocks(statistics=ALL))
    before, after = tl.blocks(model), tl.blocks(made)
    assert {**before, "head": ()} == {**after, "head": ()}
    flat = graph.flat(model)
    ends = [output(flat, names[-1], images) for name, names in before.items() if name != "head"]
    expected = np.hstack([statistics_of(end) for end in ends])
    np.testing.assert_allclose(output(made, "head_features", images), expected, rtol=1e-4)
    assert made.output_shape == (None, 3)
    np.testing.assert_allclose(made(images).numpy().sum(1), 1, rtol=1e-5)
    shared = [graph.flat(model).get_layer(name) for name in ("one", "two", "three")]
    assert all(made.get_layer(layer.name) is layer for layer in shared)


def test_gradients_go_through_the_taps() -> None:
    made = tl.surgery.head_on_blocks(own(), 3, on_blocks(dropout=0.0))
    found = tl.check.gradients(made, pixels(2).astype(np.float64), entries=5)
    assert found.ok, str(found)
    assert any("one/kernel" in name for name in found.errors)


def test_it_fine_tunes_and_saves_as_any_model_of_ones_own(tmp_path: Path) -> None:
    made = tl.surgery.head_on_blocks(own(nested=True), 2)
    plan = tl.Plan(
        (
            tl.Stage("head", optimizer="lbfgs", augment="none"),
            tl.Stage("upper", unfreeze=1, epochs=1, learning_rate=1e-3, augment="none"),
        )
    )
    run = tl.fine_tune(made, data(), plan, run_dir=tmp_path / "run", verbose=0)
    assert {path.split("/")[0] for path in run.stages[0].changed} == {"logits"}
    assert {path.split("/")[0] for path in run.stages[1].changed} == {"three", "logits"}
    assert run.history["val_f1_macro"][0] == 1
    again = tl.foreign.load(tmp_path / "run" / "model.keras", ("0", "1")).model
    np.testing.assert_allclose(again(pixels()), run.model(pixels()), atol=1e-6)
    assert tl.blocks(again) == tl.blocks(run.model)


def test_another_head_takes_the_place_of_the_first() -> None:
    first = tl.surgery.head_on_blocks(own(), 2)
    second = tl.surgery.head_on_blocks(first, 4, on_blocks("block1"), multi_label=True)
    assert list(tl.blocks(second)) == ["block1", "head"]
    assert second.output_shape == (None, 4)
    assert "three" not in [layer.name for layer in second.layers]
    assert second.layers[-1].activation is keras.activations.sigmoid


def vectors() -> keras.Model:
    x = images = keras.Input((SIZE, SIZE, 3))
    x = layers.LSTM(5, name="rows")(layers.Reshape((SIZE, SIZE * 3))(x))
    return keras.Model(images, layers.Dense(2, name="scores")(x))


def test_vectors_pass_as_they_are_and_have_no_deviation() -> None:
    model = vectors()
    assert list(tl.blocks(model)) == ["block1", "head"]
    made = tl.surgery.head_on_blocks(model, 2, on_blocks(statistics=("mean",)))
    images = pixels() / 255
    expected = output(model, "rows", images)
    np.testing.assert_array_equal(output(made, "head_block1", images), expected)
    with pytest.raises(ValueError, match="`statistics` must be .* vectors, as block1 here"):
        tl.surgery.head_on_blocks(model, 2)
    with pytest.raises(ValueError, match="`head` must be one with taps"):
        tl.surgery.head_on_blocks(model, 2, tl.Head())


def test_a_layer_that_is_called_twice_ends_each_of_its_blocks() -> None:
    images = keras.Input((SIZE, SIZE, 3))
    shared = layers.ReLU(name="shared")
    x = shared(layers.Conv2D(4, 3, strides=2, name="one")(images))
    x = shared(layers.Conv2D(4, 3, strides=2, name="two")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(images, layers.Dense(2)(x))
    made = tl.surgery.head_on_blocks(model, 2, on_blocks(statistics=("mean",)))
    # The last block ends behind the second call, which the model's own head pools too.
    read = output(made, "head_features", pixels())[:, 4:]
    np.testing.assert_allclose(read, output(model, "pool", pixels()), rtol=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"taps": ()}, "`taps` must be None, 'all' or a tuple of one or more different names"),
        ({"taps": "block4"}, "`taps` must be None, 'all' or a tuple"),
        ({"taps": ("block4", "block4")}, "`taps` must be None, 'all' or a tuple"),
        ({"taps": (4,)}, "`taps` must be None, 'all' or a tuple"),
        ({"taps": 4}, "`taps` must be None, 'all' or a tuple"),
        ({"taps": "all", "statistics": ()}, "`statistics` must be one or more of"),
        ({"taps": "all", "statistics": ("mean", "mean")}, "each once"),
        ({"taps": "all", "statistics": ("median",)}, "one of 'mean', 'std', 'max'"),
        ({"taps": "all", "statistics": "mean"}, "`statistics` must be a tuple"),
        ({"taps": "all", "pooling": "max"}, "`pooling` must be left out with `taps`"),
        ({"statistics": ("mean", "std")}, "`statistics` must be left out without `taps`"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tl.Head(**settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": on_blocks("block9")}, "`taps` must be one of 'stem', 'block1', .*'top'"),
        ({"head": on_blocks("block5"), "trunk": "block4"}, "`taps` must be one of .*'block4'\\."),
        ({"head": on_blocks("stem"), "trunk": "block4"}, "`trunk` must be left out or 'stem'"),
        (
            {"head": on_blocks("block2"), "spatial_dropout": {"block3": 0.1}},
            "`spatial_dropout` must be one of 'stem', 'block1', 'block2'\\.",
        ),
    ],
)
def test_what_a_backbone_does_not_have_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def named(name: str) -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(2, 3, name=name)(images)
    return keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    ("model", "classes", "options", "message"),
    [
        (own, 2, {"head": on_blocks("stem")}, "`taps` must be one of 'block1', 'block2'"),
        (own, 1, {}, "`classes` must be an integer >= 2"),
        (own, True, {}, "`classes` must be an integer >= 2"),
        (own, ("a", "a"), {}, "`classes` must be a sequence of 2 or more different"),
        (own, 2, {"head": "all"}, "`head` must be a tl.Head"),
        (own, 2, {"multi_label": 1}, "`multi_label` must be True or False"),
        (own, 2, {"seed": -1}, "`seed` must be an integer >= 0"),
        (build, 2, {}, "`model` must be one of your own"),
        (lambda: named("logits"), 2, {}, "`model` must be one whose layers have other names"),
        (lambda: named("head_1"), 2, {}, "`model` must be one whose layers have other names"),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)]),
            2,
            {},
            "`model` must be one with blocks below its head",
        ),
        (lambda: "model", 2, {}, "`model` must be a functional or Sequential keras.Model"),
    ],
)
def test_a_model_that_cannot_be_tapped_is_refused(
    model: object, classes: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tl.surgery.head_on_blocks(model(), classes, **options)
