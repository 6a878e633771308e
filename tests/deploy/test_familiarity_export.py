"""How familiar images are, as an exported file says it: as its classifier, without TensorFlow."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.runtimes.card import KEY, Card

pytestmark = pytest.mark.usefixtures("shallow")
NAMES, SIZE = ("a", "b", "c"), 32
NAME = {"litert": "x.tflite", "onnx": "x.onnx", "openvino": "x.xml", "saved_model": "x"}
KINDS = [*((name, None) for name in NAME), ("onnx", "float16"), ("litert", "int8")]
Make = Callable[..., Path]


def images(count: int, seed: int = 0) -> np.ndarray:
    labels = np.arange(count) % 3
    waves = np.sin(np.arange(SIZE)[None] * (1 + labels[:, None]))
    noise = np.random.default_rng(seed).normal(128, 40, (count, SIZE, SIZE, 3))
    return (noise + 40 * waves[:, :, None, None]).clip(0, 255).astype(np.uint8)


def data() -> tl.data.ImageData:
    return tl.data.from_arrays(images(90), np.arange(90) % 3, NAMES, val=0.3)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model = tl.build_classifier(
        "efficientnet_lite0", NAMES, weights=None, image_size=SIZE, trunk="block1"
    )
    tl.fine_tune(model, data(), "solve", verbose=0)
    return Predictor(model=model, class_names=NAMES)


@pytest.fixture(scope="module")
def make(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Exports each kind once."""
    made: dict[tuple[str, str | None], Path] = {}

    def make(format: str, quantize: str | None = None) -> Path:
        if (format, quantize) not in made:
            path = tmp_path_factory.mktemp("exported") / NAME[format]
            tl.export(predictor, path, format, quantize, calibration=data().train)
            made[format, quantize] = path
        return made[format, quantize]

    return make


def some() -> list[np.ndarray]:
    """Known ones, some that are a little strange, and strangers."""
    known = images(12, seed=2)
    mixed = (0.7 * known + 0.3 * images(12, seed=3)[::-1]).astype(np.uint8)
    return [*known, *mixed, np.zeros((40, 30, 3), np.uint8)]


@pytest.mark.parametrize(("format", "quantize"), KINDS)
def test_a_file_says_it_as_its_classifier(
    format: str, quantize: str | None, predictor: Predictor, make: Make
) -> None:
    expected, loaded = predictor.predict(some()), tl.load(make(format, quantize))
    said = loaded.predict(some(), batch_size=7)
    if quantize == "int8":
        assert {one.familiarity for one in said} == {None}
        with pytest.raises(ValueError, match="`min_familiarity` must be None"):
            loaded.predict(some(), min_familiarity=0.1)
        return
    first, second = (np.array([one.familiarity for one in x]) for x in (expected, said))
    np.testing.assert_allclose(second, first, atol=1e-3 if quantize is None else 0.05)
    assert first.min() < 0.01 < 0.5 < first.max()
    rows = [list(one.probabilities.values()) for one in said]
    np.testing.assert_allclose(
        rows, [list(one.probabilities.values()) for one in expected], atol=1e-2
    )
    limit = float(np.sort(first)[9:11].mean())
    strict = loaded.predict(some(), min_familiarity=limit)
    if quantize is None:
        assert [one.abstained for one in strict] == list(first < limit)


def test_a_file_of_a_classifier_without_it_has_one_output(tmp_path: Path) -> None:
    model = tl.build_classifier(
        "efficientnet_lite0", NAMES, weights=None, image_size=SIZE, trunk="block1"
    )
    path = tmp_path / "x.onnx"
    tl.export(Predictor(model=model, class_names=NAMES), path)
    loaded = tl.load(path)
    assert not loaded.engine.familiar
    # As earlier versions wrote and read it.
    assert "familiarity" not in json.loads(loaded.engine.settings.to_text())
    assert len(loaded.engine.compute(np.zeros((2, SIZE, SIZE, 3), np.float32))) == 1


def test_a_tflite_file_has_probabilities_first_and_describes_both(make: Make) -> None:
    content = make("litert").read_bytes()
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)).subgraphs[0]
    shapes = [list(graph.tensors[i].shape)[-1] for i in graph.outputs]
    assert shapes == [3, 1]
    assert b"From the images of training" in content


@pytest.mark.parametrize("wrong", [{"knots": [2.0, 1.0], "width": 1.0}, {"knots": [1.0]}, 3])
def test_a_card_that_says_something_else_is_refused(make: Make, wrong: object) -> None:
    text = json.loads(tl.load(make("onnx")).engine.settings.to_text())
    with pytest.raises(ValueError, match=f"{KEY}: "):
        Card.from_text(json.dumps({**text, "familiarity": wrong}))


def test_the_command_line_answers_for_a_file_without_tensorflow(make: Make, tmp_path: Path) -> None:
    from PIL import Image

    paths = []
    for i, image in enumerate([images(1, seed=2)[0], some()[-1]]):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(paths[-1])
    command = [sys.executable, "-m", "tltoolkit", "predict", str(make("onnx")), *paths]
    done = subprocess.run(
        [*command, "--min-familiarity", "0.001"], capture_output=True, text=True, check=True
    )
    header, known, stranger = (line.split(",") for line in done.stdout.splitlines())
    assert header == ["image", "label", "probability", "abstained", "error", "familiarity"]
    assert (known[3], stranger[3]) == ("0", "1")
    assert float(known[5]) > 0.001 > float(stranger[5])
