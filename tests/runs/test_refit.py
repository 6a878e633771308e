import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

import tltoolkit as tl
from tltoolkit.data.stratify import deal
from tltoolkit.runs import refitting
from tltoolkit.runs.candidates import Candidate, Candidates
from tltoolkit.runs.record import Run
from tltoolkit.training.limits import StopAfter, UntilLoss

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 32
PLAN = tl.Plan(
    (
        tl.Stage("probe", optimizer="lbfgs", epochs=1, augment="none"),
        tl.Stage("head", epochs=3, learning_rate=1e-2, warmup=1, augment="none"),
        tl.Stage("more", epochs=4, learning_rate=1e-2, early_stopping=2, augment="none"),
    )
)


def data(val: float = 0.4, test: float = 0.2) -> tl.data.ImageData:
    """Splits with as many images as the shares say, since steps are counted here."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    noise = rng.integers(0, 150, (60, SIZE, SIZE, 3)) + 12 * labels[:, None, None, None]
    whole = tl.data.from_arrays(noise.astype(np.uint8), labels, val=0.0).train
    parts = deal(labels, (1 - val - test, val, test), 0)
    splits = {name: whole.subset(parts == n) for n, name in enumerate(("train", "val", "test"))}
    return tl.data.ImageData(**{name: split for name, split in splits.items() if len(split)})


def build(seed: int = 3) -> keras.Model:
    """A small network of the user's own."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    kernel = keras.initializers.GlorotUniform(seed)
    x = keras.layers.Conv2D(8, 3, 2, activation="relu", kernel_initializer=kernel)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    kernel = keras.initializers.GlorotUniform(seed + 1)
    return keras.Model(inputs, keras.layers.Dense(2, kernel_initializer=kernel, name="logits")(x))


def weights(model: keras.Model) -> list[np.ndarray]:
    return [v.numpy() for v in model.weights]


@pytest.fixture(scope="module")
def run() -> Run:
    return tl.fine_tune(build(), data(), PLAN, "none", batch_size=8, seed=4, verbose=0)


@pytest.fixture(scope="module")
def again(run: Run) -> tuple[Run, list[np.ndarray]]:
    """The refitted run, and the first one's weights before."""
    before = weights(run.model)
    # As if the best epoch had been the third of the last stage.
    return tl.refit(replace(run, best_epoch=6), data(), build=build), before


