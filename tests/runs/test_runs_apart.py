"""One run does not change the next: models, run directories, augmentation, stored activations."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit import imbalance
from tltoolkit.training import features
from tltoolkit.training.caching import Examples, Features, Wanted
from tltoolkit.training.features import Storage

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 12
LABELS = np.random.default_rng(1).permutation(np.repeat([0, 1], [30, 12]))
HEAD = tl.Stage("head", epochs=2, learning_rate=1e-2)
STILL = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-12, weight_decay=0.0),))
PLAN = tl.Plan((HEAD, tl.Stage("upper", unfreeze=1, epochs=1, batch_norm="train")))


def images() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 150, (len(LABELS), SIZE, SIZE, 3))
    return (noise + 60 * LABELS[:, None, None, None]).astype(np.uint8)


def data(**options: Any) -> tl.data.ImageData:
    return tl.data.from_arrays(images(), LABELS, **{"val": 0.3, **options})


def body(pixels: Any, seed: int) -> Any:
    for i in range(2):
        init = keras.initializers.GlorotUniform(seed + i)
        pixels = keras.layers.Conv2D(3, 3, strides=2, kernel_initializer=init)(pixels)
        pixels = keras.layers.BatchNormalization()(pixels)
    return keras.layers.GlobalAveragePooling2D()(pixels)


def build(seed: int = 0, nested: bool = False) -> keras.Model:
    keras.backend.clear_session()  # the same names in every build
    pixels = keras.Input((SIZE, SIZE, 3))
    if nested:
        inside = keras.Input((SIZE, SIZE, 3))
        x = keras.Model(inside, body(inside, seed), name="inside")(pixels)
    else:
        x = body(pixels, seed)
    x = keras.layers.Dropout(0.3, seed=3)(x)
    init = keras.initializers.GlorotUniform(seed + 7)
    return keras.Model(pixels, keras.layers.Dense(2, kernel_initializer=init, name="scores")(x))


def ours() -> keras.Model:
    return tl.build_classifier(
        class_names=("0", "1"), weights=None, image_size=32, trunk="stem", head=tl.Head(dropout=0.2)
    )


def tune(model: Any, plan: Any = PLAN, method: str = "logit", **options: Any) -> Any:
    return tl.fine_tune(
        model, data(), plan, "light", method, **{"batch_size": 32, "verbose": 0, **options}
    )


def state(model: Any) -> list[Any]:
    """All that a run may change: values and flags."""
    return [
        *(v.numpy() for v in model.variables),
        *(np.array(layer.trainable) for layer in model._flatten_layers()),
    ]


def same(one: list[Any], other: list[Any]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


class Fail(keras.callbacks.Callback):
    """Raises when an event comes for the n-th time."""

    def __init__(
        self, event: str, count: int = 1, error: type[BaseException] = InterruptedError
    ) -> None:
        super().__init__()
        self.left, self.error = count, error
        setattr(self, event, self.happen)

    def happen(self, *_: Any, **__: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


# The model of the user


FAILS = (
    ("on_epoch_begin", 3),  # in the second stage
    ("on_test_begin", 2, KeyboardInterrupt),
    ("on_train_begin",),
    ("on_train_batch_end",),
)


@pytest.mark.parametrize(("make", "count"), [(lambda: build(nested=True), 4), (ours, 2)])
def test_a_run_that_fails_leaves_the_model_as_it_was(make: Any, count: int) -> None:
    model = make()
    model.layers[-1].trainable = False
    before = state(model)
    for fail in itertools.starmap(Fail, FAILS[:count]):
        with pytest.raises((InterruptedError, KeyboardInterrupt)):
            tune(model, callbacks=[fail])
        same(state(model), before)
    whole, again = tune(make()), tune(model)
    assert again.history == whole.history
    same(model.get_weights(), whole.model.get_weights())


def test_weights_that_cannot_be_written_leave_the_model_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise InterruptedError

    model = ours()
    before, settings = state(model), model.tltoolkit_settings
    monkeypatch.setattr("tltoolkit.artifacts.artifact.write", full)
    with pytest.raises(InterruptedError):
        tune(model, run_dir=tmp_path)
    same(state(model), before)
    assert model.tltoolkit_settings == settings
    monkeypatch.undo()
    same(tune(model, run_dir=tmp_path).model.get_weights(), tune(ours()).model.get_weights())


def offsets() -> np.ndarray:
    return imbalance.logit_offsets(data().train.class_counts)


@pytest.mark.parametrize("make", [lambda: build(nested=True), ours])
def test_logits_are_adjusted_once_however_often_a_model_is_trained(make: Any) -> None:
    model = make()
    for _ in range(2):
        with pytest.raises(InterruptedError):
            tune(model, STILL, callbacks=[Fail("on_train_batch_end")])
    for _ in range(2):
        tune(model, STILL)
        bias = next(v for v in model.weights[::-1] if tuple(v.shape) == (2,))
        np.testing.assert_allclose(bias, -offsets(), atol=1e-5)


def test_what_is_noted_of_a_model_goes_with_its_weights(tmp_path: Path) -> None:
    model = build()
    start = model.get_weights()
    tune(model, STILL, run_dir=tmp_path)
    model.set_weights(start)
    tune(model, STILL)
    np.testing.assert_allclose(model.get_weights()[-1], -offsets(), atol=1e-5)
    taken = build()
    tune(taken, STILL, run_dir=tmp_path)  # finished: it takes the weights
    tune(taken, STILL)
    np.testing.assert_allclose(taken.get_weights()[-1], -offsets(), atol=1e-5)


@pytest.mark.parametrize("make", [build, ours])
def test_training_on_with_the_validation_images_adjusts_nothing_twice(make: Any) -> None:
    slow = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-6, weight_decay=0.0),))
    run = tune(make(), slow)
    again = tl.refit(run, data(), "continue", build=make, epochs=1)
    bias = next(v for v in again.model.weights[::-1] if tuple(v.shape) == (2,))
    np.testing.assert_allclose(bias, -offsets(), atol=1e-3)


def test_each_fold_is_adjusted_once() -> None:
    made: list[Any] = []

    def kept() -> keras.Model:
        made.append(build())
        return made[-1]

    tl.cross_validate(kept, data(), 2, plan=STILL, imbalance="logit", verbose=0)
    for model in made:
        bias = model.get_weights()[-1]
        assert bias[1] - bias[0] == pytest.approx(np.log(30 / 12), abs=0.2)


def test_the_seed_decides_whatever_ran_before() -> None:
    plan = tl.Plan((dataclasses.replace(HEAD, epochs=1),))
    given = {"plan": plan, "batch_size": 32, "verbose": 0}

    def outcomes() -> tuple[Any, list[float], list[Any]]:
        run = tune(build(), **given)
        folds = tl.cross_validate(build, data(), 2, augment="light", **given)
        again = tl.refit(run, data(), build=build)
        return run.history, [fold.log_loss for fold in folds.reports], again.model.get_weights()

    first, drawn = outcomes(), np.random.rand()  # noqa: NPY002
    second = outcomes()
    assert first[:2] == second[:2]
    assert drawn != np.random.rand()  # noqa: NPY002
    same(first[2], second[2])


# The directory of a run


def test_a_run_belongs_to_the_weights_that_it_began_with(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        tune(build(), run_dir=tmp_path, callbacks=[Fail("on_epoch_end", 2)])
    other = build(seed=40)
    before = state(other)
    calls = [Fail("on_epoch_end", 99)]
    said = "holds a run of a model with other start weights: start_weights was 'SHA-256 .*seed"
    with pytest.raises(ValueError, match=said):
        tune(other, run_dir=tmp_path, callbacks=calls)
    same(state(other), before)
    model = build()
    run = tune(model, run_dir=tmp_path, callbacks=calls)
    same(model.get_weights(), tune(build()).model.get_weights())
    # It is finished for the model that it began with, and for the one that came out.
    for finished in (build(), model):
        assert tune(finished, run_dir=tmp_path, callbacks=calls).history == run.history
    with pytest.raises(ValueError, match="holds a finished run of a model with other start wei"):
        tune(other, run_dir=tmp_path, callbacks=calls)
    same(state(other), before)
    with pytest.warns(UserWarning, match="began with other weights"):
        tune(other, run_dir=tmp_path, callbacks=calls, resume="force")
    same(other.get_weights(), model.get_weights())
    with pytest.raises(ValueError, match="finished run with other settings: .*seed was 0"):
        tune(build(40), run_dir=tmp_path, callbacks=calls, resume="force", seed=1)


def test_an_interrupted_model_goes_on_in_the_same_process(tmp_path: Path) -> None:
    model, whole = build(), tune(build())
    for _ in range(2):
        fail = Fail("on_epoch_begin", 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            tune(model, run_dir=tmp_path, callbacks=[fail])
    run = tune(model, run_dir=tmp_path, callbacks=[Fail("on_epoch_begin", 99)])
    assert run.history == whole.history
    same(model.get_weights(), whole.model.get_weights())


def test_a_classifier_with_other_weights_is_another_start(tmp_path: Path) -> None:
    tune(ours(), STILL, run_dir=tmp_path)
    other = ours()
    other.get_layer("logits").kernel.assign_add(other.get_layer("logits").kernel)
    with pytest.raises(ValueError, match="finished run of a model with other start weights"):
        tune(other, STILL, run_dir=tmp_path)
    assert len(tune(ours(), STILL, run_dir=tmp_path).history["loss"]) == 1


# Augmentation and what is stored of it


class Noted(tl.augment.Pipeline):
    """Notes in which epochs it makes images."""

    def __init__(self) -> None:
        super().__init__(lambda image: image, SIZE)
        self.epochs: set[int] = set()

    def __call__(self, image: Any, epoch: int = 0, index: int = 0) -> Any:
        self.epochs.add(epoch)
        return super().__call__(image, epoch, index)


def test_every_stage_shows_new_versions() -> None:
    stages = (
        tl.Stage("a", epochs=3, cache_views=2),
        tl.Stage("b", epochs=2, cache_views=0),
        tl.Stage("c", unfreeze=1, epochs=2, cache_views=0),
        tl.Stage("d", unfreeze=1, epochs=4, cache_views=None),
    )
    pipeline, seen = Noted(), [set[int]()]

    class Stages(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            seen.append(set(pipeline.epochs))

    tl.fine_tune(
        build(), data(val=0), tl.Plan(stages), pipeline, batch_size=64, verbose=0,
        callbacks=[Stages()],
    )  # fmt: skip
    new = [after - before for before, after in itertools.pairwise(seen)]
    assert new == [{0, 1}, {3, 4}, {5, 6}, {7, 8}]


def test_a_version_is_what_the_pipeline_makes_in_that_epoch_of_the_run() -> None:
    pipeline, source = tl.augment.preset("medium", SIZE), data().train
    options = {"batch_size": 4, "shuffle": True, "seed": 2}
    batches = tl.augment.Batches(source, pipeline, augment_from=5, epochs_from=1, **options)
    plain = tl.augment.Batches(source, tl.augment.Pipeline(None, SIZE), **options)
    np.testing.assert_array_equal(batches.order(1), plain.order(1))
    first, _ = next(iter(batches))
    for row, i in zip(first, batches.order(1)[:4].tolist(), strict=True):
        np.testing.assert_array_equal(row, pipeline(source.image(i), 6, i))


def stored(pipelines: list[Any], first: tuple[int, ...] = (0, 0)) -> list[np.ndarray]:
    model, examples = build(), Examples.of(data().train)
    cut = model.layers[2].output
    wanted = [
        Wanted(examples=examples, pipeline=p, views=2, first=f)
        for p, f in zip(pipelines, first, strict=True)
    ]
    return Features(storage=Storage()).get(model, cut, 8, wanted)


def test_equal_pipelines_are_computed_once() -> None:
    presets = [tl.augment.preset("medium", SIZE, seed=4) for _ in range(2)]
    first, second = stored(presets)
    assert first is second

    def turn(image: Any) -> Any:
        return image[::-1]

    first, second = stored([tl.augment.Pipeline(turn, SIZE) for _ in range(2)])
    assert first is second
    before = tl.augment.Preparation(normalise="global_contrast")
    plain = [tl.augment.Pipeline(None, SIZE, seed, first=before) for seed in (1, 2)]
    first, second = stored(plain)
    assert first is second


def test_pipelines_that_only_read_alike_are_not_taken_for_each_other() -> None:
    class Shift:
        def __init__(self, by: int) -> None:
            self.by = by

        def __call__(self, image: np.ndarray) -> np.ndarray:
            return np.roll(image, self.by, axis=0) // self.by

        def __repr__(self) -> str:
            return "Shift()"

    first, second = stored([tl.augment.Pipeline(Shift(by), SIZE) for by in (1, 2)])
    assert not np.array_equal(first, second)
    for one, other in (({"seed": 1}, {"seed": 2}), ({"fit": "crop"}, {"fit": "pad"})):
        pipelines = [tl.augment.Pipeline(Shift(1), SIZE, **options) for options in (one, other)]
        first, second = stored(pipelines)
        assert first is not second
    normalised = [None, "global_contrast", Shift(2), Shift(3)]
    for transforms in (None, Shift(1)):
        before = [tl.augment.Preparation(normalise=one) for one in normalised]
        pipelines = [tl.augment.Pipeline(transforms, SIZE, first=one) for one in before]
        found = stored(pipelines, (0,) * len(pipelines))
        for i, one in enumerate(found):
            assert not any(np.array_equal(one, other) for other in found[:i])
    same_pipeline = [tl.augment.preset("medium", SIZE)] * 2
    first, second = stored(same_pipeline, (0, 2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(stored(same_pipeline, (0, 1))[1][0], first[1])


def test_plain_images_are_the_same_in_every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    compute = features.compute

    def noted(function: Any, views: Any, count: int, *others: Any) -> np.ndarray:
        counts.append(count)
        return compute(function, views, count, *others)

    monkeypatch.setattr("tltoolkit.training.features.compute", noted)
    heads = [tl.Stage(name, epochs=1, augment=how) for name, how in (("a", None), ("b", "none"))]
    tl.fine_tune(build(), data(), tl.Plan(tuple(heads)), "none", verbose=0)
    assert counts == [len(data().train), len(data().val)]


def test_the_memory_is_that_of_all_arrays_together(tmp_path: Path) -> None:
    model, source = build(), data()
    cut = model.layers[2].output
    row = 4 * int(np.prod(cut.shape[1:]))
    train, val = len(source.train), len(source.val)
    plain = tl.augment.Pipeline(None, SIZE)
    wanted = [Wanted(examples=Examples.of(s), pipeline=plain) for s in (source.train, source.val)]
    for rows, expected in ((train + val, [False, False]), (train + val - 1, [False, True])):
        storage = Storage(memory_gb=(rows + 0.5) * row / 2**30, directory=tmp_path)
        kept = Features(storage=storage)
        found = kept.get(model, cut, 4, wanted)
        assert [isinstance(one, np.memmap) for one in found] == expected
        # Those of an earlier stage that are let go make room first.
        kept.get(model, cut, 4, wanted[1:])
        assert kept.taken == (val * row if not expected[1] else 0)


def test_views_leave_room_for_the_validation_images() -> None:
    stage = tl.Stage("head", epochs=7, augment="light")  # three views, if there is room
    view, held = (4 * 3 * len(split) for split in (data().train, data().val))
    for room, expected in ((3 * view + held, 3), (3 * view + held - 1, 2)):
        options = {"cache_gb": room / 2**30, "verbose": 0}
        run = tl.fine_tune(build(), data(), tl.Plan((stage,)), **options)
        assert run.stages[0].views == expected


# LDAM


@pytest.mark.parametrize(("epochs", "first"), [(1, 0), (2, 1), (3, 2), (5, 4), (10, 8)])
def test_deferred_weights_count_in_the_last_epoch_at_least(epochs: int, first: int) -> None:
    assert imbalance.deferred_from(epochs) == first


def test_short_stages_get_their_deferred_weights() -> None:
    seen: list[float] = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(float(self.model.loss.weighted))

    plan = tl.Plan((tl.Stage("a", epochs=2), tl.Stage("b", unfreeze=1, epochs=1)))
    tune(build(), plan, "ldam", callbacks=[Watch()], batch_size=64)
    assert seen == [0.0, 1.0, 1.0]


def test_a_solved_head_knows_no_deferred_weights() -> None:
    fitted, solved = tl.Stage("head", epochs=2), tl.Stage("probe", optimizer="lbfgs")
    for last, shares in (((), (0.5, 0.5)), ((solved,), np.bincount(LABELS) / len(LABELS))):
        # Without validation images the last epoch is kept, here that of the solved head.
        plan = tl.Plan((fitted, *last))
        run = tl.fine_tune(ours(), data(val=0.0), plan, "none", "ldam", verbose=0)
        settings = run.model.tltoolkit_settings
        np.testing.assert_allclose(settings.train_prior, np.bincount(LABELS) / len(LABELS))
        # Weights by effective numbers make the classes nearly one size.
        np.testing.assert_allclose(settings.output_prior, shares, atol=0 if last else 1e-3)
