"""Predictor.stream: in order, on after a bad image, lazily; and the versions of an image."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.artifacts.given import AHEAD, BadImage
from tltoolkit.artifacts.predictor import Prediction, Predictor

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ("ant", "bee", "cow")
SIZE = 32


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model = tl.build_classifier(class_names=NAMES, weights=None, image_size=SIZE)
    return Predictor(model=model, class_names=NAMES)


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 40, 44, 3)).astype(np.uint8)


def found(answers: Any) -> np.ndarray:
    return np.array([list(answer.probabilities.values()) for answer in answers])


def test_a_stream_answers_in_order_and_goes_on_after_bad_images(
    predictor: Predictor, tmp_path: Path
) -> None:
    images: list[Any] = list(pixels(7))
    expected = found(predictor.predict(images))
    keras.utils.save_img(tmp_path / "1.png", images[1], scale=False)
    (tmp_path / "bad.jpg").write_text("<html>")
    mixed = [
        images[0],
        tmp_path / "bad.jpg",
        str(tmp_path / "1.png"),
        images[2].astype("float32"),
        *images[3:5],
        "gone.png",
        "nul\0.png",
        *images[5:],
    ]
    answers = list(predictor.stream(mixed, batch_size=3))
    bad = {i: answer for i, answer in enumerate(answers) if isinstance(answer, BadImage)}
    assert list(bad) == [1, 3, 6, 7]
    assert bad[1].name == str(tmp_path / "bad.jpg")
    assert "not a JPEG" in bad[1].reason
    assert bad[3].name == "images[3]"
    assert "float32" in bad[3].reason
    assert bad[6] == BadImage(name="gone.png", reason="No such file or directory")
    assert "null byte" in bad[7].reason
    good = [answer for answer in answers if isinstance(answer, Prediction)]
    np.testing.assert_allclose(found(good), expected[[0, 1, 3, 4, 5, 6]], atol=1e-6)


def test_a_batch_of_bad_images_alone_is_no_error(predictor: Predictor) -> None:
    answers = list(predictor.stream(["a.png", "b.png", pixels(1)[0]], batch_size=2))
    assert [type(answer) for answer in answers] == [BadImage, BadImage, Prediction]
    assert list(predictor.stream([])) == []


def test_a_stream_reads_only_a_little_ahead_and_ends_its_threads(predictor: Predictor) -> None:
    taken = []

    def endless() -> Iterator[np.ndarray]:
        image = pixels(1)[0]
        for i in itertools.count():
            taken.append(i)
            yield image

    before = threading.active_count()
    answers = predictor.stream(endless(), batch_size=2)
    assert not taken
    for _ in range(5):
        next(answers)
    assert len(taken) <= (3 + AHEAD) * 2
    answers.close()
    assert threading.active_count() <= before


def test_several_views_are_averaged_as_in_evaluation(predictor: Predictor) -> None:
    data = tl.data.from_arrays(pixels(12), np.arange(12) % 3, NAMES, val=0)
    pipeline = tl.augment.preset("light", SIZE, seed=3)
    report = tl.evaluate(predictor.model, data.train, pipeline=pipeline, views=3)
    images = [data.train.image(i) for i in range(12)]
    said = found(predictor.predict(images, pipeline=pipeline, views=3, batch_size=5))
    np.testing.assert_allclose(said, report.probabilities, atol=1e-6)
    assert np.abs(said - found(predictor.predict(images))).max() > 1e-6


def test_a_users_own_model_answers_with_probabilities() -> None:
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    images = pixels(4)
    small = np.stack([tl.augment.resize(image, SIZE) for image in images])
    logits = model.predict(small, verbose=0).astype(float)
    expected = np.exp(logits - logits.max(1, keepdims=True))
    said = found(Predictor(model=model, class_names=NAMES).predict(list(images)))
    np.testing.assert_allclose(said, expected / expected.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_confidence": 2}, "`min_confidence` must be a finite number"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"views": 2}, "`views` must be above 1 with a random pipeline, and 1 without"),
        ({"pipeline": tl.augment.preset("light", SIZE)}, "`views` must be above 1"),
        ({"pipeline": tl.augment.preset("light", 8), "views": 2}, "the model's image_size 32"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(
    options: dict[str, Any], message: str, predictor: Predictor
) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.stream(["gone.png"], **options)
