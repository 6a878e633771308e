"""What a classifier knows of strangers: found by a run, kept, asked for, refused where absent."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import tltoolkit as tl
from tltoolkit.artifacts import answers, beside
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.seeing import BadImage
from tltoolkit.artifacts.verified import sha256
from tltoolkit.training import known

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")
NAMES, SIZE = ("a", "b", "c"), 32


def images(count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three textures under noise."""
    labels = np.arange(count) % 3
    waves = np.sin(np.arange(SIZE)[None] * (1 + labels[:, None]))
    noise = np.random.default_rng(seed).normal(128, 40, (count, SIZE, SIZE, 3))
    return (noise + 40 * waves[:, :, None, None]).clip(0, 255).astype(np.uint8), labels


def strangers(count: int = 20) -> list[np.ndarray]:
    """Coarse patches, without any noise."""
    small = np.random.default_rng(5).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)
    return list(small.repeat(8, axis=1).repeat(8, axis=2))


def data(val: float = 0.3, **options: Any) -> tl.data.ImageData:
    return tl.data.from_arrays(*images(), class_names=NAMES, val=val, **options)


def build(**options: Any) -> keras.Model:
    given = {"weights": None, "image_size": SIZE, "trunk": "block1"}
    return tl.build_classifier("efficientnet_lite0", NAMES, **{**given, **options})


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("known") / "run"
    tl.fine_tune(build(), data(), "solve", run_dir=target, verbose=0)
    return target


@pytest.fixture(scope="module")
def predictor(run_dir: Path) -> Predictor:
    return tl.load(run_dir)


def pixels(split: tl.data.Split) -> list[np.ndarray]:
    return [split.image(i) for i in range(len(split))]


def familiarity(said: Any) -> np.ndarray:
    return np.array([one.familiarity for one in said])


def test_the_familiarity_is_that_of_the_features_that_the_head_reads(
    predictor: Predictor,
) -> None:
    model, both = predictor.model, data()
    features = keras.Model(model.input, model.get_layer("head_features").output)
    train, val, far = (
        features.predict(np.stack(x), verbose=0)
        for x in (pixels(both.train), pixels(both.val), strangers())
    )
    parts = known.closed.parts_of(tl.model.network.network_of(model), train.shape[1])
    distance = known.Distance.of(train, both.train.labels, parts, 3)
    ranks = known.Ranks.of(distance(val))
    said = familiarity(predictor.predict(strangers()))
    np.testing.assert_allclose(said, ranks(distance(far)), atol=1e-4)
    fresh = list(images(60, seed=3)[0])
    near = familiarity(predictor.predict(fresh))
    # An independent look at both: what is strange is found, what is known is known.
    assert roc_auc_score(np.repeat([1, 0], [60, 20]), np.r_[near, said]) > 0.95
    assert np.median(near) > 0.2


def test_predictions_below_it_abstain(predictor: Predictor, tmp_path: Path) -> None:
    some = [*strangers(3), *images(6, seed=3)[0]]
    plain = predictor.predict(some)
    assert not any(one.abstained for one in plain)
    # Between two: batches of another size round otherwise.
    limit = float(np.sort(familiarity(plain))[4:6].mean())
    strict = predictor.predict(some, min_familiarity=limit, batch_size=2)
    assert [one.abstained for one in strict] == [one.familiarity < limit for one in plain]
    assert [one.label for one in strict] == [one.label for one in plain]
    assert not any(one.abstained for one in predictor.predict(some, min_familiarity=0))
    assert all(one.abstained for one in predictor.predict(some, min_familiarity=1))
    # With a bad one among them, and of several versions, where the plain one counts.
    streamed = list(predictor.stream(["gone.png", *some], min_familiarity=limit, batch_size=3))
    assert isinstance(streamed[0], BadImage)
    assert [one.abstained for one in streamed[1:]] == [one.abstained for one in strict]
    pipeline = tl.augment.preset("light", SIZE)
    averaged = predictor.predict(some, pipeline=pipeline, views=2)
    np.testing.assert_allclose(familiarity(averaged), familiarity(plain), atol=1e-5)


