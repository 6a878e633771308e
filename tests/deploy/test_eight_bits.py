"""Numbers of eight bits, refined: nearer to the floats, with ranges and biases that fit."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tltoolkit.deploy import eight_bits, litert

SIDE = 12


def network() -> keras.Model:
    """Convolutions, a sum, a pooling and a dense layer, with channels of unequal sizes."""
    rng = np.random.default_rng(0)
    pixels = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(pixels)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu6")(x)
    y = keras.layers.ZeroPadding2D(1)(x)
    y = keras.layers.DepthwiseConv2D(3, activation="relu")(y)
    x = keras.layers.Add()([x, keras.layers.Conv2D(8, 1)(y)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, keras.layers.Dense(4, activation="softmax")(x))
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.4, weight.shape) * rng.uniform(0.3, 3, weight.shape[-1]))
    return model


def images(count: int, seed: int = 0) -> np.ndarray:
    """Noise on patches; a few pixels of some images are far brighter than all others."""
    rng = np.random.default_rng(seed)
    found = rng.integers(112, 144, (count, 4, 4, 3)).repeat(3, axis=1).repeat(3, axis=2)
    found = found + rng.integers(-8, 9, found.shape)
    found[:: count // 4 or 1, 0, 0] = 255
    return found.astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """In eight bits as they are converted, and in float32."""
    folder, model = tmp_path_factory.mktemp("files"), network()
    for name, options in (("x", {}), ("x8", litert._options("int8", images(90)))):
        model.export(str(folder / f"{name}.tflite"), format="litert", verbose=False, **options)
    return (folder / "x8.tflite").read_bytes(), (folder / "x.tflite").read_bytes()


@pytest.fixture(autouse=True)
def few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small images a bright pixel is a larger share."""
    monkeypatch.setattr(eight_bits, "OUTLIERS", 3e-3)


def said(content: bytes, shown: np.ndarray) -> np.ndarray:
    return eight_bits._outputs(content, shown)


def tensors(content: bytes, name: str) -> list[Any]:
    """Those that operations of a kind make."""
    made = eight_bits.opened(content)
    graph = made.subgraphs[0]
    kind = getattr(schema.BuiltinOperator, name)
    codes = [code.builtinCode for code in made.operatorCodes]
    return [graph.tensors[o.outputs[0]] for o in graph.operators if codes[o.opcodeIndex] == kind]


def test_answers_come_nearer_to_the_floats(files: tuple[bytes, bytes]) -> None:
    whole, floats = files
    better = eight_bits.refined(whole, floats, images(90))
    # On images that it has not seen.
    others = images(60, seed=1)
    expected = said(floats, others)
    before, after = (np.abs(said(one, others) - expected).mean() for one in (whole, better))
    assert after < 0.95 * before
    assert len(better) < 1.05 * len(whole)


def test_a_bias_makes_the_mean_that_of_the_floats(files: tuple[bytes, bytes]) -> None:
    whole, floats = files
    made = eight_bits.opened(whole)
    work = eight_bits._Refining(made, {})
    (linear,) = [
        one for one in made.subgraphs[0].operators
        if work._name(one) == "CONV_2D" and one.builtinOptions.fusedActivationFunction == 0
    ]  # fmt: skip
    out, bias = (made.subgraphs[0].tensors[t] for t in (linear.outputs[0], linear.inputs[2]))
    unit = float(out.quantization.scale[0])
    work._write(bias, work._read(bias) + 9 * unit / bias.quantization.scale)
    shown = images(90)[:60]  # two thirds of them; the others judge
    wrong = eight_bits.packed(made)
    better = eight_bits.refined(wrong, floats, images(90))
    expected = eight_bits._means(floats, shown)[out.name]
    errors = []
    for content in (wrong, better):
        (known,) = [t for t in tensors(content, "CONV_2D") if t.name == out.name]
        unit, zero = known.quantization.scale[0], known.quantization.zeroPoint[0]
        found = eight_bits._means(content, shown)[out.name]
        # The median channel: one that hardly varies is rounded to one number, right or wrong.
        errors.append(np.median(np.abs(unit * (found - zero) - expected)) / unit)
    assert errors[0] > 5
    assert errors[1] < 0.3


def test_ranges_lose_what_hardly_any_number_needs(files: tuple[bytes, bytes]) -> None:
    whole, floats = files
    better = eight_bits.refined(whole, floats, images(90))
    units = [
        [float(t.quantization.scale[0]) for name in ("CONV_2D", "ADD") for t in tensors(one, name)]
        for one in (whole, better)
    ]
    assert all(after <= before for before, after in zip(*units, strict=True))
    # A bias counts in the unit of what its layer takes times that of its weights.
    made = eight_bits.opened(better)
    graph = made.subgraphs[0]
    checked = 0
    for one in graph.operators:
        if len(one.inputs) > 2 and one.inputs[2] >= 0:
            taken, weights, bias = (graph.tensors[t].quantization.scale for t in one.inputs[:3])
            np.testing.assert_allclose(bias, taken * weights, rtol=1e-5)
            checked += 1
    assert checked == 4


def test_a_range_is_narrowed_around_zero(files: tuple[bytes, bytes]) -> None:
    made = eight_bits.opened(files[0])
    (tensor,) = [int(o.outputs[0]) for o in made.subgraphs[0].operators][-4:-3]
    known = made.subgraphs[0].tensors[tensor].quantization
    work = eight_bits._Refining(made, {})
    rng = np.random.default_rng(0)
    for zero, low, high in ((-128, -128, 20), (10, -30, 60), (127, -40, 127)):
        known.scale, known.zeroPoint = np.float32([0.1]), np.int64([zero])
        numbers = rng.integers(low, high + 1, 10**6).astype(np.int8)
        numbers[:3] = 127  # so few that they are outliers
        assert work._narrowed(tensor, [numbers])
        unit, place = float(known.scale[0]), int(known.zeroPoint[0])
        values = 0.1 * (numbers[3:].astype(int) - zero)
        again = np.clip(np.round(values / unit) + place, -128, 127)
        # Half a unit of the new numbers, which are finer, and a whole one where zero was moved.
        assert np.abs(unit * (again - place) - values).max() <= unit
        assert unit < 0.1
    known.scale, known.zeroPoint = np.float32([0.1]), np.int64([0])
    assert not work._narrowed(tensor, [rng.integers(-128, 128, 10**5).astype(np.int8)])
    assert (known.scale[0], known.zeroPoint[0]) == (np.float32(0.1), 0)


def test_what_would_not_come_nearer_stays_as_it_was(files: tuple[bytes, bytes]) -> None:
    whole = files[0]
    # Nothing is nearer to it than itself.
    assert eight_bits.refined(whole, whole, images(90)) is whole


def test_an_export_is_refined(tmp_path: Path) -> None:
    import tltoolkit as tl
    from tltoolkit.artifacts.predictor import Predictor

    names = tuple("abcd")
    split = tl.data.from_arrays(images(90), np.arange(90) % 4, names, val=0.0).train
    classifier = Predictor(model=network(), class_names=names)
    told = tl.export(classifier, tmp_path / "x.tflite", "litert", "int8", calibration=split)
    plain = litert._options("int8", images(90))
    network().export(str(tmp_path / "plain.tflite"), format="litert", verbose=False, **plain)
    others = images(60, seed=1)
    expected = network().predict_on_batch(others.astype(np.float32))
    found = tl.load(tmp_path / "x.tflite").engine.said(others)
    before = said((tmp_path / "plain.tflite").read_bytes(), others)
    assert np.abs(found - expected).mean() < np.abs(before - expected).mean()
    assert told.quantize == "int8"
