"""Exports of models that are not `build_classifier`'s, and of its less usual ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation import Decision, Thresholds

pytestmark = pytest.mark.usefixtures("shallow", "eagerly")

SIZE = 16
NAMES = ("ant", "bee", "cow")


def pixels(count: int = 12) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 4, 4, 3)).astype(np.uint8).repeat(5, 1).repeat(5, 2)


def own(units: int, activation: str | None, channels: int = 3, dtype: str = "float32") -> Any:
    keras.utils.set_random_seed(0)
    images = keras.Input((SIZE, SIZE, channels), dtype=dtype)
    x = keras.layers.Rescaling(1 / 127.5, -1)(images)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalMaxPooling2D()(x))
    return keras.Model(images, keras.layers.Dense(units, activation)(x))


def nested() -> Any:
    images = keras.Input((SIZE, SIZE, 3))
    return keras.Model(images, own(3, "softmax")(images))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.body = own(3, None)
        self.noise = keras.layers.GaussianNoise(1.0)

    def call(self, images: Any, training: bool = False) -> Any:
        return self.body(self.noise(images, training=training), training=training)


def subclassed() -> Any:
    model = Subclassed()
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return model


OWN: dict[str, tuple[Callable[[], Any], int, bool]] = {
    "softmax": (lambda: own(3, "softmax"), 3, False),
    "logits": (lambda: own(3, None), 3, False),
    "one sigmoid for two": (lambda: own(1, "sigmoid"), 2, False),
    "one logit for two": (lambda: own(1, None), 2, False),
    "sigmoids": (lambda: own(3, "sigmoid"), 3, True),
    "logits of several labels": (lambda: own(3, None), 3, True),
    "grey": (lambda: own(3, "softmax", channels=1), 3, False),
    "whole numbers": (lambda: own(3, "softmax", dtype="uint8"), 3, False),
    "nested": (nested, 3, False),
    "subclassed": (subclassed, 3, False),
}


def found(predictor: Predictor) -> np.ndarray:
    said = predictor.predict(list(pixels()))
    return np.array([list(answer.probabilities.values()) for answer in said])


@pytest.mark.parametrize("name", OWN)
def test_an_own_model_gives_probabilities_in_the_file_too(name: str, tmp_path: Path) -> None:
    make, count, several = OWN[name]
    predictor = Predictor(
        model=make(),
        class_names=NAMES[:count],
        decision=Decision(multi_label=several),
        from_logits="logit" in name or name == "subclassed",
    )
    tl.export(predictor, tmp_path / "x.onnx", strict=True)
    expected, loaded = found(predictor), tl.load(tmp_path / "x.onnx")
    np.testing.assert_allclose(found(loaded), expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3
    assert loaded.decision.multi_label == several


@pytest.mark.parametrize("path", ["x.tflite", "x.xml", "x"])
def test_two_classes_of_one_output_in_every_other_format(path: str, tmp_path: Path) -> None:
    data = tl.data.from_arrays(pixels(20), np.arange(20) % 2, NAMES[:2], val=0.0).train
    predictor = Predictor(model=own(1, "sigmoid", channels=1), class_names=NAMES[:2])
    quantize = "int8" if path == "x.tflite" else None
    format = "saved_model" if path == "x" else None
    tl.export(predictor, tmp_path / path, format, quantize, calibration=data)
    said = found(tl.load(tmp_path / path))
    np.testing.assert_allclose(said, found(predictor), atol=0.05 if quantize else 1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=0.01 if quantize else 1e-6)


def test_a_head_on_several_blocks_and_several_labels_with_thresholds(tmp_path: Path) -> None:
    head = tl.Head(taps=("block1", "block2"), statistics=("mean", "std"))
    model = tl.build_classifier(
        class_names=NAMES, weights=None, image_size=32, head=head, multi_label=True
    )
    layer = model.get_layer("logits")
    layer.kernel.assign(layer.kernel * 20)
    prob = found(Predictor(model=model, class_names=NAMES, decision=Decision(multi_label=True)))
    # So that each label is given to one half of the images.
    thresholds = Thresholds(values=tuple(map(float, np.median(prob, axis=0))), multi_label=True)
    decision = Decision(thresholds=thresholds, multi_label=True)
    tl.save(model, tmp_path / "model", decision=decision)
    # From the directory: the model was never called.
    tl.export(tmp_path / "model", tmp_path / "x.onnx", strict=True)
    loaded, images = tl.load(tmp_path / "x.onnx"), list(pixels())
    expected, said = (p.predict(images) for p in (tl.load(tmp_path / "model"), loaded))
    assert [answer.label for answer in said] == [answer.label for answer in expected]
    assert {len(answer.label) for answer in said} > {1}
    np.testing.assert_allclose(found(loaded), prob, atol=1e-5)


def run_of(model: Any, labels: Any, **options: Any) -> Any:
    data = tl.data.from_arrays(pixels(12), labels, NAMES, val=0.34)
    plan = tl.Plan((tl.Stage("head", unfreeze="head", epochs=1, augment="none"),))
    return tl.fine_tune(model, data, plan, verbose=0, **options), data


def test_a_run_knows_the_rest(tmp_path: Path) -> None:
    run, _ = run_of(own(3, "softmax"), np.arange(12) % 3)
    tl.export(run, tmp_path / "own.onnx")
    assert tl.load(tmp_path / "own.onnx").class_names == NAMES
    ours = tl.build_classifier(class_names=NAMES, weights=None, image_size=32, trunk="stem")
    run, data = run_of(ours, np.arange(12) % 3, imbalance="logit")
    told = tl.export(run, tmp_path / "ours.onnx", validation=data.val)
    assert told.images == len(data.val)
    loaded = tl.load(tmp_path / "ours.onnx")
    assert loaded.model.settings.train_prior == run.model.tltoolkit_settings.train_prior
    expected = Predictor(model=run.model, class_names=NAMES)
    for answer, other in zip(
        loaded.predict(list(pixels()), prior="train"),
        expected.predict(list(pixels()), prior="train"),
        strict=True,
    ):
        assert answer.probability == pytest.approx(other.probability, abs=1e-4)


def test_a_run_whose_outputs_may_mean_two_things_asks_for_images(tmp_path: Path) -> None:
    labels = np.eye(3, dtype=np.uint8)[np.arange(12) % 3]
    labels[0] = 1
    run, data = run_of(own(3, None), labels)
    with pytest.raises(ValueError, match="`classifier` must be given with `validation` images"):
        tl.export(run, tmp_path / "x.onnx")
    tl.export(run, tmp_path / "x.onnx", validation=data.train)
    assert tl.load(tmp_path / "x.onnx").decision.multi_label


@keras.saving.register_keras_serializable("tests")
class Unusual(keras.layers.Layer):
    """Something that neither format has an operation for."""

    def call(self, values: Any) -> Any:
        if self.name == "cross":
            return tf.linalg.cross(values, values + 1)
        if self.name == "lgamma":
            return tf.math.lgamma(values + 1)
        one = tf.ones_like(values)
        return tf.math.betainc(one, 2 * one, tf.sigmoid(values))


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("x.tflite", "cross", "operations that are not LiteRT's own: Cross$"),
        # TensorFlow 2.21 makes an empty array of it without a word.
        ("x.tflite", "lgamma", "what was made of the model does not compute: .*SUB"),
        ("x.tflite", "beta", "operations that are not LiteRT's own: Betainc$"),
        ("x.onnx", "beta", "operations that are not ONNX's own: Betainc$"),
        ("x.xml", "beta", "cannot be written as openvino: .*Betainc"),
    ],
)
def test_an_operation_that_a_format_lacks_is_named(
    path: str, name: str, said: str, tmp_path: Path
) -> None:
    images = keras.Input((SIZE, SIZE, 3))
    x = Unusual(name=name)(keras.layers.GlobalAveragePooling2D()(images))
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(x))
    with pytest.raises(ValueError, match=said):
        tl.export(Predictor(model=model, class_names=NAMES), tmp_path / path)
    assert not list(tmp_path.iterdir())


def test_mixed_precision_is_refused_where_it_does_not_work(tmp_path: Path) -> None:
    images = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(2, 3, dtype="mixed_float16")(images)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(x)
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(x))
    predictor = Predictor(model=model, class_names=NAMES)
    with pytest.raises(ValueError, match="in float32 for format='onnx'.*computes in float16"):
        tl.export(predictor, tmp_path / "x.onnx")
