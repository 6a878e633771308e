"""check.data: forms, ranges, losses and probes against what was planted."""

from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.check import findings
from tltoolkit.check.findings import Range

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 16
layers = keras.layers


def pixels(labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 150, (len(labels), SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]
    return noise.astype(np.uint8)


LABELS = np.arange(90) % 3
PIXELS = pixels(LABELS)


def data(labels: Any = LABELS, images: np.ndarray = PIXELS, **options: Any) -> tl.data.ImageData:
    return tl.data.from_arrays(images, labels, val=0.0, **options)


def build(
    *first: Any, activation: str | None = "softmax", classes: int = 3, scale: float = 0.05
) -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            *first,
            layers.Conv2D(6, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(
                classes,
                activation,
                kernel_initializer=keras.initializers.RandomNormal(stddev=scale),
            ),
        ]
    )


def half() -> Any:
    return layers.Rescaling(1 / 127.5, -1)


def test_good_data_and_a_good_model() -> None:
    model = build(half())
    before = model.get_weights()
    found = tl.check.data(data(), model)
    assert found.problems == ()
    assert str(found).endswith("no problem found")
    assert (found.labels, found.head) == ("one of 3 classes per image", "3 outputs, softmax")
    assert (found.pixels.low, found.pixels.high) == (PIXELS.min(), PIXELS.max())
    assert found.preprocessed.low == pytest.approx(-1)
    assert found.preprocessed.mean == pytest.approx(PIXELS.mean() / 127.5 - 1, abs=1e-5)
    expected = -np.log(model.predict(PIXELS, verbose=0)[np.arange(90), LABELS]).mean()
    assert found.loss == pytest.approx(expected, rel=1e-4)
    assert found.guess_loss == pytest.approx(np.log(3))
    assert found.majority == pytest.approx(1 / 3)
    assert found.probe > 0.9
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_first_batch_is_drawn_as_the_model_sees_it() -> None:
    found = tl.check.data(data(), build(half()), batch_size=6)
    assert found.batch.shape == (6, SIZE, SIZE, 3)
    assert -1 <= found.batch.min() < -0.9
    axes = found.plot().axes
    assert [axis.get_title() for axis in axes[:6]] == list(found.names)
    np.testing.assert_allclose(axes[0].images[0].get_array().max(), 1, atol=0.2)
    shuffled = tl.augment.Batches(data().train, tl.augment.Pipeline(None, SIZE), shuffle=True)
    np.testing.assert_allclose((found.batch[0] + 1) * 127.5, next(iter(shuffled))[0][0], atol=1e-3)


def problems(model: keras.Model, images: tl.data.ImageData) -> str:
    return " / ".join(tl.check.data(images, model).problems)


def test_shuffled_labels_are_told() -> None:
    shuffled = data(np.random.default_rng(3).permutation(LABELS))
    assert "the features say nothing about the labels" in problems(build(half()), shuffled)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ((), "raw pixels; does the model lack its preprocessing?"),
        ((layers.Rescaling(1 / 255), layers.Rescaling(1 / 255)), "are pixels scaled twice?"),
    ],
)
def test_a_wrong_preprocessing_is_told(first: tuple[Any, ...], message: str) -> None:
    assert message in problems(build(*first), data())


def test_images_of_0_to_1_as_integers_are_told() -> None:
    assert "from 0 to 1 of 255" in problems(build(half()), data(images=PIXELS // 128))
    assert "all pixels are 0" in problems(build(half()), data(images=PIXELS * 0))


def test_labels_that_do_not_fit_the_head_are_told() -> None:
    assert "4 outputs and the labels 3 classes" in problems(build(half(), classes=4), data())
    assert "sigmoids are independent" in problems(build(half(), activation="sigmoid"), data())
    multi = data(np.eye(3, dtype=np.uint8)[LABELS], multi_label=True)
    assert "softmax allows only one" in problems(build(half()), multi)
    found = tl.check.data(multi, build(half(), activation="sigmoid"))
    assert found.problems == ()
    assert found.majority == pytest.approx(2 / 3)
    assert found.guess_loss == pytest.approx(np.log(2))
    assert found.probe > 0.8


def test_a_head_that_is_too_sure_is_told() -> None:
    message = "the head's first outputs are too large"
    assert message in problems(build(half(), activation=None, scale=300.0), data())


def test_a_classifier_of_ours_with_other_names_is_told() -> None:
    model = tl.build_classifier(class_names=("a", "b", "c"), weights=None, image_size=32)
    said = problems(model, data())
    assert "the model's classes are ('a', 'b', 'c'), those of the data ('0', '1', '2')" in said


class Own(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.body = layers.Conv2D(4, 3)
        self.pool = layers.GlobalAveragePooling2D()
        self.scores = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.scores(self.pool(self.body(x)))


def test_a_subclassed_model_is_looked_at_as_far_as_can_be() -> None:
    model = Own()
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    found = tl.check.data(data(), model)
    assert found.preprocessed is None
    assert found.probe is None
    assert found.loss is not None
    assert "not known" in str(found)


def test_ranges_and_limits() -> None:
    plain = Range.of(np.array([0.0, 1.0, 2.0]))
    assert (plain.low, plain.mean, plain.high) == (0, 1, 2)
    assert plain.deviation == pytest.approx(np.std([0, 1, 2]))
    broken = Range(low=float("nan"), mean=0, high=1, deviation=1)
    pixel = Range(low=0, mean=100, high=255, deviation=50)
    assert "NaN" in findings.of_ranges(pixel, broken)[0]
    caffe = Range(low=-124, mean=0, high=151, deviation=60)
    assert findings.of_ranges(pixel, caffe) == ()
    assert findings.of_probe(0.55, 0.05, 0.5)
    assert not findings.of_probe(0.65, 0.05, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "`samples` must be an integer >= 10"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"pipeline": tl.augment.Pipeline(None, 8)}, "a pipeline with the model's image_size 16"),
        ({"data": PIXELS}, "`data` must be an ImageData"),
        ({"model": "net"}, r"`model` must be a keras\.Model"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tl.check.data(**{"data": data(), "model": build(half()), **options})