def test_it_does_not_change_what_else_is_said(predictor: Predictor) -> None:
    some = list(images(9, seed=4)[0])
    bare = keras.Model(predictor.model.input, predictor.model.output)
    bare.tltoolkit_settings = predictor.model.tltoolkit_settings
    expected = Predictor(model=bare, class_names=NAMES).predict(some)
    for one, other in zip(predictor.predict(some), expected, strict=True):
        assert other.familiarity is None
        np.testing.assert_allclose(
            list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-6
        )
    assert "familiarity" not in answers.plain("x", expected[0])
    assert answers.plain("x", predictor.predict(some[:1])[0])["familiarity"] > 0


def test_it_is_saved_loaded_and_comes_back_with_a_finished_run(
    run_dir: Path, predictor: Predictor, tmp_path: Path
) -> None:
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert set(manifest["beside_sha256"]) == {"familiarity.h5", "statistics.h5"}
    # An earlier version compares these, and would read the rest.
    assert set(manifest["sha256"]) == {"classifier.json", "decision.json", "model.weights.h5"}
    some = strangers(4)
    expected = familiarity(predictor.predict(some))
    again = tl.load(tl.save(predictor.model, tmp_path / "saved"))
    np.testing.assert_array_equal(familiarity(again.predict(some)), expected)
    run = tl.fine_tune(build(), data(), "solve", run_dir=run_dir, verbose=0)
    back = Predictor(model=run.model, class_names=NAMES)
    np.testing.assert_allclose(familiarity(back.predict(some)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "asked", "known_after"),
    [
        ("linear_probe", None, True),
        ("linear_probe", False, False),
        ("solve", False, False),
        (tl.Plan((tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-4),)), None, False),
        (tl.Plan((tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-4),)), True, True),
    ],
)
def test_which_runs_find_it_out(plan: Any, asked: bool | None, known_after: bool) -> None:
    model = build()
    tl.fine_tune(model, data(), plan, verbose=0, familiarity=asked)
    predictor = Predictor(model=model, class_names=NAMES)
    assert predictor.engine.familiar == known_after
    if not known_after:
        with pytest.raises(ValueError, match="`min_familiarity` must be None for a classifier"):
            predictor.predict(strangers(1), min_familiarity=0.01)
        return
    near = familiarity(predictor.predict(list(images(30, seed=3)[0])))
    far = familiarity(predictor.predict(strangers()))
    assert np.median(near) > np.median(far)


def test_a_second_run_forgets_what_the_first_one_knew() -> None:
    model = build()
    tl.fine_tune(model, data(), "linear_probe", verbose=0)
    assert model.tltoolkit_familiarity is not None
    stage = tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-4)
    tl.fine_tune(model, data(), tl.Plan((stage,)), verbose=0)
    assert model.tltoolkit_familiarity is None


def test_solved_heads_take_no_further_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    compute = known.Job.__init__.__globals__["features"].compute
    monkeypatch.setattr(
        "tltoolkit.training.features.compute",
        lambda *args, **kwargs: passes.append(1) or compute(*args, **kwargs),
    )
    for plan in ("solve", "linear_probe"):
        passes.clear()
        model = build()
        tl.fine_tune(model, data(), plan, verbose=0)
        assert model.tltoolkit_familiarity is not None
        assert len(passes) == 2  # the training images and the validation images


def test_several_labels_have_one_centre() -> None:
    pictures, labels = images()
    rows = np.eye(3, dtype=np.uint8)[labels]
    rows[::4] = 1
    both = tl.data.from_arrays(pictures, rows, NAMES, val=0.3, multi_label=True)
    model = build(multi_label=True)
    tl.fine_tune(model, both, "solve", verbose=0)
    assert model.tltoolkit_familiarity.distance.means.shape[0] == 1
    decision = tl.evaluation.Decision(multi_label=True)
    predictor = Predictor(model=model, class_names=NAMES, decision=decision)
    near = familiarity(predictor.predict(list(images(30, seed=3)[0])))
    assert np.median(near) > np.median(familiarity(predictor.predict(strangers())))


