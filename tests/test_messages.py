"""What a new user tries, and the words that come back: one sentence that names the argument."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.evaluation import Report

pytestmark = pytest.mark.usefixtures("eagerly", "shallow", "few_draws")

SIZE = 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, SIZE, SIZE, 3)).astype(np.uint8)
LABELS = np.arange(24) % 2


def build() -> Any:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(pixels)
    return keras.Model(pixels, keras.layers.Dense(2)(x))


def data(rare: int = 12) -> Any:
    labels = np.array([0] * 12 + [1] * rare)
    return tl.data.from_arrays(IMAGES[: len(labels)], labels, val=0.0)


def classifier(names: Any) -> Any:
    return tl.build_classifier(class_names=names, weights=None, image_size=32, trunk="stem")


def own(rare: int = 12) -> tuple[Any, Any]:
    return classifier(("0", "1")), data(rare)


REPORT = Report.from_predictions([0, 1] * 5, np.full((10, 2), 0.5))
STAGE = tl.Stage("a")
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "a number of classes": (lambda: classifier(3), "`class_names` must be a sequence of 2 or more"),
    "the data for their names": (lambda: classifier(data()), "`class_names` must be a sequence"),
    "names without an order": (lambda: classifier({"a", "b"}), "`class_names` must be a sequence"),
    "numbers for names": (lambda: classifier([1, 2]), "different, non-empty strings"),
    "a number of names": (
        lambda: tl.data.from_arrays(IMAGES, LABELS, class_names=2),
        "`class_names` must be a sequence of names",
    ),
    "one stage": (lambda: tl.Plan(STAGE), r"`stages` must be .* tl.Plan\(\(stage,\)\)"),
    "a name for stages": (lambda: tl.Plan("auto"), "`stages` must be .* Received: stages='auto'"),
    "a stage for a plan": (
        lambda: tl.fine_tune(build(), data(), STAGE),
        "`plan` must be a name, or a tl.Plan",
    ),
    "stages for a plan": (
        lambda: tl.fine_tune(build(), data(), [STAGE]),
        "`plan` must be a name, or a tl.Plan",
    ),
    "a rate in words": (
        lambda: tl.Stage("a", learning_rate="fast"),
        "`learning_rate` must be a finite number > 0 or 'auto'",
    ),
    "one callback": (
        lambda: tl.fine_tune(build(), data(), callbacks=keras.callbacks.TerminateOnNaN()),
        "`callbacks` must be a list of Keras callbacks",
    ),
    "loudness": (
        lambda: tl.fine_tune(build(), data(), verbose="yes"),
        "`verbose` must be one of 'auto', 0, 1, 2",
    ),
    "a number for a directory": (
        lambda: tl.fine_tune(build(), data(), run_dir=3),
        "`run_dir` must be a path or None",
    ),
    "a rate of dropout": (
        lambda: tl.build_classifier(class_names=("a", "b"), weights=None, spatial_dropout=0.2),
        "`spatial_dropout` must be a mapping from block name to rate",
    ),
    "a model to cross-validate": (
        lambda: tl.cross_validate(build(), data()),
        "`build` must be a function that makes a new model",
    ),
    "a model for a curve": (
        lambda: tl.tune.learning_curve(build(), data()),
        "`build` must be a function that makes a new model",
    ),
    "one cost": (lambda: REPORT.tune_thresholds("cost", costs=3), "`costs` must be two numbers"),
    "costs by name": (
        lambda: REPORT.tune_thresholds("cost", costs={"fp": 1, "fn": 2}),
        "`costs` must be two numbers",
    ),
    "costs in words": (
        lambda: REPORT.tune_thresholds("cost", costs="ab"),
        "`costs` must be two numbers",
    ),
    "too few to make up more": (
        lambda: tl.fine_tune(*own(1), "linear_probe", imbalance="adasyn"),
        r"`features` must be None, or a sampler of your own, where a class has one row",
    ),
    "a loss for several labels": (
        lambda: tl.fine_tune(build(), data(), imbalance="asymmetric"),
        "`loss` must be one for single labels.*Received: loss='asymmetric'",
    ),
    "labels from 1 on": (
        lambda: tl.data.from_arrays(IMAGES, np.arange(24) % 3 + 1),
        r"`labels` must be .*0 is not among them; pass labels - 1.* Received: labels='1\.\.3'",
    ),
    "no path": (lambda: tl.load(3), "`directory` must be the path of a saved classifier"),
    "no path to save to": (
        lambda: tl.save(classifier(("a", "b")), 3),
        "`directory` must be a path",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_call_is_told_in_words(name: str) -> None:
    call, message = CASES[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "conversion"),
    [
        (IMAGES / 255, lambda images: np.rint(images * 255).astype("uint8")),
        (IMAGES.astype(np.float32), lambda images: np.rint(images).astype("uint8")),
        (IMAGES.astype(int), lambda images: np.rint(images).astype("uint8")),
        (IMAGES / 127.5 - 1, lambda images: np.rint((images + 1) * 127.5).astype("uint8")),
    ],
)
def test_pixels_of_another_kind_are_told_how_they_become_bytes(
    images: Any, conversion: Callable[[Any], Any]
) -> None:
    with pytest.raises(TypeError, match="must be uint8 with values 0..255") as caught:
        tl.data.from_arrays(images, LABELS)
    advice = str(caught.value).split(" with ")[2].partition(";")[0]
    expected = {
        "np.rint(images * 255).astype('uint8')": images * 255,
        "np.rint(images).astype('uint8')": images,
        "np.rint((images + 1) * 127.5).astype('uint8')": (images + 1) * 127.5,
    }[advice]
    np.testing.assert_array_equal(np.rint(expected).astype("uint8"), IMAGES)
    np.testing.assert_array_equal(conversion(images), IMAGES)


def test_what_a_sampler_says_itself_is_passed_on() -> None:
    pytest.importorskip("imblearn")
    from tltoolkit.imbalance import resample

    apart = np.concatenate([RNG.normal(size=(30, 4)), 100 + RNG.normal(size=(12, 4))])
    with pytest.raises(ValueError, match="`sampler` must be another one .* Use SMOTE instead"):
        resample(apart, [0] * 30 + [1] * 12, "adasyn")


def test_a_file_is_no_classifier(tmp_path: Any) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ValueError, match=r"a\.jpg is a file, not a saved classifier's directory"):
        tl.load(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match="there is no such directory"):
        tl.load(tmp_path / "gone")


def test_a_model_that_has_learned_already_scores_no_fold() -> None:
    plan = tl.Plan((tl.Stage("a", epochs=1, learning_rate=1e-2),))
    options = {"plan": plan, "augment": "none", "verbose": 0}
    folds = tl.data.from_arrays(IMAGES, LABELS)
    model = build()
    with pytest.raises(ValueError, match="not one that has learned already"):
        tl.cross_validate(lambda: model, folds, 2, **options)

    layer = keras.layers.Dense(4, name="shared")

    def sharing() -> Any:
        pixels = keras.Input((SIZE, SIZE, 3))
        x = layer(keras.layers.GlobalAveragePooling2D()(pixels))
        return keras.Model(pixels, keras.layers.Dense(2)(x))

    whole = tl.Plan((tl.Stage("a", unfreeze="all", epochs=1, learning_rate=1e-2),))
    with pytest.raises(ValueError, match="not one that has learned already"):
        tl.cross_validate(sharing, folds, 2, **{**options, "plan": whole})
    # Weights that stay as they are may be shared, which saves memory.
    pixels = keras.Input((SIZE, SIZE, 3))
    base = keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels))

    def on_frozen() -> Any:
        x = keras.layers.GlobalAveragePooling2D()(base.output)
        return keras.Model(base.input, keras.layers.Dense(2)(x))

    assert len(tl.cross_validate(on_frozen, folds, 2, **options).reports) == 2
    with pytest.raises(ValueError, match="not one that has learned already"):
        tl.tune.learning_curve(lambda: model, folds, [8, 12, 16], 2, **options)
