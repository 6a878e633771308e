"""add_class and update: equal to solving on all images at once; what they refuse and drop."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.verified import sha256
from tltoolkit.evaluation import Abstention, Decision, Temperature, Thresholds
from tltoolkit.solving import heads, statistics
from tltoolkit.solving.rows import Rows
from tltoolkit.training import closed

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")
NAMES, SIZE, NEW = ("a", "b", "c"), 32, "d"
TEMPERATURE = Temperature(value=1.5, multi_label=False)


def images(count: int = 90, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Textures under noise."""
    labels = np.arange(count) % classes
    waves = np.sin(np.arange(SIZE)[None] * (1 + labels[:, None]))
    noise = np.random.default_rng(seed).normal(128, 40, (count, SIZE, SIZE, 3))
    return (noise + 40 * waves[:, :, None, None]).clip(0, 255).astype(np.uint8), labels


def of_class(label: int, count: int, seed: int) -> np.ndarray:
    pictures, labels = images(4 * count, 4, seed)
    return pictures[labels == label]


def data(several: bool = False, **options: Any) -> tl.data.ImageData:
    pictures, labels = images()
    rows: Any = labels
    if several:
        rows = np.eye(3, dtype=np.uint8)[labels]
        rows[::4] = 1
    return tl.data.from_arrays(
        pictures, rows, NAMES, val=0.3, multi_label=several or None, **options
    )


def build(**options: Any) -> keras.Model:
    given = {"weights": None, "image_size": SIZE, "trunk": "block1"}
    return tl.build_classifier("efficientnet_lite0", NAMES, **{**given, **options})


def predictor_of(model: keras.Model, several: bool = False) -> Predictor:
    return Predictor(model=model, class_names=NAMES, decision=Decision(multi_label=several))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model = build()
    tl.fine_tune(model, data(), "solve", verbose=0)
    return predictor_of(model)


def features(model: keras.Model, pixels: Any) -> np.ndarray:
    made = keras.Model(model.input, model.get_layer("head_features").output)
    return np.asarray(made.predict(np.stack(list(pixels)), verbose=0))


def pixels(split: tl.data.Split) -> list[np.ndarray]:
    return [split.image(i) for i in range(len(split))]


def on_all(old: Predictor, x: np.ndarray, targets: np.ndarray, several: bool) -> np.ndarray:
    """Logits (N, C) of all rows by the same heads, solved on them at once."""
    kept = old.model.tltoolkit_statistics
    network = tl.model.network.network_of(old.model)
    parts = closed.parts_of(network, x.shape[1])
    # By where they begin, as the statistics have no names.
    places = {(s.start, s.stop): name for name, s in parts.items()}
    names = [places[bounds] for bounds in kept.parts]
    candidates = {str(i): tuple(names[p] for p in one.parts) for i, one in enumerate(kept.heads)}
    chosen = [
        heads.Chosen(str(i), one.strength, one.kind, one.share) for i, one in enumerate(kept.heads)
    ]
    rows = Rows(x, targets, np.ones(len(x)), parts, several)
    kernel, bias = heads.average(rows, candidates, chosen)
    return x @ kernel + bias


def logits(predictor: Predictor, pixels: Any) -> np.ndarray:
    model = predictor.model
    made = keras.Model(model.input, model.get_layer("logits").output)
    return np.asarray(made.predict(np.stack(list(pixels)), verbose=0))


@pytest.mark.parametrize("several", [False, True])
def test_a_class_is_added_as_if_it_had_been_there(several: bool) -> None:
    model, both = build(multi_label=several), data(several)
    tl.fine_tune(model, both, "solve", verbose=0)
    old, more = predictor_of(model, several), list(of_class(3, 20, seed=1))
    before = model.get_weights()
    grown = tl.add_class(old, NEW, more, batch_size=7)
    known = [*pixels(both.train), *pixels(both.val)]
    targets = np.zeros((len(known) + 20, 4))
    labels = np.concatenate([both.train.labels, both.val.labels])
    targets[: len(known), :3] = labels if several else np.eye(3)[labels]
    targets[len(known) :, 3] = 1
    expected = on_all(old, features(model, [*known, *more]), targets, several)
    # Fewer rows than features are solved by products in float32 there.
    found = logits(grown, [*known, *more])
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    assert grown.class_names == (*NAMES, NEW)
    assert grown.model.tltoolkit_settings.class_names == (*NAMES, NEW)
    np.testing.assert_allclose(
        grown.model.tltoolkit_settings.train_prior, targets.mean(0), rtol=1e-9
    )
    fresh = grown.predict(list(of_class(3, 10, seed=2)))
    assert np.mean([NEW in one.label if several else one.label == NEW for one in fresh]) > 0.8
    assert np.median([one.familiarity for one in fresh]) > 0.05
    # The old one is as it was, and the layers below are shared.
    for weight, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, then)
    assert old.predict(more[:1])[0].probabilities.keys() == set(NAMES)