def own() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(pixels))
    return keras.Model(pixels, keras.layers.Dense(3)(x))


def test_it_cannot_be_asked_of_what_has_too_little() -> None:
    for val, make, missing in (
        (0.0, build, "10 validation images or more"),
        (0.05, build, "10 validation images or more"),
        (0.3, own, "a model of tl.build_classifier"),
        (0.3, lambda: build(spatial_dropout={"block1": 0.2}), "a head that reads one row"),
    ):
        stage = tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-4)
        with pytest.raises(ValueError, match=f"be None or False without {missing}"):
            tl.fine_tune(make(), data(val), tl.Plan((stage,)), familiarity=True, verbose=0)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "0.1", True])
def test_a_share_out_of_range_is_refused(predictor: Predictor, value: Any) -> None:
    with pytest.raises(ValueError, match="`min_familiarity` must be a finite number"):
        predictor.predict(["never_looked_at.png"], min_familiarity=value)


def copied(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "copy"))


def sealed(target: Path) -> None:
    """Let the manifest have the hash of what the file is now."""
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["beside_sha256"]["familiarity.h5"] = sha256(target / "familiarity.h5")
    (target / "manifest.json").write_text(json.dumps(manifest))


def test_a_changed_or_missing_file_is_refused(run_dir: Path, tmp_path: Path) -> None:
    target = copied(run_dir, tmp_path)
    with (target / "familiarity.h5").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="familiarity.h5 is not the file that was saved"):
        tl.load(target)
    (target / "familiarity.h5").unlink()
    with pytest.raises(FileNotFoundError, match="familiarity.h5"):
        tl.load(target)
    manifest = json.loads((target / "manifest.json").read_text())
    del manifest["beside_sha256"]
    (target / "manifest.json").write_text(json.dumps(manifest))
    assert not tl.load(target).engine.familiar


@pytest.mark.parametrize("entry", [["familiarity.h5"], {"../secret": "0"}, {"familiarity.h5": 3}])
def test_a_manifest_of_another_form_is_refused(run_dir: Path, tmp_path: Path, entry: Any) -> None:
    target = copied(run_dir, tmp_path)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["beside_sha256"] = entry
    (target / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="beside_sha256 must have|hash differs"):
        tl.load(target)


def test_what_does_not_fit_the_classifier_is_refused(run_dir: Path, tmp_path: Path) -> None:
    target = copied(run_dir, tmp_path)
    path = target / "familiarity.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n nothing else")
    sealed(target)
    with pytest.raises(ValueError, match="familiarity.h5 does not fit the classifier beside it"):
        tl.load(target)
    for name, array, message in (
        ("mean", np.zeros(3), "mean must have the shape"),
        ("axes", np.full((1, 1), np.nan), "axes must have the shape"),
        ("more", np.zeros(3), "it must hold"),
    ):
        shutil.copy(run_dir / "familiarity.h5", path)
        with h5py.File(path, "a") as file:
            if name in file:
                del file[name]
            file.create_dataset(name, data=array)
        sealed(target)
        with pytest.raises(ValueError, match=f"does not fit the classifier beside it: {message}"):
            tl.load(target)
    # A shape that would take all memory, of which nothing is stored.
    shutil.copy(run_dir / "familiarity.h5", path)
    with h5py.File(path, "a") as file:
        del file["axes"]
        file.create_dataset("axes", shape=(2**40, 128), dtype="f4")
    sealed(target)
    with pytest.raises(ValueError, match="says that it holds"):
        tl.load(target)


def test_what_is_known_is_not_noted_where_training_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    tl.fine_tune(model, data(), "linear_probe", verbose=0)
    before = model.tltoolkit_familiarity
    monkeypatch.setattr("tltoolkit.runs.fine_tune.noting.options", lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tl.fine_tune(model, data(), "linear_probe", verbose=0, familiarity=False)
    assert model.tltoolkit_familiarity is before
    assert beside.NOTES["familiarity.h5"] == "tltoolkit_familiarity"
