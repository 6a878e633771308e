import keras
import numpy as np
import pytest

from tltoolkit.model import freezing

BLOCKS = {
    "one": ("pixels", "conv_1", "bn_1"),
    "two": ("conv_2", "bn_2"),
    "three": ("conv_3",),
    "head": ("pool", "drop", "dense"),
}


def model(dropout_below: float = 0.0) -> keras.Model:
    x = pixels = keras.Input((8, 8, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, name="conv_1")(x)
    x = keras.layers.BatchNormalization(name="bn_1")(x)
    if dropout_below:
        x = keras.layers.SpatialDropout2D(dropout_below, name="noise")(x)
    x = keras.layers.Conv2D(4, 3, name="conv_2")(x)
    x = keras.layers.BatchNormalization(name="bn_2")(x)
    x = keras.layers.Conv2D(4, 3, name="conv_3")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    return keras.Model(pixels, keras.layers.Dense(2, name="dense")(x))


@pytest.mark.parametrize(
    ("unfreeze", "below_head"),
    [
        ("head", []),
        (1, ["three"]),
        (2, ["two", "three"]),
        (3, ["one", "two", "three"]),
        ("two", ["two", "three"]),
        ("all", ["one", "two", "three"]),
        (0.3, ["three"]),
        (0.5, ["two", "three"]),
        (1.0, ["one", "two", "three"]),
    ],
)
def test_unfreeze_by_block_count_name_and_share(unfreeze: object, below_head: list[str]) -> None:
    expected = {layer for block in [*below_head, "head"] for layer in BLOCKS[block]}
    assert freezing.trained_layers(BLOCKS, unfreeze) == expected


def test_unfreeze_by_pattern() -> None:
    assert freezing.trained_layers(BLOCKS, "conv_[23]") == {"conv_2", "conv_3", *BLOCKS["head"]}


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        ("four", "`unfreeze` must be one of 'one', 'two', 'three', 'head', 'all'"),
        ("dense_*", "a pattern that matches a layer"),
        (0, "an integer >= 1 and <= 3"),
        (4, "an integer >= 1 and <= 3"),
        (1.5, "a finite number > 0 and <= 1"),
        (True, "an integer"),
    ],
)
def test_what_does_not_exist_is_refused(unfreeze: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        freezing.trained_layers(BLOCKS, unfreeze)


def test_the_plan_names_every_layer_with_weights_and_spares_batch_norm() -> None:
    plan = freezing.freeze_plan(model(), BLOCKS, 2)
    assert plan == {
        "conv_1": False, "bn_1": False, "conv_2": True, "bn_2": False, "conv_3": True,
        "dense": True,
    }  # fmt: skip
    assert freezing.freeze_plan(model(), BLOCKS, 2, "train") == {**plan, "bn_2": True}


def test_the_applied_plan_is_what_trains() -> None:
    net = model()
    net.trainable = False
    freezing.apply_freeze(net, freezing.freeze_plan(net, BLOCKS, 1))
    assert {v.path.split("/")[0] for v in net.trainable_variables} == {"conv_3", "dense"}
    freezing.apply_freeze(net, freezing.freeze_plan(net, BLOCKS, "head"))
    assert {v.path.split("/")[0] for v in net.trainable_variables} == {"dense"}


def boundary_layer(net: keras.Model, unfreeze: object) -> str | None:
    cut = freezing.boundary(net, freezing.freeze_plan(net, BLOCKS, unfreeze))
    return None if cut is None else cut._keras_history.operation.name


def test_the_boundary_is_as_high_as_freezing_allows() -> None:
    assert boundary_layer(model(), "head") == "pool"
    assert boundary_layer(model(), 1) == "bn_2"
    assert boundary_layer(model(), 2) == "bn_1"
    assert boundary_layer(model(), "all") is None


def test_the_boundary_stays_below_random_layers() -> None:
    assert boundary_layer(model(dropout_below=0.2), "head") == "bn_1"


def test_a_frozen_batch_norm_keeps_its_averages_in_fit_and_a_trained_one_moves_them() -> None:
    x = np.random.default_rng(0).normal(3, 5, size=(32, 8, 8, 3)).astype("float32")
    y = np.eye(2, dtype="float32")[np.arange(32) % 2]
    for policy, moves in (("frozen", False), ("train", True)):
        net = model()
        freezing.apply_freeze(net, freezing.freeze_plan(net, BLOCKS, "all", policy))
        before = [v.numpy() for v in net.get_layer("bn_2").variables]
        net.compile("sgd", "mse")
        net.fit(x, y, epochs=2, verbose=0)
        after = [v.numpy() for v in net.get_layer("bn_2").variables]
        changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [moves] * 4, policy
