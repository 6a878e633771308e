"""Classifiers on presets of keras-hub, each written to disk by the test: no network."""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.model import hub as ours

hub = pytest.importorskip("keras_hub")

SIZE = 32
NAMES = ("dark", "light")


def images(count: int = 4, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype("float32")


def written(backbone: Any, converter: Any, folder: Path) -> str:
    backbone.save_to_preset(str(folder))
    if converter is not None:
        converter.save_to_preset(str(folder))
    return f"hub:{folder}"


def vit(**options: Any) -> Any:
    return hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8,
        mlp_dim=16, **options,
    )  # fmt: skip


def converter(**options: Any) -> Any:
    return hub.layers.ViTImageConverter(image_size=(SIZE, SIZE), **options)


def build(preset: str, **options: Any) -> keras.Model:
    return tl.build_classifier(preset, NAMES, **options)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    keras.utils.set_random_seed(0)
    body = vit()
    scaled = converter(scale=[1 / 64, 1 / 32, 1 / 16], offset=[-1.0, -2.0, -3.0])
    return written(body, scaled, tmp_path_factory.mktemp("vit")), body


def test_pixels_are_scaled_as_the_preset_says_and_tokens_averaged(preset: tuple[str, Any]) -> None:
    name, body = preset
    model = build(name)
    assert model.input_shape == (None, SIZE, SIZE, 3)
    scaled = images() / [64, 32, 16] - [1, 2, 3]
    expected = body(scaled.astype("float32")).numpy().mean(axis=1)
    pooled = keras.Model(model.input, model.get_layer("head_avg").output)
    np.testing.assert_allclose(pooled(images()), expected, rtol=1e-4, atol=1e-5)
    logits = expected @ model.get_layer("logits").kernel.numpy()
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model(images()), odds, rtol=1e-3)
    random = build(name, weights=None)
    assert not np.array_equal(pooled(images()), random(images()))


def test_its_blocks_are_found_in_its_graph(preset: tuple[str, Any]) -> None:
    name, _ = preset
    model = build(name)
    blocks = tl.blocks(model)
    assert list(blocks)[-1] == "head"
    assert {"vit_patching_and_embedding", "vit_encoder"} <= {
        layer for block in list(blocks)[:-1] for layer in blocks[block]
    }
    assert "logits" in blocks["head"]
    tl.freeze(model, "head")
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"logits"}


@pytest.mark.usefixtures("eagerly")
def test_it_is_fine_tuned_kept_and_read_again(preset: tuple[str, Any], tmp_path: Path) -> None:
    name, _ = preset
    labels = np.arange(16) % 2
    pixels = np.clip(images(16) * 0.4 + 120 * labels[:, None, None, None], 0, 255).astype(np.uint8)
    data = tl.data.from_arrays(pixels, labels, class_names=NAMES, val=0.25)
    stage = tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-3, augment="none")
    model = build(name, fit="pad")
    run = tl.fine_tune(
        model, data, tl.Plan((stage,)), batch_size=8, run_dir=tmp_path / "run", verbose=0
    )
    assert {path.split("/")[0] for path in run.stages[0].changed} >= {"logits"}
    assert len(run.stages[0].changed) > 2
    read = tl.foreign.load(tmp_path / "run" / "model.keras", NAMES)
    assert tl.preparation_of(read.model).fit == "pad"
    np.testing.assert_allclose(read.model(images()), run.model(images()), rtol=1e-5)


def dinov2() -> tuple[Any, Any, Any]:
    """It takes its images by name."""
    body = hub.models.DINOV2Backbone(
        patch_size=8, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=8,
        image_shape=(SIZE, SIZE, 3), position_embedding_shape=(SIZE, SIZE, 3),
    )  # fmt: skip
    scaled = hub.layers.DINOV2ImageConverter(image_size=(SIZE, SIZE), scale=1 / 255)
    return body, scaled, lambda x: body({"images": x}).numpy().mean(axis=1)


def siglip() -> tuple[Any, Any, Any]:
    """It takes texts as well, and makes one vector of an image."""
    sizes = {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "intermediate_dim": 8}
    seeing = hub.models.SigLIPVisionEncoder(patch_size=8, image_shape=(SIZE, SIZE, 3), **sizes)
    reading = hub.models.SigLIPTextEncoder(vocabulary_size=10, embedding_dim=8, **sizes)
    body = hub.models.SigLIPBackbone(vision_encoder=seeing, text_encoder=reading)
    scaled = hub.layers.SigLIPImageConverter(image_size=(SIZE, SIZE), scale=1 / 255)
    return body, scaled, lambda x: seeing({"images": x}).numpy()


