"""The built networks, and the weights taken from files.

Most is shown on a network of a few layers of each kind that Keras' own have; test_rows.py shows
that each of those is copied with all its layers.
"""

import functools
import logging
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import inception_resnet_v2
from keras.src.legacy.saving import legacy_h5_format

from tltoolkit import backbones
from tltoolkit.backbones import assemble, replant, table, weight_files
from tltoolkit.layers import private
from tltoolkit.model import freezing
from tltoolkit.training.gradient import _is_undecayed as spared

layers = keras.layers
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
# What networks of Keras want that do not take pixels.
PREPROCESSING = {"vgg": keras.applications.vgg16.preprocess_input}


def units(depth: int) -> list[str]:
    """One in the first block, the rest in the second."""
    return [f"block{min(i, 2)}_{i}" for i in range(1, depth + 1)]


def tiny(include_top: bool, weights: None, input_shape: tuple, depth: int = 2) -> keras.Model:
    """What Keras' networks do: normalise inside, nest, leave names out, compute with numbers."""
    inputs = keras.Input(input_shape)
    x = layers.Normalization()(layers.Rescaling(1 / 255)(inputs))
    stem = [
        layers.Conv2D(6, 3, strides=2, padding="same", name="tiny_stem_conv"),
        layers.LayerNormalization(name="tiny_stem_norm"),
    ]
    x = keras.Sequential(stem, name="tiny_stem")(x)
    for unit in units(depth):
        y = layers.Conv2D(6, 3, padding="same", use_bias=False, name=f"{unit}_conv")(x)
        y = layers.BatchNormalization(name=f"{unit}_bn")(y)
        y = private.layer_scale()(0.5, 6, name=f"{unit}_layer_scale")(y)
        y = layers.Dropout(0.1, name=f"{unit}_drop")(y)
        shortcut = layers.BatchNormalization()(layers.Conv2D(6, 1)(x))
        x = layers.Add()([shortcut, y])
        x = layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1 / 6)])
    return keras.Model(inputs, x, name="tiny")


def row(depth: int) -> backbones.Backbone:
    kinds = {"conv2d": "conv", "batch_normalization": "bn"}
    return backbones.Backbone(
        name=f"tiny{depth}",
        family="tiny",
        blocks=("stem", "block1", "block2"),
        min_size=8,
        parameters=1,
        multiply_adds=1,
        scale="torch",
        architecture=f"Tiny{depth}",
        layers={"stem": "tiny_stem_.*"},
        renamed={k: tuple(f"{u}_shortcut_{v}" for u in units(depth)) for k, v in kinds.items()},
    )


@pytest.fixture(scope="module", autouse=True)
def table_with_tiny_ones() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for depth in (2, 3):
            build = functools.partial(tiny, depth=depth)
            patch.setattr(keras.applications, f"Tiny{depth}", build, raising=False)
            patch.setitem(table._TABLE, f"tiny{depth}", row(depth))
        yield


def pixels(size: int, count: int = 1) -> np.ndarray:
    rng = np.random.default_rng(size)
    return rng.integers(0, 256, (count, size, size, 3)).astype("float32")


def built(name: str, weights=None, seed: int = 0) -> keras.Model:
    size = backbones.get(name).min_size
    inputs = keras.Input((size, size, 3))
    output = backbones.build(name, inputs, weights=weights, seed=seed)
    return keras.Model(inputs, output, name=name)


def application(name: str) -> keras.Model:
    """The network of keras.applications with every weight at random, norms included."""
    constructor = getattr(keras.applications, backbones.get(name).architecture)
    size = backbones.get(name).min_size
    model = constructor(include_top=False, weights=None, input_shape=(size, size, 3))
    draw(model)
    return model


def draw(model: keras.Model, spread: np.ndarray = STD**2) -> None:
    """Put norms and scales, which start at 0 and 1, at random; and images to what Keras says."""
    rng = np.random.default_rng(0)
    norms = keras.layers.BatchNormalization, keras.layers.LayerNormalization
    scales = (*norms, private.layer_scale())
    for layer in model._flatten_layers():
        if isinstance(layer, scales):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        elif isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([MEAN, spread, np.array(0)])
            layer.finalize_state()


