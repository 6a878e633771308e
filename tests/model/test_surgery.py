from pathlib import Path

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.callbacks import DropBlock2D, ScheduledSpatialDropout2D
from tltoolkit.layers import graph

pytestmark = pytest.mark.usefixtures("shallow")

OPTIONS = {"class_names": ("a", "b"), "weights": None, "image_size": 32}


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    return tl.build_classifier(**OPTIONS)


@pytest.fixture(scope="module")
def noisy() -> keras.Model:
    return tl.build_classifier(spatial_dropout={"block4": 0.5, "stem": 0.1}, **OPTIONS)


def test_channel_dropout_changes_training_and_nothing_in_inference(
    plain: keras.Model, noisy: keras.Model
) -> None:
    np.testing.assert_array_equal(noisy(pixels(), training=False), plain(pixels()))
    names = [layer.name for layer in noisy.layers]
    at = names.index("block4_spatial_dropout")
    assert names[at - 1] == tl.blocks(plain)["block4"][-1]
    assert tl.blocks(noisy)["block4"][-1] == "block4_spatial_dropout"
    dropped = keras.Model(noisy.input, graph.output_of(noisy, "block4_spatial_dropout"))
    maps = dropped(pixels(), training=True).numpy()
    silent = (maps == 0).all((1, 2)).mean()
    assert 0.35 < silent < 0.65


def test_it_survives_saving_as_an_artifact_and_as_a_keras_file(
    noisy: keras.Model, tmp_path: Path
) -> None:
    expected = noisy(pixels()).numpy()
    again = tl.load(tl.save(noisy, tmp_path / "artifact")).model
    np.testing.assert_array_equal(again(pixels()), expected)
    assert float(again.get_layer("block4_spatial_dropout").rate) == 0.5
    noisy.save(tmp_path / "noisy.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "noisy.keras")(pixels()), expected
    )


def test_weights_of_a_model_without_dropout_load(
    plain: keras.Model, noisy: keras.Model, tmp_path: Path
) -> None:
    plain.save(tmp_path / "plain.keras")
    taken = tl.build_classifier(
        **{**OPTIONS, "weights": tmp_path / "plain.keras", "seed": 5},
        spatial_dropout={"block4": 0.5},
    )
    np.testing.assert_array_equal(
        taken.get_layer("stem_conv").kernel, plain.get_layer("stem_conv").kernel
    )


def test_the_precision_policy_survives() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tl.build_classifier(spatial_dropout={"block2": 0.3}, **OPTIONS)
        inserted = tl.surgery.insert(model, {"block3": DropBlock2D(0.1, name="blocks")})
    finally:
        keras.config.set_dtype_policy("float32")
    for one in (model, inserted):
        assert one.get_layer("stem_conv").compute_dtype == "bfloat16"
        assert one.get_layer("logits").compute_dtype == "float32"
    np.testing.assert_array_equal(inserted(pixels()), model(pixels()))


def test_a_layer_goes_into_any_functional_model_nested_ones_too() -> None:
    inner_input = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, name="one")(inner_input)
    backbone = keras.Model(inner_input, keras.layers.Conv2D(4, 3, strides=2, name="two")(x))
    outer_input = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(outer_input))
    model = keras.Model(outer_input, keras.layers.Dense(2, name="scores")(x))
    dropout = ScheduledSpatialDropout2D(0.5, seed=0, name="drop")
    inserted = tl.surgery.insert(model, {"one": dropout})
    images = np.ones((2, 8, 8, 3), "float32")
    np.testing.assert_array_equal(inserted(images), model(images))
    assert not np.array_equal(inserted(images, training=True), model(images))


def test_the_trunk_ends_after_its_block() -> None:
    model = tl.build_classifier(trunk="block3", **OPTIONS)
    assert list(tl.blocks(model)) == ["stem", "block1", "block2", "block3", "head"]
    whole = tl.build_classifier(**OPTIONS)
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").kernel, whole.get_layer("stem_conv").kernel
    )
    assert model.get_layer("logits").kernel.shape[0] == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dropout": {"block9": 0.2}}, "`spatial_dropout` must be one of 'stem'"),
        ({"spatial_dropout": {"block4": 1.0}}, "must be a finite number >= 0 and < 1"),
        ({"spatial_dropout": {"block4": 0.2}, "trunk": "block3"}, "`spatial_dropout` must be"),
        ({"trunk": "block9"}, "`trunk` must be one of 'stem', 'block1'"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tl.build_classifier(**OPTIONS, **options)


def test_a_place_that_does_not_exist_is_named(plain: keras.Model) -> None:
    with pytest.raises(ValueError, match="`after` must be one of stem, block1"):
        tl.surgery.insert(plain, {"block9": DropBlock2D(0.1)})