def test_an_update_is_as_if_the_images_had_been_there(predictor: Predictor) -> None:
    both = data()
    fresh = tl.data.from_arrays(*images(60, seed=5), NAMES, val=0.2)
    updated = tl.update(predictor, fresh)
    again = tl.update(predictor, fresh.train)
    known = [*pixels(both.train), *pixels(both.val), *pixels(fresh.train)]
    labels = np.concatenate([s.labels for s in (both.train, both.val, fresh.train)])
    expected = on_all(predictor, features(predictor.model, known), np.eye(3)[labels], False)
    found = logits(updated, known)
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(logits(again, known), found, rtol=1e-6)
    assert updated.class_names == NAMES
    assert updated.model.tltoolkit_statistics.weight == len(known)
    assert updated.model.tltoolkit_familiarity.distance.counts.sum() == len(both.train) + len(
        fresh.train
    )


def test_of_a_part_of_the_classes_one_may_have_more(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="one class per image"):
        tl.update(predictor, data(several=True))
    pictures, labels = images(20, 2, seed=6)
    some = tl.data.from_arrays(pictures, np.array(["c", "a"])[labels], val=0.0)
    updated = tl.update(predictor, some)
    gained = updated.model.tltoolkit_statistics.y - predictor.model.tltoolkit_statistics.y
    assert gained.tolist() == [10, 0, 10]
    other = tl.data.from_arrays(pictures, np.array(["c", "z"])[labels], val=0.0)
    with pytest.raises(ValueError, match=r"Received: class_names=\['z'\]"):
        tl.update(predictor, other)


def test_the_first_sums_give_the_head_that_the_run_has(predictor: Predictor) -> None:
    kernel, bias = predictor.model.tltoolkit_statistics.solve(
        predictor.model.get_layer("logits").kernel.shape[0], False
    )
    x = features(predictor.model, pixels(data().val))
    expected = logits(predictor, pixels(data().val))
    np.testing.assert_allclose(x @ kernel + bias, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("optimizer", ["lda", "ridge"])
def test_a_stage_in_closed_form_leaves_sums_of_the_training_images(optimizer: str) -> None:
    model, both = build(), data()
    stage = tl.Stage("head", optimizer=optimizer)
    tl.fine_tune(model, both, tl.Plan((stage,)), augment="none", verbose=0)
    kept = model.tltoolkit_statistics
    assert kept.weight == len(both.train)
    kernel, _ = kept.solve(model.get_layer("logits").kernel.shape[0], False)
    np.testing.assert_allclose(
        kernel, model.get_layer("logits").kernel, atol=2e-3 * np.abs(kernel).max()
    )
    grown = tl.add_class(predictor_of(model), NEW, of_class(3, 10, seed=1))
    assert grown.predict(of_class(3, 1, seed=2))[0].label == NEW


def test_files_arrays_and_other_images_are_learned_alike(
    predictor: Predictor, tmp_path: Path
) -> None:
    pictures = list(of_class(3, 6, seed=1))
    paths = []
    for i, picture in enumerate(pictures):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(picture).save(paths[-1])
    ways = (pictures, paths, [str(paths[0]), *paths[1:]])
    ways = (*ways, [Image.open(paths[0]), paths[1].read_bytes(), paths[2], *pictures[3:]])
    found = [logits(tl.add_class(predictor, NEW, way), pictures) for way in ways]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-5)


def labelled(pictures: np.ndarray) -> tl.data.Split:
    """Images of the new class."""
    count = len(pictures)
    source = tl.data.from_arrays(pictures, np.arange(count) % 2, val=0).train.source
    names = (*NAMES, NEW)
    return tl.data.Split(
        source=source, indices=np.arange(count), labels=np.full(count, 3), class_names=names
    )


