"""The table of backbones, the built networks, and the weights taken from files."""

import logging
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from tltoolkit import backbones
from tltoolkit.backbones import weight_files

PREPROCESSING = {
    "vgg": keras.applications.vgg16.preprocess_input,
    "resnet": keras.applications.resnet.preprocess_input,
    "resnetv2": keras.applications.resnet_v2.preprocess_input,
    "densenet": keras.applications.densenet.preprocess_input,
    "xception": keras.applications.xception.preprocess_input,
    "efficientnet_lite": lambda pixels: (pixels - 127) / 128,
}
ONE_PER_FAMILY = ["vgg16", "resnet50", "resnet50v2", "densenet121", "xception"]


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
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def assert_same_features(model: keras.Model, name: str, expected: keras.Model) -> None:
    """`model` on raw pixels does what `expected` does on preprocessed ones."""
    images = pixels(backbones.get(name).min_size, 2)
    features = expected(PREPROCESSING[backbones.get(name).family](images.copy())).numpy()
    assert np.std(features) > 0
    np.testing.assert_allclose(model(images).numpy(), features, rtol=1e-4, atol=1e-4)


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


def read(path: Path, model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Read a file for a built backbone, which spares building it again."""
    return weight_files.read(path, backbones.get(model.name), model.layers)


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
def lite():
    return built("efficientnet_lite0")


# The contract.


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_keeps_the_contract(name, tmp_path):
    """One test, since building the large ones takes seconds."""
    model = built(name)
    row = backbones.get(name)
    assert_flat_and_counted(row, model)
    assert_blocks_cover_all_layers_in_order(row, model)
    assert_preprocessing_is_that_of_keras_applications(row, model)
    assert_saved_and_loaded_agree_exactly(model, tmp_path / "model.keras")


def assert_flat_and_counted(row: backbones.Backbone, model: keras.Model) -> None:
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.count_params() == row.parameters
    assert len(model.output.shape) == 4


def assert_blocks_cover_all_layers_in_order(row: backbones.Backbone, model: keras.Model) -> None:
    layers = [layer.name for layer in model.layers]
    blocks = backbones.blocks_of(row.name, layers)
    assert tuple(blocks) == row.blocks
    assert all(blocks.values())
    assert [name for block in blocks.values() for name in block] == layers[1:]
    assert len(set(layers)) == len(layers)


def assert_preprocessing_is_that_of_keras_applications(
    row: backbones.Backbone, model: keras.Model
) -> None:
    cut = keras.Model(model.input, model.get_layer("preprocessing").output)
    images = pixels(row.min_size, 2)
    expected = PREPROCESSING[row.family](images.copy())
    np.testing.assert_allclose(cut(images).numpy(), expected, rtol=0, atol=1e-5)


def assert_saved_and_loaded_agree_exactly(model: keras.Model, path: Path) -> None:
    model.save(path)
    loaded = keras.saving.load_model(path)
    path.unlink()
    images = pixels(model.input_shape[1])
    np.testing.assert_array_equal(loaded(images).numpy(), model(images).numpy())
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]


@pytest.mark.parametrize("name", backbones.names())
def test_next_is_the_next_larger_one_of_its_family(name):
    row = backbones.get(name)
    family = [backbones.get(name) for name in backbones.names()]
    larger = [b for b in family if b.family == row.family and b.parameters > row.parameters]
    smallest = min(larger, key=lambda b: b.parameters, default=None)
    assert row.next == (smallest.name if smallest else None)


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


@pytest.mark.parametrize("name", ["xception", "efficientnet_lite0"])
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
    assert len({kernel.tobytes() for kernel in first.values()}) == len(first) > 40


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


def test_plain_keras_loads_a_saved_model(tmp_path):
    model = built("vgg16")
    images = pixels(32)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.saving.load_model('model.keras')\n"
        "np.save('features.npy', model(np.load('images.npy')).numpy())\n"
        "assert 'tltoolkit' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), model(images).numpy())


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


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
def test_weights_of_keras_applications_give_its_features(name, tmp_path, monkeypatch):
    expected = application(name)
    legacy, current = tmp_path / "legacy_notop.h5", tmp_path / "current.weights.h5"
    save(expected, legacy)
    save(expected, current)
    # Stands for the download only: what Keras would have fetched.
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(legacy))
    model = built(name, "imagenet")
    assert_same_features(model, name, expected)
    assert_same_weights(read(legacy, model), model)
    assert_same_weights(read(current, model), model)


@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_weights_of_a_built_backbone_return(lite, suffix, tmp_path):
    path = tmp_path / f"saved.{suffix}"
    lite.compile("adam", "mse")
    lite.optimizer.build(lite.trainable_variables)
    save(lite, path)
    again = built("efficientnet_lite0", path, seed=1)
    for a, b in zip(again.get_weights(), lite.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "form"),
    [("vgg16", "sequential"), ("vgg16", "flat"), ("xception", "nested"), ("xception", "flat")],
)
def test_the_backbone_of_somebodys_model_is_taken(name, form, tmp_path, caplog, capsys):
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
    count = sum(bool(layer.weights) for layer in expected.layers)
    assert f"{name}: took {count} layers from" in capsys.readouterr().out
    assert "block2" in caplog.text


def test_no_code_of_a_model_file_is_run(tmp_path, monkeypatch):
    expected = application("vgg16")
    path = tmp_path / "ran"
    touch = keras.layers.Lambda(lambda x, path=str(path): (Path(path).touch(), x)[1])
    keras.Model(expected.input, touch(expected.output)).save(tmp_path / "model.keras")
    path.unlink()
    # As after keras.config.enable_unsafe_deserialization().
    tracker = keras.src.backend.common.global_state.GLOBAL_STATE_TRACKER
    monkeypatch.setattr(tracker, "safe_mode_saving", False, raising=False)
    assert_same_features(built("vgg16", tmp_path / "model.keras"), "vgg16", expected)
    assert not path.exists()


def test_another_one_of_the_family_is_not_mistaken(tmp_path):
    vgg16, vgg19 = built("vgg16"), built("vgg19")
    both = [vgg16(vgg19.input), vgg19.output]
    keras.Model(vgg19.input, both).save(tmp_path / "both.keras")
    assert_same_weights(read(tmp_path / "both.keras", vgg16), vgg16)
    assert_same_weights(read(tmp_path / "both.keras", vgg19), vgg19)
    assert "it has a layer block3_conv4, which" in refusal_of(vgg19, vgg16, tmp_path / "w.keras")
    assert "it has 13 of the 16 layers" in refusal_of(vgg16, vgg19, tmp_path / "w.keras")
    assert "it has 3 layers too many" in refusal_of(vgg19, vgg16, tmp_path / "w.weights.h5")
    assert "it has no layers/conv2d_13" in refusal_of(vgg16, vgg19, tmp_path / "w.weights.h5")
    assert "16 layers with weights, not 13" in refusal_of(vgg19, vgg16, tmp_path / "notop.h5")


def edited(model: keras.Model, path: Path, edit) -> Path:
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def test_the_first_misfit_is_named(lite, tmp_path):
    path = tmp_path / "w.weights.h5"

    def shape(file):
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 31), "float32")

    def layer(file):
        del file["layers/depthwise_conv2d_2"]

    def variable(file):
        del file["layers/batch_normalization/vars/3"]

    def extra(file):
        file["layers/dense/vars/0"] = np.zeros(3)

    def integers(file):
        del file["layers/batch_normalization/vars/0"]
        file["layers/batch_normalization/vars/0"] = np.zeros(32, "int32")

    def missing_value(file):
        file["layers/conv2d/vars/0"][0, 0, 0, 0] = np.nan

    expected = {
        shape: "layer stem_conv needs the shapes [(3, 3, 3, 32)], the file has [(3, 3, 3, 31)]",
        layer: "no layers/depthwise_conv2d_2, which is the layer block2_1_depthwise_conv",
        variable: "layer stem_bn needs the shapes [(32,), (32,), (32,), (32,)]",
        extra: "it has 1 layers too many, among them layers/dense",
        integers: "must hold plain arrays of floats",
        missing_value: "layers/conv2d holds NaN or infinite values",
    }
    for edit, message in expected.items():
        assert message in refusal(edited(lite, path, edit), lite)


def test_a_file_cannot_point_at_other_files(lite, tmp_path):
    elsewhere = edited(lite, tmp_path / "elsewhere.weights.h5", lambda file: None)

    def link(file):
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = h5py.ExternalLink(str(elsewhere), "layers/conv2d/vars/0")

    def external(file):
        del file["layers/conv2d/vars/0"]
        file.create_dataset(
            "layers/conv2d/vars/0", (3, 3, 3, 32), "f4", external=[(str(elsewhere), 0, 3456)]
        )

    assert "layers/conv2d/vars/0 is a link" in refusal(
        edited(lite, tmp_path / "a.weights.h5", link), lite
    )
    assert "layers/conv2d/vars/0 lies outside the file" in refusal(
        edited(lite, tmp_path / "b.weights.h5", external), lite
    )


def test_damaged_files_are_refused(lite, tmp_path):
    lite.save(tmp_path / "whole.keras")
    lite.save_weights(tmp_path / "whole.weights.h5")
    for suffix in ("keras", "weights.h5"):
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        for part, damaged in {"empty": b"", "text": b"hello", "half": content[:-5000]}.items():
            path = tmp_path / f"{part}.{suffix}"
            path.write_bytes(damaged)
            refusal(path, lite)
    with zipfile.ZipFile(tmp_path / "whole.keras") as archive:
        arrays = archive.read("model.weights.h5")
    for number, config in enumerate(["[", "[]", "{}", '{"config": {"layers": [1]}}']):
        path = tmp_path / f"config{number}.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.weights.h5", arrays)
            archive.writestr("config.json", config)
        refusal(path, lite)


def test_part_of_a_backbone_is_refused(lite, tmp_path):
    cut = keras.Model(lite.input, lite.get_layer("block3_1_add").output)
    cut.save(tmp_path / "cut.keras")
    message = refusal(tmp_path / "cut.keras", lite)
    assert (
        "it has 30 of the 98 layers, the first without a match is block4_0_expand_conv" in message
    )
    for file in ("w.keras", "w.weights.h5", "notop.h5"):
        message = refusal_of(built("vgg16"), lite, tmp_path / file)
        assert ("it has 0 of the 98 layers" in message) == (file == "w.keras")


def test_a_whole_model_in_the_old_format_is_refused(lite, tmp_path):
    lite.save(tmp_path / "model.h5")
    assert "whole model in the old .h5 format" in refusal(tmp_path / "model.h5", lite)


def test_a_failed_download_says_what_to_do(tmp_path):
    code = (
        "import keras, tltoolkit as tl\n"
        "try: tl.backbones.build('vgg16', keras.Input((32, 32, 3)))\n"
        "except OSError as error: print(error)"
    )
    nowhere = {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        check=True,
    )
    for part in (
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        str(tmp_path / "home" / "models"),
        "weights=PATH",
        "efficientnet_lite0",
    ):
        assert part in done.stdout
