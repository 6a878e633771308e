"""Ready-made plans and stage settings, run on a small network of one's own."""

import dataclasses

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.data.stratify import deal
from tltoolkit.plans import ready
from tltoolkit.runs.record import Run
from tltoolkit.training import probe

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 16


def network(dropout: float = 0.0) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    for i in range(1, 4):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", name=f"conv_{i}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, seed=0, name="drop")(x)
    return keras.Model(pixels, keras.layers.Dense(3, name="scores")(x))


def data(count: int = 60, val: float = 1 / 3) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    noise = rng.integers(0, 140, (count, SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]
    whole = tl.data.from_arrays(noise.astype(np.uint8), labels, val=0.0).train
    held = deal(labels, (1 - val, val), 0) == 1  # as many as the share says: steps are counted
    return tl.data.ImageData(train=whole.subset(~held), val=whole.subset(held))


def run(plan: object, model: keras.Model | None = None, **options: object) -> Run:
    return tl.fine_tune(model or network(), data(), plan, "none", verbose=0, **options)


def variables(model: keras.Model, layer: str) -> list[np.ndarray]:
    return [v.numpy() for v in model.get_layer(layer).variables]


@pytest.mark.parametrize("name", tl.plans.PLANS)
def test_every_plan_runs_and_learns(name: str) -> None:
    plan = tl.plans.PLANS[name]()
    short = tl.Plan(
        tuple(
            stage
            if stage.optimizer == "lbfgs"
            else dataclasses.replace(stage, epochs=1, warmup=min(stage.warmup, 1.0))
            for stage in plan
        )
    )
    trained = run(short)
    assert len(trained.stages) == len(plan)
    best = trained.history["val_f1_macro"][trained.best_epoch]
    assert best == max(trained.history["val_f1_macro"])
    assert tl.evaluate(trained.model, data().val).f1_macro == pytest.approx(best, abs=1e-6)


def test_the_probe_puts_the_optimum_into_the_head() -> None:
    model = network(dropout=0.5)
    result = run("linear_probe", model)
    below = keras.Model(model.input, model.get_layer("average").output)
    splits = data()
    x, val_x = (
        below.predict(np.stack([s.image(i) for i in range(len(s))]), verbose=0)
        for s in (splits.train, splits.val)
    )
    one_hot = np.eye(3)
    found = probe.solve(x, one_hot[splits.train.labels], (val_x, one_hot[splits.val.labels]), False)
    np.testing.assert_allclose(model.get_layer("scores").kernel, found.kernel, rtol=0.05, atol=0.05)
    assert result.stages[0].changed == ("scores/kernel", "scores/bias")
    assert result.history["val_loss"][0] < np.log(3)


def test_the_probe_needs_a_head_of_one_dense_layer() -> None:
    x = pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="conv")(x))
    x = keras.layers.Dense(3, name="scores")(keras.layers.Dense(4, name="hidden")(x))
    with pytest.raises(ValueError, match="one whose head is one dense layer"):
        run("linear_probe", keras.Model(pixels, x))
    with pytest.raises(ValueError, match="`unfreeze` must be 'head' with optimizer='lbfgs'"):
        tl.Stage("a", optimizer="lbfgs", unfreeze=1)


def test_frozen_batch_norm_changes_neither_averages_nor_scale() -> None:
    model = network()
    before = variables(model, "norm_3")
    run(tl.Plan((tl.Stage("a", unfreeze="all", epochs=1),)), model)
    for old, new in zip(before, variables(model, "norm_3"), strict=True):
        np.testing.assert_array_equal(old, new)


