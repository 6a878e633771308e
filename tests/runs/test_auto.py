"""plan="auto" and "solve": heads on all blocks against NumPy, what is kept, how it goes on."""

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.model.head import Head
from tltoolkit.plans import ready
from tltoolkit.plans.stages import Stage
from tltoolkit.runs import auto
from tltoolkit.runs.estimate import estimate
from tltoolkit.runs.terms import seconds_of
from tltoolkit.solving import heads
from tltoolkit.solving.rows import Rows
from tltoolkit.training import closed
from tltoolkit.training.caching import LOOKED, in_time

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")
NAMES, SIZE = ("a", "b", "c"), 32


def images(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three textures under noise."""
    labels = np.arange(count) % 3
    waves = np.sin(np.arange(SIZE)[None] * (1 + labels[:, None]))
    noise = np.random.default_rng(0).normal(128, 40, (count, SIZE, SIZE, 3))
    return (noise + 40 * waves[:, :, None, None]).clip(0, 255).astype(np.uint8), labels


def data(**options: Any) -> tl.data.ImageData:
    given = {"val": 0.3, "test": 0.0, "class_names": NAMES}
    return tl.data.from_arrays(*images(), **{**given, **options})


def build(**options: Any) -> keras.Model:
    given = {"weights": None, "image_size": SIZE, "trunk": "block1"}
    return tl.build_classifier("efficientnet_lite0", NAMES, **{**given, **options})


def said(model: keras.Model) -> np.ndarray:
    return np.asarray(model.predict(images()[0], verbose=0))


def few_epochs(monkeypatch: pytest.MonkeyPatch, rate: float = 1e-3) -> None:
    """Fine-tuning in any case, but short."""
    monkeypatch.setattr(ready, "NEAR", 2.0)
    monkeypatch.setattr(ready, "EPOCHS", 2)
    monkeypatch.setattr(ready, "LEAST", 1)
    monkeypatch.setattr(ready, "RATE", rate)


def test_the_head_is_the_one_that_numpy_finds_on_all_images() -> None:
    both, model = data(), build()
    run = tl.fine_tune(model, both, "solve", verbose=0)
    assert run.model is model
    features = keras.Model(model.input, model.get_layer("head_features").output)
    parts = closed.parts_of(tl.model.network.network_of(model), features.output.shape[-1])
    assert list(parts)[:3] == ["stem mean", "stem std", "stem max"]
    splits = (both.train, both.val)
    pixels = np.concatenate([[s.image(i) for i in range(len(s))] for s in splits])
    targets = np.eye(3)[np.concatenate([s.labels for s in splits])]
    x = features.predict(pixels, verbose=0)
    candidates = closed.candidates_of(parts)
    choice = heads.choose(x, targets, parts, candidates, kinds=["lda"])
    rows = Rows(x, targets, np.ones(len(x)), parts, multi_label=False)
    kernel, bias = heads.average(rows, candidates, choice.chosen)
    logits = x @ kernel + bias
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), expected, atol=1e-4)
    assert [row.name for row in run.candidates] == [
        f"{row.candidate}, lda pull {row.kind:g}" for row in choice.table
    ]
    assert "macro F1" in run.why


def test_it_is_saved_and_read_as_it_is(tmp_path: Path) -> None:
    model = build()
    run = tl.fine_tune(model, data(), "solve", run_dir=tmp_path / "run", verbose=0)
    assert run.model is model
    np.testing.assert_allclose(said(tl.load(tmp_path / "run").model), said(model), atol=1e-6)
    again = build()
    back = tl.fine_tune(again, data(), "solve", run_dir=tmp_path / "run", verbose=0)
    assert back.model is again
    np.testing.assert_array_equal(said(again), said(model))
    assert back.candidates == run.candidates
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["candidates"]) == len(run.candidates)
    assert str(run.candidates).splitlines()[0].split() == [
        "log",
        "loss",
        "accuracy",
        "weight",
        "on",
    ]


def test_only_the_usual_head_is_put_on_all_blocks() -> None:
    assert auto.widened(build()).tltoolkit_settings.head.taps == "all"
    for head in (
        Head(dropout=0.5),
        Head(pooling="max"),
        Head(hidden=(4,)),
        Head(l2=0.1),
        Head(taps=("block1",)),
    ):
        model = build(head=head)
        assert auto.widened(model) is model


def test_a_model_of_ones_own_keeps_its_graph() -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, keras.layers.Dense(3, name="scores")(x))
    layers = list(model.layers)
    run = tl.fine_tune(model, data(), "solve", verbose=0)
    assert run.model is model
    assert model.layers == layers
    assert len(run.candidates) == 1


def test_tuning_that_spoils_the_network_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    solved = build()
    tl.fine_tune(solved, data(), "solve", verbose=0)
    few_epochs(monkeypatch, rate=1.0)
    model = build()
    run = tl.fine_tune(model, data(), "auto", "none", verbose=0)
    assert [result.stage.name for result in run.stages] == ["solve", "fine_tune"]
    assert "the solved head was kept" in run.why
    np.testing.assert_allclose(said(model), said(solved), atol=1e-6)
    assert [one.weight for one in run.candidates if one.on == "validation"] == [1.0, 0.0, 0.0]
    assert run.best_epoch == 0


def test_as_far_is_gone_as_validation_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the middle all is right, at the end half; at the start it is a matter of chance."""
    targets = np.eye(2)[np.arange(40) % 2]
    rng = np.random.default_rng(0)
    at = {
        0.0: rng.normal(size=(40, 2)),
        0.5: 4 * targets,
        1.0: 4 * targets * (rng.random((40, 1)) < 0.5),
    }
    place: list[float] = []

    class Job:
        multi_label = False

    class Task:
        job = Job

    def best(count: int) -> float:
        monkeypatch.setattr(auto.solving, "on_training", lambda task, choice: (0, 0))
        monkeypatch.setattr(
            auto.solving, "validated", lambda *_: (at[place[-1]][:count], targets[:count])
        )
        way, heat, compared = auto._best_way(Task, None, place.append)  # type: ignore[arg-type]
        assert sum(one.weight for one in compared) == 1
        assert heat == 1 or way
        return way

    assert best(40) == 0.5
    # Where all places say the same, nothing is changed.
    at[0.5] = at[1.0] = at[0.0]
    assert best(40) == 0.0
    assert best(1) == 0.0


def test_blocks_are_tuned_under_a_head_on_the_means_of_the_last_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few_epochs(monkeypatch)
    seen: list[np.ndarray] = []

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            seen.append(self.model.get_layer("logits").kernel.numpy())

        on_train_end = on_train_begin

    model = build()
    tl.fine_tune(model, data(), "auto", "none", callbacks=[Look()], verbose=0)
    assert len(seen) == 2
    np.testing.assert_array_equal(*seen)
    parts = closed.parts_of(tl.model.network.network_of(model), len(seen[0]))
    read = {name for name, columns in parts.items() if np.any(seen[0][columns])}
    *_, last = parts
    assert read == {f"{last.partition(' ')[0]} mean"}


def test_weights_between_two_places_are_where_they_should_be() -> None:
    model = build()
    before = auto.values(model)
    after = [v + 1 if v.dtype == np.float32 else v for v in before]
    auto._between(model, before, after)(0.5)
    for now, then in zip(auto.values(model), before, strict=True):
        expected = then + np.float32(0.5) if then.dtype == np.float32 else then
        np.testing.assert_allclose(now, expected, rtol=1e-5)


class Broken(keras.callbacks.Callback):
    """Ends the run at the end of its first epoch, if asked."""

    def __init__(self, breaks: bool) -> None:
        super().__init__()
        self.breaks = breaks

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.breaks:
            raise InterruptedError


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_epochs(monkeypatch)

    def train(model: keras.Model, run_dir: Path | None, breaks: bool) -> Any:
        return tl.fine_tune(
            model, data(), "auto", "none", callbacks=[Broken(breaks)], run_dir=run_dir, verbose=0
        )

    whole, model = build(), build()
    expected = train(whole, None, breaks=False)
    before, layers = said(model), list(model.layers)
    with pytest.raises(InterruptedError):
        train(model, tmp_path / "run", breaks=True)
    np.testing.assert_array_equal(said(model), before)
    assert model.layers == layers
    run = train(model, tmp_path / "run", breaks=False)
    np.testing.assert_array_equal(said(model), said(whole))
    assert (run.why, run.candidates) == (expected.why, expected.candidates)
    assert run.history == expected.history


def test_without_validation_nothing_is_tuned() -> None:
    run = tl.fine_tune(build(), data(val=0.0), "auto", verbose=0)
    assert [result.stage.name for result in run.stages] == ["solve"]
    assert "nobody could say whether tuning helps" in run.why


@pytest.mark.parametrize(
    ("given", "tuned", "why"),
    [
        ({}, 8, "fine-tuned for 8 epochs"),
        ({"epochs": 30}, 12, "fine-tuned for 12 epochs"),
        ({"epochs": 2}, 0, "the budget leaves no time"),
        ({"images_per_class": 5.0}, 0, "5 training images per class are too few"),
        ({"held_out": 0.99}, 0, "nothing to gain"),
        ({"held_out": float("nan")}, 8, "fine-tuned"),
        ({"validated": False}, 0, "without validation images"),
        ({"tunes": False}, 0, "on those held out in turn)"),
    ],
)
def test_what_follows_a_solved_head(given: dict[str, Any], tuned: int, why: str) -> None:
    usual = {
        "tunes": True, "images_per_class": 50.0, "held_out": 0.8, "validated": True, "epochs": None,
    }  # fmt: skip
    stages, said_ = ready.after_solved(**{**usual, **given})
    assert sum(stage.epochs for stage in stages) == tuned
    assert why in said_


def test_a_budget_is_a_time() -> None:
    for budget, seconds in (("90s", 90), ("5m", 300), ("1.5h", 5400), ("20", 20), (12, 12)):
        assert seconds_of(budget, "auto") == seconds
    assert seconds_of(None, "linear_probe") is None
    for wrong in ("soon", "-5m", "0s", 0, -1, True, float("inf"), float("nan"), [3]):
        with pytest.raises(ValueError, match="`budget` must be a number of seconds > 0"):
            tl.fine_tune(build(), data(), budget=wrong)
    with pytest.raises(ValueError, match="`budget` must be left out with other plans than 'auto'"):
        tl.fine_tune(build(), data(), "linear_probe", budget="5m")


def test_epochs_are_those_that_fit() -> None:
    # A first pass of 10 s: two more for the places on the way, the others for epochs of 30 s.
    assert auto.epochs_within(130, 10) == 3
    assert auto.epochs_within(5, 10) == 0
    assert auto.epochs_within(None, 10) is None


def test_a_forecast_goes_by_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "FEW", 0)
    for budget, names in (("1h", ["solve", "fine_tune"]), (1e-3, ["solve"])):
        found = estimate(build(), data(), "auto", "none", budget=budget)
        assert [one.stage.name for one in found.stages] == names
    assert (
        estimate(build(), data(), "auto", "none", budget=3600).plan.stages[1].epochs == ready.MOST
    )
    with pytest.raises(ValueError, match="`budget` must be left out with other plans than 'auto'"):
        estimate(build(), data(), "solve", "none", budget="1h")


