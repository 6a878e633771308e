from pathlib import Path

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.runs.cross_validation import CrossValidation

SIZE = 16
pytestmark = pytest.mark.usefixtures("eagerly")


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(pixels, keras.layers.Dense(2, name="scores")(x))


def images(count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).integers(0, 170, (count, SIZE, SIZE, 3))
    return (noise + 50 * labels[:, None, None, None]).astype(np.uint8), labels


@pytest.fixture(scope="module")
def outcome() -> CrossValidation:
    data = tl.data.from_arrays(*images(), val=0.2)
    return tl.cross_validate(build, data, 3, plan="linear_probe", augment="none", verbose=0)


def test_every_image_is_scored_once_by_a_model_that_did_not_see_it(
    outcome: CrossValidation,
) -> None:
    names = [name for report in outcome.reports for name in report.names]
    assert sorted(names) == sorted(f"images[{i}]" for i in range(30))
    assert len(outcome.pooled.labels) == 30


def test_mean_and_deviation_are_those_of_the_folds(outcome: CrossValidation) -> None:
    scores = [report.f1_macro for report in outcome.reports]
    assert outcome.mean("f1_macro") == pytest.approx(np.mean(scores))
    assert outcome.deviation("f1_macro") == pytest.approx(np.std(scores, ddof=1))
    assert outcome.mean("f1_macro") > 0.9
    assert "3 folds" in str(outcome)
    assert "f1_macro" in str(outcome)


def test_copies_are_never_on_both_sides() -> None:
    pixels, labels = images()
    pixels[2::4] = pixels[0::4][: len(pixels[2::4])]  # pairs of equal images of class 0
    data = tl.data.from_arrays(pixels, labels, val=0.0)
    for fold in data.kfold(3):
        train = {fold.train.image(i).tobytes() for i in range(len(fold.train))}
        assert not train & {fold.val.image(i).tobytes() for i in range(len(fold.val))}


def test_each_fold_has_a_run_directory(tmp_path: Path) -> None:
    data = tl.data.from_arrays(*images(), val=0.0)
    tl.cross_validate(
        build, data, 2, plan="linear_probe", augment="none", verbose=0, run_dir=tmp_path / "cv"
    )
    assert sorted(p.name for p in (tmp_path / "cv").iterdir()) == ["fold_1", "fold_2"]
    assert (tmp_path / "cv" / "fold_2" / "run.json").exists()


def test_bad_arguments_are_refused() -> None:
    data = tl.data.from_arrays(*images(), val=0.0)
    with pytest.raises(ValueError, match="`build` must be a function that makes a new model"):
        tl.cross_validate("resnet50", data)
    with pytest.raises(TypeError, match="`data` must be an ImageData"):
        tl.cross_validate(build, images())
    with pytest.raises(ValueError, match="`n_splits` must be"):
        tl.cross_validate(build, data, 16)


def test_a_doubt_about_the_order_of_classes_is_told_where_the_user_calls(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("9", "10"):
        (tmp_path / name).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 8, 3))
            keras.utils.save_img(tmp_path / name / f"{i}.png", pixels, scale=False)
    data = tl.data.from_directory(tmp_path, val=0)

    def own() -> keras.Model:
        images = keras.Input((8, 8, 3))
        scores = keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(images))
        return keras.Model(images, scores)

    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=1, augment="none"),))
    calls = (
        lambda: tl.evaluate(own(), data.train),
        lambda: tl.cross_validate(own, data, 2, plan=plan, verbose=0),
    )
    for call in calls:
        with pytest.warns(UserWarning, match="numbered in the order 9, 10") as told:
            call()
        assert {one.filename for one in told if "numbered" in str(one.message)} == {__file__}