def test_what_was_learned_is_kept_saved_and_told(predictor: Predictor, tmp_path: Path) -> None:
    more = of_class(3, 12, seed=1)
    grown = tl.add_class(predictor, NEW, more[:8])
    saved = tl.load(tl.save(grown.model, tmp_path / "grown"))
    assert saved.class_names == (*NAMES, NEW)
    fresh = of_class(3, 5, seed=2)
    np.testing.assert_allclose(logits(saved, fresh), logits(grown, fresh), atol=1e-5)
    assert [one.familiarity for one in saved.predict(fresh)] == pytest.approx(
        [one.familiarity for one in grown.predict(fresh)], abs=1e-4
    )
    # It goes on learning: the same images in two parts are the same images.
    both = tl.add_class(predictor, NEW, more)
    np.testing.assert_allclose(
        logits(tl.update(saved, labelled(more[8:])), fresh),
        logits(both, fresh),
        rtol=1e-4,
        atol=1e-4,
    )
    # What it has learned is not learned twice, and is known to have been seen.
    with pytest.warns(UserWarning, match="8 images are left out: learned from before"):
        tl.update(saved, labelled(more))
    with pytest.raises(ValueError, match="images that the classifier has not learned from"):
        tl.update(predictor, data().train)


def test_it_is_exported_like_any_other(predictor: Predictor, tmp_path: Path) -> None:
    grown = tl.add_class(predictor, NEW, of_class(3, 8, seed=1))
    tl.export(grown, tmp_path / "x.onnx")
    loaded, fresh = tl.load(tmp_path / "x.onnx"), list(of_class(3, 5, seed=2))
    assert loaded.class_names == (*NAMES, NEW)
    for one, other in zip(loaded.predict(fresh), grown.predict(fresh), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
        assert one.familiarity == pytest.approx(other.familiarity, abs=1e-3)
    with pytest.raises(ValueError, match="in memory or saved, not exported"):
        tl.add_class(loaded, "e", fresh)


def test_thresholds_are_left_out_and_the_temperature_stays(predictor: Predictor) -> None:
    decision = Decision(
        temperature=TEMPERATURE,
        thresholds=Thresholds(values=(0.2, 0.3, 0.4), metric="f1"),
        abstention=Abstention(threshold=0.5, coverage=0.9, accuracy=0.9),
    )
    before = Predictor(model=predictor.model, class_names=NAMES, decision=decision)
    with pytest.warns(UserWarning, match="chosen for the classes before, and are left out"):
        grown = tl.add_class(before, NEW, of_class(3, 4, seed=1))
    assert grown.decision == Decision(temperature=TEMPERATURE)
    fresh = tl.data.from_arrays(*images(30, seed=5), NAMES, val=0)
    assert tl.update(before, fresh).decision == decision


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("a", [np.zeros((9, 9, 3), np.uint8)], "`name` must be other than those of the classes"),
        ("", [np.zeros((9, 9, 3), np.uint8)], "`name` must be a sequence of"),
        (3, [np.zeros((9, 9, 3), np.uint8)], "`name` must be a text"),
        ("d", [], "`images` must be a sequence of one or more"),
        ("d", "a.png", "`images` must be a sequence of one or more"),
        ("d", np.zeros((9, 9, 3), np.uint8), "`images` must be a sequence of one or more"),
        ("d", ["gone.png"], "gone.png"),
        ("d", [np.zeros((9, 9, 3), np.uint8), b"no image"], r"images\[1\]"),
        ("d", [np.zeros((9, 9, 3), np.float32)], r"`images\[0\]` must be uint8"),
        ("d", [np.zeros((9, 9, 2), np.uint8)], r"`images\[0\]` must have the shape"),
        ("d", [3], r"`images\[0\]` must be a path, an array"),
    ],
)
def test_what_cannot_be_added_is_told(
    predictor: Predictor, name: Any, given: Any, message: str
) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        tl.add_class(predictor, name, given)


