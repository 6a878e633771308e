"""One preparation of images for training, validation, evaluation, prediction and files."""

import json
import shutil
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import tltoolkit as tl
from tltoolkit.artifacts.artifact import MANIFEST, SETTINGS
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.verified import sha256
from tltoolkit.augment import GlobalContrast, LocalContrast, Pipeline, Preparation, contrast
from tltoolkit.cli import main
from tltoolkit.model import outputs
from tltoolkit.model.classifier import note_preparation

pytestmark = pytest.mark.usefixtures("eagerly", "shallow", "few_draws")

SIZE = 16
SHAPES = {"landscape": (20, 37), "portrait": (41, 18), "square": (16, 16), "tiny": (1, 3)}
FITS = ("squash", "pad", "crop")
SEEN: list[bytes] = []


@keras.saving.register_keras_serializable("tests")
class Spy(keras.layers.Layer):
    """Passes images on and notes each of them in SEEN."""

    def call(self, inputs: Any) -> Any:
        def note(batch: np.ndarray) -> np.ndarray:
            SEEN.extend(image.astype(np.uint8).tobytes() for image in batch)
            return batch

        outputs = tf.numpy_function(note, [tf.cast(inputs, tf.float32)], tf.float32)
        outputs.set_shape(inputs.shape)
        return outputs


def users_own(*, spy: bool = False, classes: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = Spy()(pixels) if spy else pixels
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(pixels, keras.layers.Dense(classes, "softmax")(x))


def told(**options: Any) -> keras.Model:
    """A user's own model that knows what its images go through."""
    model = users_own()
    note_preparation(model, Preparation(**options))
    return model


def ours(**options: Any) -> keras.Model:
    small = {"weights": None, "image_size": 32, "trunk": "block1"}
    return tl.build_classifier(class_names=("0", "1"), **small, **options)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (height, width, 3)).astype(np.uint8)


def by_hand(image: np.ndarray, fit: str, normalise: bool, size: int = SIZE) -> np.ndarray:
    """A square made without the toolkit's own code for it, but for the scaling."""
    if normalise:
        image = np.rint(contrast.global_contrast(image)).clip(0, 255).astype(np.uint8)
    height, width = image.shape[:2]
    if fit == "pad":
        more = abs(height - width)
        before, after = more // 2, more - more // 2
        sides = (before, after, 0, 0) if height < width else (0, 0, before, after)
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    elif fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    return tl.augment.resize(np.ascontiguousarray(image), size)


def wide_and_tall(count: int = 24) -> Any:
    """Noise of which only the shape tells the class: 0 is wide, 1 is tall."""
    shapes = [(20, 40) if i % 2 == 0 else (40, 20) for i in range(count)]
    images = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]
    return tl.data.from_arrays(images, np.arange(count) % 2, val=0.25, test=0.25)


def plan(**options: Any) -> tl.Plan:
    given = {"unfreeze": "all", "epochs": 12, "learning_rate": 0.02, "cache_views": 0, **options}
    return tl.Plan((tl.Stage("all", **given),))


def pad(size: int) -> Pipeline:
    return Pipeline(None, size, fit="pad")