def test_trained_batch_norm_changes_all_four() -> None:
    model = network()
    before = variables(model, "norm_3")
    plan = tl.Plan((tl.Stage("a", unfreeze="all", epochs=1, batch_norm="train"),))
    result = run(plan, model)
    assert {p for p in result.stages[0].changed if p.startswith("norm_3")} == {
        f"norm_3/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    assert len(before) == 4


def test_recalibrated_batch_norm_has_the_statistics_of_the_training_images() -> None:
    model, splits = network(), data()
    stage = tl.Stage("a", unfreeze=1, epochs=2, learning_rate=1e-4, batch_norm="recalibrate")
    result = run(tl.Plan((stage,)), model, batch_size=60)
    assert {p for p in result.stages[0].changed if p.startswith("norm")} == {
        "norm_3/moving_mean", "norm_3/moving_variance",
    }  # fmt: skip
    assert result.stages[0].epochs == 3
    last = tl.fine_tune(network(), splits, tl.Plan((stage,)), "none", batch_size=60, verbose=0)
    assert last.history == result.history
    if result.best_epoch == 2:
        below = keras.Model(model.input, model.get_layer("conv_3").output)
        train = splits.train
        maps = below.predict(np.stack([train.image(i) for i in range(len(train))]), verbose=0)
        np.testing.assert_allclose(
            model.get_layer("norm_3").moving_mean, maps.mean((0, 1, 2)), rtol=1e-3, atol=1e-4
        )
    else:
        pytest.fail("choose other settings: the recalibrated epoch must be the best here")


def test_layer_decay_slows_the_lower_blocks() -> None:
    moved = []
    for decay in (1.0, 0.1):
        model = network()
        before = {i: model.get_layer(f"conv_{i}").kernel.numpy() for i in (1, 2, 3)}
        stage = tl.Stage(
            "a", unfreeze="all", epochs=1, learning_rate=1e-3, layer_decay=decay,
            schedule="constant", weight_decay=0.0, optimizer="adam",
        )  # fmt: skip
        run(tl.Plan((stage,)), model, batch_size=60)
        moved.append(
            [np.abs(model.get_layer(f"conv_{i}").kernel - before[i]).max() for i in (1, 2, 3)]
        )
    # Adam's first step is the learning rate itself, whatever the gradient.
    np.testing.assert_allclose(moved[0], [1e-3, 1e-3, 1e-3], rtol=0.05)
    np.testing.assert_allclose(moved[1], [1e-6, 1e-5, 1e-4], rtol=0.05)


def test_float16_activations_lead_to_nearly_the_same_head() -> None:
    stage = tl.Stage("head", epochs=2, learning_rate=1e-2)
    full, half = (
        run(tl.Plan((stage,)), cache_dtype=dtype).model.get_layer("scores").kernel
        for dtype in ("float32", "float16")
    )
    np.testing.assert_allclose(full, half, atol=5e-3)


def test_activations_beyond_the_memory_give_the_same_weights(tmp_path: object) -> None:
    stage = tl.Stage("top", unfreeze=1, epochs=2, learning_rate=1e-3)
    small = 4 * 4 * 8 * 4 * 32 * 1.2 / 2**30  # a little more than one batch
    spilled = run(tl.Plan((stage,)), cache_gb=small, run_dir=None)
    kept = run(tl.Plan((stage,)))
    for a, b in zip(spilled.model.get_weights(), kept.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_best_epoch_of_all_stages_wins() -> None:
    spoil = tl.Stage("spoil", unfreeze="all", epochs=1, learning_rate=3.0, clip_norm=None)
    result = run(tl.Plan((*tl.plans.linear_probe(), spoil)))
    assert result.best_epoch == 0
    assert tl.evaluate(result.model, data().val).f1_macro == pytest.approx(
        result.history["val_f1_macro"][0], abs=1e-6
    )


def test_auto_begins_with_a_solved_head_and_says_why_it_went_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ready, "EPOCHS", 1)
    monkeypatch.setattr(ready, "LEAST", 1)
    result = run("auto")
    assert [stage.stage.name for stage in result.stages] == ["solve", "fine_tune"]
    assert "the head was solved on training and validation images together" in result.why
    assert result.plan == tl.Plan(tuple(stage.stage for stage in result.stages))
    assert result.to_dict()["settings"]["plan_chosen_because"] == result.why


@pytest.mark.parametrize(
    ("images_per_class", "f1", "epochs", "why"),
    [
        (3, 0.9, [], "only the head was trained, because 3 training images per class are too few"),
        (500, 0.99, [4], "gently, because pretrained features alone had a macro F1 of 0.990"),
        (500, 0.85, [8], "the upper blocks were fine-tuned, because pretrained features alone"),
        (500, 0.5, [16], "all layers were fine-tuned for long"),
        (500, None, [8], "as 500 training images per class allow"),
    ],
)
def test_auto_goes_by_images_per_class_and_by_the_probe(
    images_per_class: float, f1: float | None, epochs: list[int], why: str
) -> None:
    stages, sentence = tl.plans.after_head(images_per_class, f1)
    assert [stage.epochs for stage in stages] == epochs
    assert why in sentence


def test_auto_trains_a_deep_head_by_gradient_first() -> None:
    assert tl.plans.first(linear_head=False).stages[0].optimizer == "adamw"