def test_without_sums_there_is_a_clear_error(tmp_path: Path, predictor: Predictor) -> None:
    probe = build()
    tl.fine_tune(probe, data(), "linear_probe", verbose=0)
    left_out = build()
    tl.fine_tune(left_out, data(), "solve", verbose=0, statistics=False)
    saved = tl.load(tl.save(predictor.model, tmp_path / "without", statistics=False))
    assert saved.engine.familiar
    for one in (predictor_of(probe), predictor_of(left_out), saved):
        for call in (lambda p: tl.add_class(p, NEW, ["never_looked_at.png"]),
                     lambda p: tl.update(p, data())):  # fmt: skip
            with pytest.raises(ValueError, match="keeps the sums its head was solved on"):
                call(one)
    with pytest.raises(TypeError, match="`predictor` must be a Predictor"):
        tl.add_class(predictor.model, NEW, ["never_looked_at.png"])
    with pytest.raises(TypeError, match="`data` must be a Split"):
        tl.update(predictor, ["never_looked_at.png"])


@pytest.mark.parametrize(
    ("plan", "options", "missing"),
    [
        ("linear_probe", {}, "a head in closed form"),
        ("fine_tune", {}, "a head in closed form"),
        ("solve", {"imbalance": "balanced"}, "imbalance='none'"),
        ("solve", {"imbalance": "logit"}, "imbalance='none'"),
    ],
)
def test_sums_are_not_asked_for_in_vain(plan: str, options: Any, missing: str) -> None:
    uneven = tl.data.from_arrays(*(part[5:] for part in images(60)), NAMES, val=0.3)
    train = uneven.train.subset(np.flatnonzero(np.arange(len(uneven.train)) % 4 > 0))
    uneven = tl.data.ImageData(train=train, val=uneven.val)
    with pytest.raises(ValueError, match=f"`statistics` must be None or False without {missing}"):
        tl.fine_tune(build(), uneven, plan, statistics=True, verbose=0, **options)


def test_large_sums_are_kept_on_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tltoolkit.training.known.KEPT", 100)
    model = build()
    tl.fine_tune(model, data(), "solve", verbose=0)
    assert model.tltoolkit_statistics is None
    model = build()
    tl.fine_tune(model, data(), "solve", verbose=0, statistics=True)
    kept = model.tltoolkit_statistics
    assert kept.triangle.nbytes > 100
    assert kept.triangle.nbytes == 4 * len(kept.x) * (len(kept.x) + 1)


def test_a_run_that_went_on_keeps_the_same_sums(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    stages = (tl.Stage("head", optimizer="lda"), tl.Stage("up", unfreeze="all", epochs=1,
              learning_rate=1e-9))  # fmt: skip

    def train(directory: Path | None, callbacks: Any = ()) -> keras.Model:
        model = build()
        tl.fine_tune(
            model, data(), tl.Plan(stages), augment="none", verbose=0, run_dir=directory,
            callbacks=callbacks, statistics=True,
        )  # fmt: skip
        return model

    class Kill(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            raise KilledError

    class Live(keras.callbacks.Callback):
        pass

    Kill.__name__ = Live.__name__ = "Either"
    whole = train(None, [Live()])
    with pytest.raises(KilledError):
        train(tmp_path / "run", [Kill()])
    resumed = train(tmp_path / "run", [Live()])
    kept, expected = resumed.tltoolkit_statistics, whole.tltoolkit_statistics
    assert kept.heads == expected.heads
    np.testing.assert_allclose(kept.triangle, expected.triangle, rtol=1e-6, atol=1e-6)
    finished = train(tmp_path / "run", [Live()])
    np.testing.assert_array_equal(finished.tltoolkit_statistics.triangle, kept.triangle)


def test_a_damaged_file_of_sums_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    target = tl.save(predictor.model, tmp_path / "saved")
    manifest = json.loads((target / "manifest.json").read_text())
    assert set(manifest["beside_sha256"]) == {"familiarity.h5", "statistics.h5"}
    for name, array in (("triangle", np.zeros(4)), ("y", np.zeros(9)), ("heads", np.zeros(1))):
        copy = Path(shutil.copytree(target, tmp_path / name))
        with h5py.File(copy / "statistics.h5", "a") as file:
            if name in file:
                del file[name]
            file.create_dataset(name, data=array)
        with pytest.raises(ValueError, match=r"statistics.h5 is not the file that was saved"):
            tl.load(copy)
        hashed = {**manifest["beside_sha256"], "statistics.h5": sha256(copy / "statistics.h5")}
        text = json.dumps({**manifest, "beside_sha256": hashed})
        (copy / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"statistics.h5 does not fit the classifier"):
            tl.load(copy)
    assert statistics.KEPT == 2**25