def test_a_budget_that_one_pass_exceeds_ends_it_before_work_is_lost() -> None:
    model = build()
    before, layers = said(model), list(model.layers)
    with pytest.raises(ValueError, match=r"`budget` must be at least \d+ s here, which one pass"):
        tl.fine_tune(model, data(), batch_size=6, budget=0.001, verbose=0)
    assert list(model.layers) == layers
    np.testing.assert_array_equal(said(model), before)


def test_a_forecast_is_made_of_a_few_batches_and_only_where_there_is_a_budget() -> None:
    def slowly() -> Any:
        for step in range(20):
            time.sleep(0.02)
            yield step

    assert list(in_time(slowly(), 20, None)) == list(range(20))
    assert list(in_time(slowly(), 20, 5.0)) == list(range(20))
    batches, seen = in_time(slowly(), 20, 0.1), []
    with pytest.raises(ValueError, match="budget"):
        seen.extend(batches)
    assert len(seen) <= 1 + LOOKED


def test_several_labels_and_weights_of_classes() -> None:
    pixels, labels = images()
    several = np.stack([labels != 1, labels == 2, labels == 0], 1).astype(np.uint8)
    both = tl.data.from_arrays(
        pixels, several, val=0.3, test=0.0, class_names=NAMES, multi_label=True
    )
    for imbalance in ("none", "balanced"):
        model = build(multi_label=True)
        tl.fine_tune(model, both, "solve", imbalance=imbalance, verbose=0)
        right = (said(model) > 0.5) == several
        assert right.mean() > 0.95


