import json
from pathlib import Path

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation import Decision, Report

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

NAMES = ("ant", "bee", "cow")


def pixels(count: int = 5, size: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tl.build_classifier(class_names=NAMES, weights=None, image_size=32)


@pytest.fixture(scope="module")
def saved(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tl.save(model, tmp_path_factory.mktemp("artifact") / "new" / "model")


@pytest.fixture(scope="module")
def predictor(saved: Path) -> Predictor:
    return tl.load(saved)


def probabilities(predictions: list) -> np.ndarray:
    return np.array([[p.probabilities[name] for name in NAMES] for p in predictions])


def test_files_arrays_and_the_model_agree(
    model: keras.Model, predictor: Predictor, tmp_path: Path
) -> None:
    images = pixels()
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        keras.utils.save_img(path, image, scale=False)
    resized = np.stack([tl.augment.resize(image, 32) for image in images])
    expected = model.predict(resized, verbose=0)
    np.testing.assert_allclose(probabilities(predictor.predict(list(images))), expected, atol=1e-6)
    np.testing.assert_allclose(probabilities(predictor.predict(paths)), expected, atol=1e-6)
    np.testing.assert_allclose(
        probabilities(predictor.predict([str(paths[0]), images[1]])), expected[:2], atol=1e-6
    )


def test_a_prediction_says_the_label_and_abstains_below_the_confidence(
    predictor: Predictor,
) -> None:
    assert predictor.class_names == NAMES
    first = predictor.predict(pixels(1))[0]
    assert first.probability == max(first.probabilities.values())
    assert first.probabilities[first.label] == first.probability
    assert not first.abstained
    assert predictor.predict(pixels(1), min_confidence=1.0)[0].abstained
    assert predictor.predict([]) == []


def test_a_multi_label_prediction_names_every_class_above_one_half(tmp_path: Path) -> None:
    model = tl.build_classifier(class_names=NAMES, weights=None, image_size=32, multi_label=True)
    model.get_layer("logits").bias.assign([9.0, -9.0, 9.0])
    said = tl.load(tl.save(model, tmp_path / "m")).predict(pixels(1))[0]
    assert said.label == ("ant", "cow")


def test_what_was_chosen_on_validation_is_kept_and_answers(
    model: keras.Model, tmp_path: Path
) -> None:
    labels = np.arange(60) % 3
    report = Report.from_predictions(labels, model.predict(pixels(60, 32), verbose=0), NAMES)
    decision = Decision(
        temperature=report.fit_temperature(),
        thresholds=report.tune_thresholds("f1"),
        abstention=report.coverage_curve().threshold_for(0.0),
    )
    predictor = tl.load(tl.save(model, tmp_path / "m", decision=decision))
    assert predictor.decision == decision
    images = pixels(8, 32)
    expected = decision.decide(model.predict(images, verbose=0))
    said = predictor.predict(list(images))
    assert [NAMES.index(p.label) for p in said] == expected.labels.tolist()
    np.testing.assert_allclose(probabilities(said), expected.probabilities, atol=1e-6)
    assert [p.abstained for p in said] == expected.abstained.tolist()
    with pytest.raises(ValueError, match="a Decision with multi_label=False, as the model"):
        tl.save(model, tmp_path / "n", decision=Decision(multi_label=True))


def test_the_manifest_names_versions_and_hashes(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    assert manifest["versions"]["keras"] == keras.__version__
    assert set(manifest["sha256"]) == {"classifier.json", "decision.json", "model.weights.h5"}


def test_nothing_is_overwritten(model: keras.Model, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="holds files already"):
        tl.save(model, saved)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        tl.save(model, tmp_path / "file")


def test_class_names_are_a_guard(model: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`class_names` must be the model's"):
        tl.save(model, tmp_path / "m", class_names=("ant", "cow", "bee"))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["classifier.json", "decision.json", "model.weights.h5"])
def test_a_changed_file_is_refused(saved: Path, tmp_path: Path, name: str) -> None:
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match=f"{name} is not the file that was saved"):
        tl.load(tmp_path)


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"manifest\.json is missing"):
        tl.load(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="format must be 1, not 2"):
        tl.load(tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("a.jpg", "`images` must be a sequence of paths, arrays or other images"),
        (["nowhere.jpg"], r"nowhere\.jpg"),
        ([np.zeros((4, 4, 3), "float32")], "uint8"),
        ([np.full((4, 4, 3), np.nan)], "NaN"),
        ([np.zeros((4,), "uint8")], r"\(4,\)"),
        ([np.zeros((4, 4, 2), "uint8")], r"\(4, 4, 2\)"),
    ],
)
def test_bad_images_are_named(predictor: Predictor, images: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        predictor.predict(images)


def test_bad_confidence_is_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="`min_confidence` must be a finite number"):
        predictor.predict(pixels(1), min_confidence=2)