def assert_same_features(model: keras.Model, name: str, expected: keras.Model) -> None:
    """`model` on raw pixels does what `expected` does, on preprocessed ones unless it does that."""
    images = pixels(backbones.get(name).min_size, 2)
    family = backbones.get(name).family
    theirs = PREPROCESSING.get(family, np.array)(images.copy())
    features = expected(theirs).numpy()
    assert np.std(features) > 0
    tolerance = 1e-4 * max(1, np.abs(features).max())
    np.testing.assert_allclose(model(images).numpy(), features, rtol=1e-4, atol=tolerance)


def assert_same_weights(arrays: dict[str, list[np.ndarray]], model: keras.Model) -> None:
    expected = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    assert arrays.keys() == expected.keys()
    for name, values in expected.items():
        for a, b in zip(arrays[name], values, strict=True):
            np.testing.assert_array_equal(a, b)


def save(model: keras.Model, path: Path) -> None:
    if path.name.endswith("notop.h5"):
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        model.save_weights(path)


def saved(model: keras.Model, path: Path) -> Path:
    save(model, path)
    return path


def read(path: Path, model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Read a file for a built backbone, which spares building it again."""
    places = paths(model.name)
    # As they are planted; without dropout Keras has them in another order.
    planted = [model.get_layer(name) for name in places]
    return weight_files.read(path, backbones.get(model.name), planted, places)


@functools.cache
def paths(name: str) -> dict[str, str]:
    """Where Keras saves the layers of its own form of a network, some of which are nested."""
    backbone = backbones.get(name)
    source = assemble._source(backbone, (None, None), pretrained=False)
    with private.without_values():
        inputs = keras.Input((backbone.image_size, backbone.image_size, 3))
        planted = replant.replant(backbone, source, inputs, 0)
    return {one.layer.name: one.path for one in planted}


def refusal(path: Path, model: keras.Model) -> str:
    """The message with which a file is refused for a built backbone."""
    with pytest.raises(ValueError, match="cannot take") as caught:
        read(path, model)
    message = str(caught.value)
    assert message.startswith(f"`weights`: {model.name} cannot take {path}: ")
    return message


def refusal_of(saved: keras.Model, model: keras.Model, path: Path) -> str:
    save(saved, path)
    return refusal(path, model)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return built("tiny2")


# The contract.


@pytest.mark.parametrize("name", ["tiny2", "mobilenet_v3_small"])
def test_it_is_the_network_of_keras_applications(name, tmp_path):
    expected = application(name)
    built_of_it = built(name, saved(expected, tmp_path / "notop.h5"))
    assert_same_features(built_of_it, name, expected)


def test_files_of_every_layout_hold_the_same(model, tmp_path):
    expected = application("tiny2")
    for file in ("w.keras", "w.weights.h5", "notop.h5"):
        arrays = read(saved(expected, tmp_path / file), model)
        norm = expected.get_layer("block2_2_bn").get_weights()
        np.testing.assert_array_equal(arrays["block2_2_bn"], norm)
        again = built("tiny2", tmp_path / file)
        assert_same_weights(arrays, again)
    assert_saved_and_loaded_agree_exactly(again, tmp_path / "model.keras")


def test_it_is_that_with_the_weights_which_keras_fetches(monkeypatch):
    """EfficientNet, as Keras makes up for deviations in the file where variances belong."""
    sources = []

    def load(source, file):  # stands for the download only
        assert file == "fetched"
        draw(source, STD)
        sources.append(source)

    with monkeypatch.context() as patched:
        patched.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: "fetched")
        patched.setattr(keras.Model, "load_weights", load)
        model = built("efficientnet_b0", "imagenet")
    (expected,) = sources
    assert_same_features(model, "efficientnet_b0", expected)


def test_layers_in_a_sequential_are_found_where_keras_saves_them(model, tmp_path):
    expected = application("tiny2")
    again = built("tiny2", saved(expected, tmp_path / "w.weights.h5"))
    assert_same_features(again, "tiny2", expected)
    assert_same_weights(read(saved(model, tmp_path / "ours.weights.h5"), model), model)


def assert_saved_and_loaded_agree_exactly(model: keras.Model, path: Path) -> None:
    model.save(path)
    loaded = keras.saving.load_model(path)
    path.unlink()
    images = pixels(model.input_shape[1])
    np.testing.assert_array_equal(loaded(images).numpy(), model(images).numpy())
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    # Keras numbers the scale of a LayerScale that it loads; here it has a name.
    known = [i for i, w in enumerate(model.weights) if "layer_scale" not in w.path]
    assert [loaded.weights[i].path for i in known] == [model.weights[i].path for i in known]


# The table.


def test_unknown_backbone_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"`backbone` must be one of 'vgg16', .*'resnet5'"):
        backbones.get("resnet5")


def test_layers_of_no_block_are_left_out():
    blocks = backbones.blocks_of("vgg16", ["input", "preprocessing", "block1_conv1", "head_dense"])
    assert blocks["block1"] == ("preprocessing", "block1_conv1")
    assert not any(blocks[name] for name in ("block2", "block3", "block4", "block5"))


def test_the_table_loads_no_keras():
    code = (
        "import sys, tltoolkit as tl; tl.backbones.get(tl.backbones.names()[0]);"
        "sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Building.


@pytest.mark.parametrize("name", ["tiny3", "efficientnet_lite0"])
@pytest.mark.usefixtures("shallow")
def test_names_and_random_weights_depend_on_the_seed_alone(name):
    first = kernels(built(name))
    random.seed(5)
    expected = random.random()
    random.seed(5)
    second, other = kernels(built(name)), kernels(built(name, seed=1))
    assert random.random() == expected
    assert first.keys() == second.keys() == other.keys()
    for path, kernel in first.items():
        np.testing.assert_array_equal(kernel, second[path])
        assert not np.array_equal(kernel, other[path])
    # Layers of equal shape within one network start differently too.
    assert len({kernel.tobytes() for kernel in first.values()}) == len(first) >= 7


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {w.path: w.numpy() for w in model.weights if "kernel" in w.name}


def test_any_size_and_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((None, None, 3))
        output = backbones.build("vgg16", inputs, weights=None)
    finally:
        keras.config.set_dtype_policy("float32")
    model = keras.Model(inputs, output)
    assert output.dtype == "bfloat16"
    cut = keras.Model(inputs, model.get_layer("preprocessing").output)
    images = pixels(40)
    expected = PREPROCESSING["vgg"](images.copy())
    np.testing.assert_allclose(cut(images).numpy(), expected, rtol=0, atol=1e-5)
    assert model(pixels(70)).shape == (1, 2, 2, 512)


def test_a_saved_model_needs_keras_alone(model, tmp_path):
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        told = archive.read("config.json").decode()
    assert "keras.layers" in told
    assert "tltoolkit" not in told


@pytest.mark.parametrize("shape", [(31, 64, 3), (64, 31, 3), (64, 64, 1), (64, 3)])
def test_input_of_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"`inputs` must be of shape \(B, H, W, 3\).*>= 32"):
        backbones.build("vgg16", keras.Input(shape), weights=None)


def test_other_wrong_arguments_are_refused(tmp_path):
    inputs = keras.Input((32, 32, 3))
    with pytest.raises(TypeError, match="`inputs` must be a Keras tensor"):
        backbones.build("vgg16", np.zeros((1, 32, 32, 3)), weights=None)
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        backbones.build("vgg16", inputs, weights=None, seed=-1)
    with pytest.raises(TypeError, match="`weights` must be 'imagenet', None or the path"):
        backbones.build("vgg16", inputs, weights=3)
    (tmp_path / "directory.keras").mkdir()
    (tmp_path / "weights.pkl").touch()
    for weights in ("imagnet", "missing.keras", "directory.keras", "weights.pkl"):
        with pytest.raises(ValueError, match=r"`weights` must be 'imagenet', .*that exists"):
            backbones.build("vgg16", inputs, weights=tmp_path / weights)


# Weights from Keras and from files.


def test_plain_keras_loads_the_scaled_sum_of_inception_resnet(tmp_path):
    inputs = keras.Input((2, 2, 3))
    layer = inception_resnet_v2.CustomScaleLayer(0.17, name="sum")
    keras.Model(inputs, layer([inputs, inputs])).save(tmp_path / "sum.keras")
    images = np.ones((1, 2, 2, 3), "float32")
    loaded = keras.saving.load_model(tmp_path / "sum.keras")
    np.testing.assert_allclose(loaded(images).numpy(), 1.17 * images, rtol=1e-6)


def test_a_network_that_normalises_otherwise_is_refused(model, tmp_path):
    """EfficientNet normalises by weights that are in its file, and that we replace."""
    expected = application("tiny2")
    (images,) = (layer for layer in expected.layers if isinstance(layer, layers.Normalization))
    # As in the file that Keras offers, whose variance is a standard deviation.
    images.set_weights([MEAN, STD, np.array(0)])
    save(expected, tmp_path / "theirs.weights.h5")
    found = read(tmp_path / "theirs.weights.h5", model)
    norm = expected.get_layer("block2_2_bn").get_weights()
    np.testing.assert_array_equal(found["block2_2_bn"][1], norm[1])
    images.set_weights([np.zeros(3), np.ones(3), np.array(0)])
    for file in ("w.keras", "w.weights.h5", "notop.h5"):
        message = refusal_of(expected, model, tmp_path / file)
        assert "normalises by the mean [0. 0. 0.] and variance [1. 1. 1.]; tiny2 is" in message


def test_a_map_of_unknown_size_is_padded_as_at_the_network_s_own_size():
    """NASNet compares the sizes of maps while it is built: unknown ones are all alike."""
    row = backbones.get("nasnet_mobile")
    source = assemble._source(row, (None, None), pretrained=False)
    assert source.count_params() == row.parameters


def test_layer_norm_and_layer_scale_are_frozen_and_spared_like_other_norms():
    with private.without_values():
        model = built("convnext_tiny")
    blocks = backbones.blocks_of("convnext_tiny", [layer.name for layer in model.layers])
    plan = freezing.freeze_plan(model, {**blocks, "head": ()}, 1)
    assert {name for name, trains in plan.items() if trains} == {
        name for name in blocks["stage4"] if model.get_layer(name).weights
    }
    freezing.apply_freeze(model, plan)
    decayed = {v.path.split("/")[0] for v in model.trainable_variables if not spared(v)}
    assert decayed == {
        name
        for name in blocks["stage4"]
        if isinstance(model.get_layer(name), (keras.layers.Conv2D, keras.layers.Dense))
    }


@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_weights_of_a_built_backbone_return(model, suffix, tmp_path):
    path = tmp_path / f"saved.{suffix}"
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    save(model, path)
    again = built("tiny2", path, seed=1)
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("form", ["sequential", "flat", "nested"])
def test_the_backbone_of_somebodys_model_is_taken(form, tmp_path, caplog, capsys):
    name = "tiny2"
    keras.layers.Conv2D(1, 1)  # so that the numbers in automatic names do not start at 0
    expected = application(name)
    head = [
        keras.layers.Conv2D(7, 1),
        keras.layers.BatchNormalization(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2),
    ]
    if form == "sequential":
        theirs = keras.Sequential([keras.layers.Conv2D(3, 1), expected, *head])
        theirs.build(expected.input_shape)
    else:
        inputs = expected.input if form == "flat" else keras.Input(expected.input_shape[1:])
        x = expected.output if form == "flat" else expected(keras.layers.Conv2D(3, 1)(inputs))
        for layer in head:
            x = layer(x)
        theirs = keras.Model(inputs, x)
    theirs.compile("adam", "mse")
    theirs.save(tmp_path / "theirs.keras")
    with caplog.at_level(logging.INFO, logger="tltoolkit"):
        assert_same_features(built(name, tmp_path / "theirs.keras"), name, expected)
    count = sum(bool(layer.weights) for layer in built(name).layers)
    assert f"{name}: took {count} layers from" in capsys.readouterr().out
    assert "block2" in caplog.text


def test_no_code_of_a_model_file_is_run(tmp_path, monkeypatch):
    expected = application("tiny2")
    path = tmp_path / "ran"
    touch = layers.Lambda(lambda x, path=str(path): (Path(path).touch(), x)[1])
    keras.Model(expected.input, touch(expected.output)).save(tmp_path / "model.keras")
    path.unlink()
    # As after keras.config.enable_unsafe_deserialization().
    tracker = keras.src.backend.common.global_state.GLOBAL_STATE_TRACKER
    monkeypatch.setattr(tracker, "safe_mode_saving", False, raising=False)
    assert_same_features(built("tiny2", tmp_path / "model.keras"), "tiny2", expected)
    assert not path.exists()


def test_another_one_of_the_family_is_not_mistaken(tmp_path):
    small, large = built("tiny2"), built("tiny3")
    both = [small(large.input), large.output]
    keras.Model(large.input, both).save(tmp_path / "both.keras")
    assert_same_weights(read(tmp_path / "both.keras", small), small)
    assert_same_weights(read(tmp_path / "both.keras", large), large)
    assert "it has a layer block2_3_conv, which" in refusal_of(large, small, tmp_path / "w.keras")
    assert "it has 12 of the 17 layers" in refusal_of(small, large, tmp_path / "w.keras")
    assert "it has 5 layers too many" in refusal_of(large, small, tmp_path / "w.weights.h5")
    assert "it has no layers/conv2d_5" in refusal_of(small, large, tmp_path / "w.weights.h5")
    assert "layers with weights, not 12" in refusal_of(large, small, tmp_path / "notop.h5")


def edited(model: keras.Model, path: Path, edit) -> Path:
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def test_the_first_misfit_is_named(model, tmp_path):
    path = tmp_path / "w.weights.h5"

    def shape(file):
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 5), "float32")

    def layer(file):
        del file["layers/batch_normalization_2"]

    def variable(file):
        del file["layers/batch_normalization/vars/3"]

    def extra(file):
        file["layers/dense/vars/0"] = np.zeros(3)

    def integers(file):
        del file["layers/batch_normalization/vars/0"]
        file["layers/batch_normalization/vars/0"] = np.zeros(6, "int32")

    def missing_value(file):
        file["layers/conv2d/vars/0"][0, 0, 0, 0] = np.nan

    expected = {
        shape: "tiny_stem_conv needs the shapes [(3, 3, 3, 6), (6,)], the file has [(3, 3, 3, 5)",
        layer: "no layers/batch_normalization_2, which is the layer block2_",
        variable: "needs the shapes [(6,), (6,), (6,), (6,)], the file has [(6,), (6,), (6,)]",
        extra: "it has 1 layers too many, among them layers/dense",
        integers: "must hold plain arrays of floats",
        missing_value: "layers/conv2d holds NaN or infinite values",
    }
    for edit, message in expected.items():
        assert message in refusal(edited(model, path, edit), model)


def test_a_file_cannot_point_at_other_files(model, tmp_path):
    elsewhere = edited(model, tmp_path / "elsewhere.weights.h5", lambda file: None)

    def link(file):
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = h5py.ExternalLink(str(elsewhere), "layers/conv2d/vars/0")

    def external(file):
        del file["layers/conv2d/vars/0"]
        file.create_dataset(
            "layers/conv2d/vars/0", (3, 3, 3, 6), "f4", external=[(str(elsewhere), 0, 648)]
        )

    assert "layers/conv2d/vars/0 is a link" in refusal(
        edited(model, tmp_path / "a.weights.h5", link), model
    )
    assert "layers/conv2d/vars/0 lies outside the file" in refusal(
        edited(model, tmp_path / "b.weights.h5", external), model
    )


def test_damaged_files_are_refused(model, tmp_path):
    model.save(tmp_path / "whole.keras")
    model.save_weights(tmp_path / "whole.weights.h5")
    for suffix in ("keras", "weights.h5"):
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        for part, damaged in {"empty": b"", "text": b"hello", "half": content[:-500]}.items():
            path = tmp_path / f"{part}.{suffix}"
            path.write_bytes(damaged)
            refusal(path, model)
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        arrays = archive.read("model.weights.h5")
    for number, config in enumerate(["[", "[]", "{}", '{"config": {"layers": [1]}}']):
        path = tmp_path / f"config{number}.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", arrays)
            archive.writestr("config.json", config)
        refusal(path, model)


def test_part_of_a_backbone_is_refused(model, tmp_path):
    cut = keras.Model(model.input, model.get_layer("block1_add_1").output)
    cut.save(tmp_path / "cut.keras")
    message = refusal(tmp_path / "cut.keras", model)
    assert "it has 7 of the 12 layers, the first without a match is block2_" in message
    x = inputs = keras.Input((8, 8, 3))
    for _ in range(3):
        x = layers.Conv2D(3, 3)(x)
    other = keras.Model(inputs, x)
    for file in ("w.keras", "w.weights.h5", "notop.h5"):
        message = refusal_of(other, model, tmp_path / file)
        assert ("it has 0 of the 12 layers" in message) == (file == "w.keras")


def test_a_whole_model_in_the_old_format_is_refused(model, tmp_path):
    model.save(tmp_path / "model.h5")
    assert "whole model in the old .h5 format" in refusal(tmp_path / "model.h5", model)


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))

    def unreachable(*_: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", unreachable)
    with pytest.raises(OSError, match="could not be fetched") as caught:
        built("vgg16", "imagenet")
    for part in (
        "no route",
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        str(tmp_path / "home" / "models"),
        "weights=PATH",
        "efficientnet_lite0",
    ):
        assert part in str(caught.value)