@pytest.mark.parametrize("make", [dinov2, siglip])
def test_other_kinds_of_presets_are_read(make: Any, tmp_path: Path) -> None:
    body, scaled, features = make()
    model = build(written(body, scaled, tmp_path / "preset"))
    pooled = keras.Model(model.input, model.get_layer("head_avg").output)
    expected = features(images() / 255)
    np.testing.assert_allclose(pooled(images()), expected, rtol=1e-3, atol=1e-5)
    assert list(tl.blocks(model))[-1] == "head"


def test_a_preset_of_timm_in_safetensors_is_read(tmp_path: Path) -> None:
    """The smallest ResNet of timm that keras-hub knows, at random."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}

    def conv(name: str, out: int, into: int, side: int) -> None:
        kernel = rng.normal(0, (2 / (into * side * side)) ** 0.5, (out, into, side, side))
        arrays[f"{name}.weight"] = kernel.astype("float32")

    def norm(name: str, size: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{name}.{part}"] = rng.uniform(0.5, 1.5, size).astype("float32")

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    channels = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for i in range(2):
            at = f"layer{stage}.{i}"
            conv(f"{at}.conv1", width, channels, 3)
            norm(f"{at}.bn1", width)
            conv(f"{at}.conv2", width, width, 3)
            norm(f"{at}.bn2", width)
            if channels != width:
                conv(f"{at}.downsample.0", width, channels, 1)
                norm(f"{at}.downsample.1", width)
            channels = width
    save_file(arrays, tmp_path / "model.safetensors")
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 0.2]
    told = {"mean": mean, "std": std, "input_size": [3, 64, 64], "interpolation": "bicubic"}
    config = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": told}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = build(f"hub:{tmp_path}", image_size=64)
    scaled = keras.Model(model.input, model.get_layer("preprocessing").output)(images(size=64))
    np.testing.assert_allclose(scaled, (images(size=64) / 255 - mean) / std, rtol=1e-4, atol=1e-4)
    kernels = {tuple(v.shape): v.numpy() for v in model.variables if v.name == "kernel"}
    np.testing.assert_array_equal(
        kernels[7, 7, 3, 64], arrays["conv1.weight"].transpose(2, 3, 1, 0)
    )
    # Each stage has a block of its own at least.
    assert len(tl.blocks(model)) >= 5


def test_what_is_no_preset_of_images_is_refused(preset: tuple[str, Any], tmp_path: Path) -> None:
    name, _ = preset
    with pytest.raises(ValueError, match=r"must be 'hub:' and a preset of images.*no_such"):
        build("hub:no_such_preset")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"preset of images. Received: .*empty"):
        build(f"hub:{tmp_path / 'empty'}")
    text = hub.models.BertBackbone(
        vocabulary_size=10, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    )
    with pytest.raises(ValueError, match="preset of images"):
        build(written(text, None, tmp_path / "text"))
    # One whose converter is there, while the network is of text.
    with pytest.raises(ValueError, match="preset of images"):
        build(written(text, converter(), tmp_path / "both"))
    with pytest.raises(ValueError, match=r"preset of images \(B, H, W, 3\)"):
        ours._of_images("text", text)
    with pytest.raises(ValueError, match="preset of images"):
        build(name, image_size=33)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "w.weights.h5"}, "`weights` must be 'imagenet' \\(the preset's own\\)"),
        ({"trunk": "block1"}, "`trunk` must be left out"),
        ({"spatial_dropout": {"block1": 0.1}}, "`spatial_dropout` must be left out"),
        ({"head": tl.Head(taps="all")}, "tl.surgery.head_on_blocks"),
        ({"class_names": ("one",)}, "`class_names` must be a sequence of 2"),
        ({"image_size": 0}, "`image_size` must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_named_before_any_work(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    given = {"class_names": NAMES, **options}
    with pytest.raises(ValueError, match=said):
        tl.build_classifier("hub:anything", **given)


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'tltoolkit\[hub\]'"):
        build("hub:anything")