def test_one_logit_for_two_classes() -> None:
    pixels, labels = images()
    two = tl.data.from_arrays(pixels, labels // 2, val=0.3, test=0.0, class_names=("a", "b"))
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(6, (9, 1), activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    tl.fine_tune(model, two, "solve", verbose=0)
    predicted = (said(model)[:, 0] > 0.5).astype(int)
    assert (predicted == labels // 2).mean() > 0.6


def test_a_class_of_one_image_has_no_say_and_is_learned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    pixels, labels = images(40)
    labels = np.where(np.arange(40) == 7, 3, labels)
    both = tl.data.from_arrays(pixels, labels, val=0.0, test=0.0)
    model = tl.build_classifier(
        "efficientnet_lite0", both.class_names, weights=None, image_size=SIZE, trunk="block1"
    )
    tl.fine_tune(model, both, "solve", verbose=2)
    assert (
        "No say in the choice, since all their images are of one group: 3"
        in capsys.readouterr().out
    )
    assert model.predict(pixels, verbose=0)[7].argmax() == 3


def test_features_that_are_not_finite_end_it() -> None:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(pixels))
    x = keras.layers.Lambda(lambda v: v / (keras.ops.sum(v, 1, keepdims=True) * 0))(x)
    model = keras.Model(pixels, keras.layers.Dense(3)(x))
    with pytest.raises(FloatingPointError, match="values that are not finite"):
        tl.fine_tune(model, data(), "solve", verbose=0, from_logits=True)


def test_classes_that_weigh_the_same_have_the_same_prior() -> None:
    """Few images of one class: balanced weights say it more often."""
    labels = images()[1]
    pixels = np.random.default_rng(0).integers(0, 256, (60, SIZE, SIZE, 3)).astype(np.uint8)
    kept = np.flatnonzero((labels != 2) | (np.arange(60) < 15))
    rare = tl.data.from_arrays(pixels[kept], labels[kept], val=0.0, test=0.0, class_names=NAMES)
    mean = {}
    for imbalance in ("none", "balanced"):
        model = build(trunk="block3")  # with features of one block both are near chance
        tl.fine_tune(model, rare, "solve", imbalance=imbalance, verbose=0)
        mean[imbalance] = said(model)[:, 2].mean()
    # Nothing tells the classes apart here, so that what is said is little but their shares.
    assert mean["none"] < 0.2 < mean["balanced"]


@pytest.mark.parametrize("optimizer", ["lda", "ridge"])
def test_a_stage_of_ones_own_solves_on_training_images_alone(optimizer: str) -> None:
    both, model = data(), build()
    plan = tl.Plan((Stage("head", optimizer=optimizer, epochs=1, augment="none"),))
    run = tl.fine_tune(model, both, plan, verbose=0)
    assert model.tltoolkit_settings.head.taps is None
    assert len(run.history["val_f1_macro"]) == 1
    assert run.stages[0].changed == run.stages[0].trained


@pytest.mark.parametrize("optimizer", ["lda", "ridge"])
def test_a_closed_form_knows_no_penalty_of_the_head(optimizer: str) -> None:
    plan = tl.Plan((Stage("head", optimizer=optimizer, epochs=1),))
    with pytest.raises(ValueError, match=r"`optimizer` must be 'lbfgs' in stage 'head'.*l2=0.1"):
        tl.fine_tune(build(head=Head(l2=0.1)), data(), plan, verbose=0)


def test_exposures_of_one_thing_do_not_judge_one_another() -> None:
    rng = np.random.default_rng(1)
    scenes = np.kron(rng.integers(30, 200, (30, 4, 4, 3)), np.ones((1, 8, 8, 1)))
    exposed = np.concatenate([scenes + light for light in (0, 10, 20)]).astype(np.uint8)
    # Nothing to learn: who sees another exposure of a scene knows its label, and who does not
    # can only guess.
    labels = np.tile(rng.permutation(np.arange(30) % 3), 3)
    both = tl.data.from_arrays(exposed, labels, val=0.0, class_names=NAMES)
    run = tl.fine_tune(build(), both, "solve", verbose=0)
    assert max(candidate.accuracy for candidate in run.candidates) < 0.6