def test_the_steps_are_those_until_the_best_epoch(again: tuple) -> None:
    done, _ = again
    # 24 images make 3 steps of 8; with the 24 of validation an epoch has 6.
    assert done.settings["images"] == {"train": 48, "test": 12}
    assert len(done.stages) == 3
    steps = [3 * epochs for epochs in (3, 3)]
    per_epoch = done.settings["steps_per_epoch"]
    assert per_epoch == -(-48 // 8)
    assert [stage.epochs for stage in done.stages[1:]] == [-(-s // per_epoch) for s in steps]
    assert "for 18 steps, as many as the first run took" in done.why


def test_it_is_the_same_as_training_by_hand_on_both(again: tuple) -> None:
    done, _ = again
    whole = data()
    both = replace(whole, train=refitting.joined(whole), val=None)
    plan = tl.Plan(
        (
            PLAN.stages[0],
            replace(PLAN.stages[1], epochs=2, warmup=0.5),
            replace(PLAN.stages[2], epochs=2, early_stopping=None),
        )
    )
    keras.utils.set_random_seed(9)
    by_hand = tl.fine_tune(
        build(),
        both,
        plan,
        "none",
        batch_size=8,
        seed=4,
        verbose=0,
        callbacks=[StopAfter([9, 9])],
    )
    for hand, value in zip(weights(by_hand.model), weights(done.model), strict=True):
        np.testing.assert_array_equal(value, hand)


def test_the_first_run_stays_as_it_was_and_no_validation_figure_is_left(
    run: Run, again: tuple
) -> None:
    done, before = again
    assert done.model is not run.model
    for value, old in zip(weights(run.model), before, strict=True):
        np.testing.assert_array_equal(value, old)
    assert not [name for name in done.history if name.startswith("val_")]
    assert "no validation figure is left, the honest one is that of the test split" in done.why


def test_without_a_test_split_the_first_runs_figure_is_named(run: Run) -> None:
    said = refitting._honest(run, data(test=0.0))
    best = run.history["val_f1_macro"][run.best_epoch]
    assert said.endswith(f"macro F1 of {best:.3f} is the best guess")


def test_a_classifier_of_ours_is_built_again(tmp_path: Path) -> None:
    def ours() -> keras.Model:
        return tl.build_classifier(
            class_names=("0", "1"), weights=None, image_size=SIZE, trunk="stem", seed=7
        )

    run = tl.fine_tune(ours(), data(), "linear_probe", "none", verbose=0)
    done = tl.refit(run, data(), run_dir=tmp_path / "all")
    whole = data()
    both = replace(whole, train=refitting.joined(whole), val=None)
    by_hand = tl.fine_tune(ours(), both, "linear_probe", "none", verbose=0)
    for hand, value in zip(weights(by_hand.model), weights(done.model), strict=True):
        np.testing.assert_array_equal(value, hand)
    record = json.loads((tmp_path / "all" / "run.json").read_text())
    assert record["settings"]["plan_chosen_because"] == done.why
    assert tl.load(tmp_path / "all").class_names == ("0", "1")
    assert tl.refit(run, data(), run_dir=tmp_path / "all").why == done.why


# Going on


def test_it_goes_on_until_the_former_validation_loss_is_down(run: Run) -> None:
    whole = data()
    gradient = replace(run, best_epoch=2)
    target = log_loss(whole.train.labels, said(run.model, whole.train))
    done = tl.refit(gradient, whole, how="continue", build=build, epochs=60, learning_rate=0.5)
    reached = log_loss(whole.val.labels, said(done.model, whole.val))
    epochs = done.stages[0].epochs
    assert f"towards a loss on those of {target:.4f}" in done.why
    assert f"({reached:.4f})" in done.why
    assert reached <= target
    assert f"for {epochs} of at most 60 epochs" in done.why
    assert done.stages[0].changed == ("logits/kernel", "logits/bias")


def test_the_cap_ends_what_never_gets_there(run: Run) -> None:
    gradient = replace(run, best_epoch=2)
    done = tl.refit(gradient, data(), how="continue", build=build, epochs=2, learning_rate=1e-9)
    assert done.stages[0].epochs == 2
    assert done.stages[0].learning_rate == 1e-9
    assert "which was not reached" in done.why
    for value, old in zip(weights(done.model), weights(run.model), strict=True):
        np.testing.assert_allclose(value, old, atol=1e-6)


def test_the_rate_to_go_on_with_is_a_tenth(run: Run) -> None:
    done = tl.refit(replace(run, best_epoch=2), data(), how="continue", build=build, epochs=1)
    assert done.stages[0].learning_rate == pytest.approx(1e-3)


def said(model: keras.Model, split: object) -> np.ndarray:
    pixels = np.stack([split.image(i) for i in range(len(split))])
    return softmax(model.predict(pixels, verbose=0).astype(float), axis=1)


# The parts


def test_a_rate_that_was_found_is_taken_and_epochs_get_longer() -> None:
    stage = tl.Stage("s", epochs=10, warmup=1.0, learning_rate="auto", early_stopping=3)
    record = type("Record", (), {"stage": stage, "learning_rate": 0.02})()
    shorter = refitting.stretched(record, 50 / 60)
    assert (shorter.epochs, shorter.learning_rate) == (9, 0.02)
    assert shorter.warmup == pytest.approx(50 / 60)
    assert shorter.early_stopping is None


def tiny() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_a_fit_ends_after_its_steps_also_within_an_epoch() -> None:
    counted = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: counted.append(1))
    model, stop = tiny(), StopAfter([7, 2])
    x = np.ones((12, 1))
    for expected in (7, 9):
        model.fit(x, x, batch_size=3, epochs=5, verbose=0, callbacks=[stop, count])
        assert len(counted) == expected


def test_the_count_of_steps_survives_an_interruption() -> None:
    first, second = StopAfter([7, 3]), StopAfter([7, 3])
    for stop in (first, second):
        stop.set_model(tiny())
        stop.on_train_begin()
    for step in range(5):
        first.on_train_batch_end(step)
    second.set_state(first.get_state())
    second.on_train_batch_end(5)
    assert not second.model.stop_training
    second.on_train_batch_end(6)
    assert second.model.stop_training


def test_training_ends_at_a_loss() -> None:
    losses = iter([3.0, 2.0, 1.0, 0.0])
    until = UntilLoss(lambda: next(losses), 1.5)
    x = np.ones((3, 1))
    history = tiny().fit(x, x, epochs=9, verbose=0, callbacks=[until])
    assert len(history.epoch) == 3
    assert until.loss == 1.0


# Bad input


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, {"how": "again"}, "`how` must be one of 'repeat', 'continue'"),
        ({}, {"epochs": 0}, "`epochs` must be an integer >= 1"),
        ({}, {"data": data(val=0.0)}, "with a validation split"),
        ({}, {"data": data(val=0.3)}, "`data` must be that of the run"),
        (
            {"best_epoch": 0},
            {"how": "continue", "build": build},
            "'repeat' where the best epoch is a solved head",
        ),
        ({"options": {}}, {"build": build}, "`augment` must be given"),
        ({}, {"build": build, "imbalance": tl.Imbalance(adjust="retrain")}, "`imbalance` must be"),
        (
            {"candidates": Candidates([Candidate("last, lda pull 3", 0.3, 0.9, "held out", 1.0)])},
            {"build": build},
            "`run` must be of stated stages: plan='auto'",
        ),
        ({}, {"build": lambda: build(seed=1)}, "`build` must be given and make the model"),
        ({}, {}, "`build` must be given, since the model does not come from"),
    ],
)
def test_what_cannot_be_refitted_is_named(run: Run, change: dict, options: dict, said: str) -> None:
    given = {"data": data(), **options}
    with pytest.raises(ValueError, match=said):
        tl.refit(replace(run, **change), given.pop("data"), **given)