def test_labels_that_differ_by_shape_alone_are_right_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = wide_and_tall()
    run = tl.fine_tune(ours(), data, "linear_probe", pad(32), run_dir=tmp_path / "run", verbose=0)
    assert run.history["val_accuracy"][run.best_epoch] == 1.0
    assert tl.evaluate(run.model, data.train).accuracy == 1.0
    assert tl.evaluate(run.model, data.test).accuracy == 1.0
    predictor = tl.load(tmp_path / "run")
    images = [data.test.image(i) for i in range(len(data.test))]
    assert [p.label for p in predictor.predict(images)] == [str(y) for y in data.test.labels]
    for i, image in enumerate(images):
        folder = tmp_path / "photos" / str(data.test.labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / f"{i}.png", image, scale=False)
    words = [str(tmp_path / "run"), str(tmp_path / "photos")]
    assert main(["predict", *words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["label"] for row in rows] == [Path(row["image"]).parent.name for row in rows]


def test_the_command_line_trains_and_scores_with_one_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = wide_and_tall(30)
    for split in data.splits.values():
        for i in range(len(split)):
            folder = tmp_path / "photos" / str(split.labels[i])
            folder.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(folder / f"{split.indices[i]}.png", split.image(i), scale=False)
    small = ["--weights", "none", "--image-size", "32", "--trunk", "block1", "--augment", "none"]
    words = [str(tmp_path / "photos"), *small, "--plan", "linear_probe", "--test", "0.2"]
    run = str(tmp_path / "run")
    assert main(["fit", *words, "--fit", "pad", "--run-dir", run]) == 0
    assert tl.preparation_of(tl.load(run).model) == Preparation(fit="pad")
    capsys.readouterr()
    assert main(["evaluate", run, str(tmp_path / "photos"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scalars"]["accuracy"] == 1.0


@pytest.mark.parametrize(("fit", "normalise"), [("squash", True), ("pad", True), ("crop", False)])
def test_a_users_own_model_is_fed_the_same_pixels_everywhere(
    fit: str, normalise: bool, tmp_path: Path
) -> None:
    images = [noise(*shape, seed=i) for i in range(3) for shape in SHAPES.values()]
    expected = {by_hand(image, fit, normalise).tobytes() for image in images}
    assert len(expected) == len(images)
    data = tl.data.from_arrays(images, np.arange(12) % 2, val=0.5)
    pipeline = Pipeline([GlobalContrast()] if normalise else None, SIZE, fit=fit)
    model = users_own(spy=True)

    probes = {image.astype(np.uint8).tobytes() for image in outputs._images((SIZE, SIZE, 3))}
    assert not probes & expected

    def fed(what: Any) -> set[bytes]:
        """The images that the model is fed, but for those that tell what its outputs mean."""
        SEEN.clear()
        what()
        return set(SEEN) - probes

    # Training and validation together show every image, and each in one form.
    once = plan(epochs=1)
    run_dir = tmp_path / "run"
    assert fed(lambda: tl.fine_tune(model, data, once, pipeline, run_dir=run_dir)) == expected
    # A preset of a stage of its own makes random versions, and leaves validation as it is.
    val = {by_hand(data.val.image(i), fit, normalise).tobytes() for i in range(len(data.val))}
    light = plan(epochs=1, augment="light")
    assert val < fed(lambda: tl.fine_tune(model, data, light))
    # None of these is told again.
    loaded = tl.foreign.load(run_dir / "model.keras", ["0", "1"])
    for predictor in (Predictor(model=model, class_names=("0", "1")), loaded):
        assert fed(lambda p=predictor: p.predict(images)) == expected
        assert fed(lambda p=predictor: list(p.stream(iter(images)))) == expected
    for split in (data.train, data.val):
        each = {by_hand(split.image(i), fit, normalise).tobytes() for i in range(len(split))}
        for asked in (model, loaded.model):
            assert fed(lambda m=asked, s=split: tl.evaluate(m, s)) == each
            report = tl.evaluate(asked, split)
            assert {report.image(i).tobytes() for i in range(len(split))} == each
    # A fresh model takes them from the pipeline of one view.
    fresh = users_own(spy=True)
    assert fed(lambda: tl.evaluate(fresh, data.val, pipeline=pipeline)) == val
    assert (
        fed(
            lambda: Predictor(model=fresh, class_names=("0", "1")).predict(
                images, pipeline=pipeline
            )
        )
        == expected
    )
    # A finished run that is asked for again lets a fresh model know.
    tl.fine_tune(fresh, data, once, pipeline, run_dir=run_dir, verbose=0)
    assert fed(lambda: tl.evaluate(fresh, data.val)) == val


@pytest.mark.parametrize("fit", FITS)
def test_our_classifier_answers_alike_from_everywhere(fit: str, tmp_path: Path) -> None:
    model = ours(fit=fit, normalise="global_contrast")
    images = [noise(*shape) for shape in SHAPES.values()]
    squares = [by_hand(image, fit, True, 32) for image in images]
    expected = np.stack([model.predict_on_batch(square[None])[0] for square in squares])
    data = tl.data.from_arrays(images, [0, 1, 0, 1], val=0)
    loaded = tl.load(tl.save(model, tmp_path / "m"))
    for asked in (Predictor(model=model, class_names=("0", "1")), loaded):
        report = tl.evaluate(asked.model, data.train, 1)
        np.testing.assert_array_equal(report.probabilities, expected)
        for said in (asked.predict(images, batch_size=1), asked.stream(images, batch_size=1)):
            found = [list(one.probabilities.values()) for one in said]
            np.testing.assert_array_equal(np.float32(found), expected)


def test_presets_of_stages_come_after_the_classifiers_fit() -> None:
    white = np.full((20, 60, 3), 255, np.uint8)
    own = Preparation(fit="pad")
    for name in ("light", "medium", "strong", "trivial"):
        preset = tl.augment.preset(name, SIZE)
        assert preset.random
        assert preset.preparation == Preparation()
        assert (preset(white, 0, 0) > 200).all() or name in ("strong", "medium", "trivial")
        bars = [(preset.prepared(own)(white, 0, i) < 20).mean() for i in range(20)]
        assert np.mean(bars) > 0.25
    none = tl.augment.preset("none", SIZE).prepared(own)
    np.testing.assert_array_equal(none(white), tl.augment.resize(white, SIZE, "pad"))


def test_saying_two_things_is_an_error_before_any_work(tmp_path: Path) -> None:
    data = wide_and_tall()
    rule = r"`{}` must be a pipeline with fit='pad', as the classifier.*augment='crop'"
    crop = Pipeline(None, SIZE, fit="crop")
    model = told(fit="pad")
    with pytest.raises(ValueError, match=rule.format("augment")):
        tl.fine_tune(model, data, augment=crop, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    predictor = Predictor(model=model, class_names=("0", "1"))
    for call in (
        lambda: tl.evaluate(model, data.test, pipeline=crop),
        lambda: predictor.stream([], pipeline=crop),
        lambda: tl.check.data(data, model, pipeline=crop),
    ):
        with pytest.raises(ValueError, match="`pipeline` must be a pipeline with fit='pad'"):
            call()
    with pytest.raises(ValueError, match=r"with normalise=\(\), as the classifier"):
        tl.fine_tune(told(normalise=()), data, augment=[LocalContrast()])
    # The parts may be said by different ones.
    both = tl.fine_tune(model, data, plan(epochs=1), [GlobalContrast()], verbose=0)
    said = Preparation(fit="pad", normalise="global_contrast")
    assert tl.preparation_of(both.model) == said


def test_a_random_pipeline_with_one_view_is_refused_and_a_fixed_one_with_two() -> None:
    split, model = wide_and_tall().test, users_own()
    with pytest.raises(ValueError, match="`views` must be above 1 with a random pipeline"):
        tl.evaluate(model, split, pipeline=tl.augment.preset("light", SIZE))
    with pytest.raises(ValueError, match="`views` must be above 1 with a random pipeline"):
        tl.evaluate(model, split, pipeline=pad(SIZE), views=2)
    with pytest.raises(TypeError, match="`pipeline` must be an augment.Pipeline"):
        tl.evaluate(model, split, pipeline="light")


def test_views_begin_with_what_evaluation_shows() -> None:
    pipeline = Pipeline([GlobalContrast(), A.HorizontalFlip(p=0.5)], SIZE, fit="pad")
    image = noise(20, 33)
    first = tl.augment.views(image, pipeline, 3)[0]
    np.testing.assert_array_equal(first, by_hand(image, "pad", True))
    assert pipeline.random
    figure = tl.augment.preview(wide_and_tall().train, pipeline, n=1, versions=1, indices=[0])
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown, by_hand(wide_and_tall().train.image(0), "pad", True))
    own = Preparation(fit="crop")
    flips = tl.augment.preset("light", SIZE)
    figure = tl.augment.preview(wide_and_tall().train, flips, indices=[0], preparation=own)
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_array_equal(shown, by_hand(wide_and_tall().train.image(0), "crop", False))


def test_checks_and_measurements_see_what_the_model_sees() -> None:
    data = wide_and_tall(48)
    model = users_own()
    found = tl.check.data(data, model, pipeline=pad(SIZE), batch_size=4, samples=12)
    each = {by_hand(data.train.image(i), "pad", False).tobytes() for i in range(len(data.train))}
    shown = np.rint(found.batch * 255).astype(np.uint8)
    assert {image.tobytes() for image in shown} <= each
    assert found.pixels.low == 0  # the bars
    assert tl.check.data(data, told(fit="pad"), samples=12).pixels.low == 0
    assert tl.check.data(data, model, samples=12).pixels.low > 0
    curve = tl.tune.learning_curve(lambda: told(fit="pad"), data, [4, 8, 12], 2)
    assert curve.points[-1].score == 1.0


def test_a_search_tries_ways_to_make_squares() -> None:
    space = {"optimizer": "lbfgs", "fit": ["squash", "pad"], "image_size": 32, "trunk": "block1"}
    found = tl.tune.search(wide_and_tall(60), space, sampler="grid", weights=None, verbose=False)
    scores = dict(zip(found.trials["fit"], found.trials["score"], strict=True))
    assert scores["pad"] == 1.0 > scores["squash"]
    model = tl.build_classifier(**found.build_options)
    assert tl.preparation_of(model) == Preparation(fit="pad")


def test_cross_validation_scores_with_the_fit_of_the_model() -> None:
    result = tl.cross_validate(
        users_own, wide_and_tall(), 2, plan="linear_probe", augment=pad(SIZE), verbose=0
    )
    assert result.mean("accuracy") == 1.0


def test_refit_and_another_training_keep_it() -> None:
    data = wide_and_tall()
    run = tl.fine_tune(users_own(), data, "linear_probe", pad(SIZE), verbose=0)
    again = tl.refit(run, data, build=users_own)
    assert tl.preparation_of(again.model) == Preparation(fit="pad")
    assert tl.evaluate(again.model, data.test).accuracy == 1.0
    more = tl.fine_tune(run.model, data, plan(epochs=1, learning_rate=1e-6), verbose=0)
    assert more.history["val_accuracy"] == [1.0]


@pytest.mark.parametrize(
    ("transform", "alike"),
    [
        (GlobalContrast(), True),
        (GlobalContrast(p=0.5), False),
        (A.ToGray(p=1), True),
        (A.PadIfNeeded(64, 64), True),
        (A.CenterCrop(900, 900), True),
        (A.AutoContrast(p=1), True),
        (A.RandomBrightnessContrast((0.2, 0.2), (0.1, 0.1), p=1), True),
        (A.RandomBrightnessContrast(p=1), False),
        (A.CLAHE(p=1), False),
        (A.RandomRotate90(p=1), False),
        (A.HorizontalFlip(p=1), True),
        (A.OneOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], p=1), False),
        (A.RandomCrop(8, 8, p=1), False),
        (lambda image: image[:, ::-1], True),
        (lambda image: image, False),  # never seen to change anything
        (lambda image, rng: image[:, ::-1], False),
    ],
)
def test_what_is_the_same_for_every_image_is_found(transform: Any, alike: bool) -> None:
    pipeline = Pipeline(transform, SIZE)
    assert (pipeline.preparation.normalise is not None) == alike
    assert pipeline.random != alike


def test_a_random_function_without_rng_stays_in_training() -> None:
    def seldom(image: np.ndarray) -> np.ndarray:
        return image[:, ::-1] if np.random.random() < 0.5 else image  # noqa: NPY002

    assert Pipeline(seldom, SIZE).preparation == Preparation()
    with pytest.raises(ValueError, match="`normalise` must be made of transforms that draw"):
        Preparation(normalise=seldom)


def test_what_cannot_be_written_works_in_memory_and_is_refused_before_work(tmp_path: Path) -> None:
    data = wide_and_tall()

    def mirrored(image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(image[:, ::-1])

    with pytest.raises(ValueError, match="`augment` must be such that .* can be written"):
        tl.fine_tune(users_own(), data, augment=mirrored, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = tl.fine_tune(users_own(), data, plan(epochs=1), mirrored, verbose=0)
    image = data.test.image(0)
    said = Predictor(model=run.model, class_names=("0", "1")).predict([image])[0]
    expected = run.model.predict_on_batch(tl.augment.resize(mirrored(image), SIZE)[None])[0]
    assert list(said.probabilities.values()) == expected.tolist()
    with pytest.raises(ValueError, match="can be written into a file"):
        tl.save(ours(normalise=mirrored), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_surgery_keeps_it() -> None:
    made = tl.surgery.insert(told(fit="pad"), {"block1": keras.layers.Dropout(0.1)})
    assert tl.preparation_of(made) == Preparation(fit="pad")


def test_random_transforms_are_no_preparation() -> None:
    with pytest.raises(ValueError, match="`normalise` must be made of transforms that draw"):
        Preparation(normalise=[A.ColorJitter(p=1)])
    with pytest.raises(ValueError, match="`normalise` must be made of transforms that draw"):
        Preparation(normalise=GlobalContrast(p=0.9))
    with pytest.raises(ValueError, match="`normalise` must be one of 'global_contrast'"):
        Preparation(normalise="contrast")
    with pytest.raises(ValueError, match="`fit` must be one of 'squash', 'crop', 'pad'"):
        Preparation(fit="stretch")
    with pytest.raises(TypeError, match="`normalise` must be made of transforms"):
        Preparation(normalise=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tl.save(ours(), tmp_path_factory.mktemp("saved") / "m")


def test_an_artifact_from_before_squashes(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "m")
    _change(folder, lambda settings: settings.pop("preparation"))
    predictor = tl.load(folder)
    assert tl.preparation_of(predictor.model) == Preparation()
    image = noise(20, 60)
    expected = predictor.model.predict_on_batch(tl.augment.resize(image, 32)[None])[0]
    assert list(predictor.predict([image])[0].probabilities.values()) == expected.tolist()


@pytest.mark.parametrize(
    "value",
    [
        {"fit": "stretch"},
        {"fit": "pad", "more": 1},
        {"normalise": "global_contrast"},
        {"normalise": [{"Lambda": {"image": "os.system"}}]},
        {"normalise": [{"Resize": {"height": 100_000, "width": 100_000}}]},
        {"normalise": [{"GlobalContrast": {"p": 0.5}}]},
        {"normalise": [{"GlobalContrast": {"scale": float("nan")}}]},
        {"normalise": [{"GlobalContrast": {"size": 3}}]},
        {"normalise": [3]},
        [],
    ],
)
def test_a_strange_preparation_in_a_file_is_refused(
    value: Any, saved: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(saved, tmp_path / "m")
    _change(folder, lambda settings: settings.update(preparation=value))
    with pytest.raises(ValueError, match=r"classifier\.json"):
        tl.load(folder)


def _change(folder: Path, edit: Any) -> None:
    path = folder / SETTINGS
    settings = json.loads(path.read_text())
    edit(settings)
    path.write_text(json.dumps(settings))
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["sha256"][SETTINGS] = sha256(path)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_foreign_file_may_be_told_and_not_told_otherwise(tmp_path: Path) -> None:
    users_own().save(tmp_path / "theirs.keras")
    predictor = tl.foreign.load(tmp_path / "theirs.keras", ["0", "1"], fit="pad")
    assert tl.preparation_of(predictor.model) == Preparation(fit="pad")
    image = noise(20, 60)
    expected = predictor.model.predict_on_batch(by_hand(image, "pad", False)[None])[0]
    assert list(predictor.predict([image])[0].probabilities.values()) == expected.tolist()
    tl.fine_tune(
        users_own(), wide_and_tall(), plan(epochs=1), pad(SIZE), run_dir=tmp_path / "r", verbose=0
    )
    kept = tmp_path / "r" / "model.keras"
    assert keras.saving.load_model(kept).count_params() == predictor.model.count_params()
    with pytest.raises(ValueError, match="must be left out or fit='pad', what it was trained with"):
        tl.foreign.load(kept, ["0", "1"], fit="crop")


def test_a_pipeline_keeps_what_comes_first_through_yaml() -> None:
    own = Preparation(fit="pad", normalise=["global_contrast", A.ToGray(p=1)])
    made = tl.augment.preset("light", SIZE, seed=3).prepared(own)
    again = Pipeline.from_yaml(made.to_yaml())
    assert again.preparation == own
    image = noise(20, 33)
    np.testing.assert_array_equal(again(image, 2, 5), made(image, 2, 5))
    preset = Pipeline.from_yaml(tl.augment.preset("trivial", SIZE).to_yaml())
    assert preset.preparation == Preparation()
    assert Pipeline.from_yaml(Pipeline(None, SIZE).to_yaml()).preparation == Preparation()


def test_a_long_strip_is_padded_within_little_memory() -> None:
    strip = np.full((1, 60_000, 3), 255, np.uint8)
    padded = tl.augment.resize(strip, 32, "pad")
    assert padded.shape == (32, 32, 3)
    assert np.flatnonzero(padded.max((1, 2))).tolist() in ([15], [16], [15, 16])
