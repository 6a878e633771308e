"""Models in which several layers have one name, and models that are built twice in a process."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tltoolkit as tl
from tltoolkit.callbacks import ScheduledDropout, SpatialDropoutSchedule, TrainingMonitor
from tltoolkit.layers import graph
from tltoolkit.model.network import network_of
from tltoolkit.runs.estimate import estimate
from tltoolkit.training import gradient, sweep
from tltoolkit.training.job import task_of
from tltoolkit.training.trial import trial
from tltoolkit.tune import batch_size

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 8


def tower(name: str, seed: int, drop: bool = False) -> keras.Model:
    """A network whose layers have the same names each time."""
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    init = keras.initializers.GlorotUniform(seed)
    x = layers.Conv2D(4, 3, kernel_initializer=init, activation="relu", name="conv1")(pixels)
    x = layers.BatchNormalization(name="bn1")(x)
    x = ScheduledDropout(0.0, seed=seed, name="drop")(x) if drop else x
    x = layers.Conv2D(4, 3, kernel_initializer=init, name="conv2")(x)
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="pool")(x), name=name)


def side_by_side(drop: bool = False) -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    x = layers.Concatenate(name="both")([tower("left", 1, drop)(x), tower("right", 2, drop)(x)])
    init = keras.initializers.GlorotUniform(3)
    return keras.Model(pixels, layers.Dense(2, kernel_initializer=init, name="scores")(x))


def in_a_row() -> keras.Model:
    """Two networks of equal names, one after the other, and so with blocks."""

    def part(name: str, seed: int) -> keras.Model:
        inputs = keras.Input((None, None, 3))
        init = keras.initializers.GlorotUniform(seed)
        x = layers.Conv2D(3, 3, 2, padding="same", kernel_initializer=init, name="conv")(inputs)
        return keras.Model(inputs, layers.BatchNormalization(name="bn")(x), name=name)

    pixels = keras.Input((SIZE, SIZE, 3), name="image")
    x = part("high", 2)(part("low", 1)(layers.Rescaling(1 / 255, name="scale")(pixels)))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    init = keras.initializers.GlorotUniform(3)
    return keras.Model(pixels, layers.Dense(2, kernel_initializer=init, name="scores")(x))


def data(count: int = 24) -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 160, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, val=0.25)


def plan(*stages: tl.Stage) -> tl.Plan:
    return tl.Plan(stages)


def named(model: keras.Model) -> dict[str, layers.Layer]:
    """Path -> layer, by Keras' own look-up."""
    return {
        f"{name}/{one.name}": one
        for name in ("left", "right", "low", "high")
        if name in [layer.name for layer in model.layers]
        for one in model.get_layer(name).layers
    }


def test_blocks_tell_layers_of_one_name_apart() -> None:
    found = tl.blocks(side_by_side())
    names = [name for block in found.values() for name in block]
    assert len(set(names)) == len(names)
    assert found["head"] == ("scores",)
    assert {"scale", "left/conv1", "right/conv1", "left/pool", "both"} <= set(found["block1"])
    assert tl.blocks(in_a_row()) == {
        "block1": ("scale", "low/conv", "low/bn"),
        "block2": ("high/conv", "high/bn"),
        "head": ("pool", "scores"),
    }


def test_they_are_evaluated() -> None:
    model, images = side_by_side(), data().val
    said = tl.evaluate(model, images).probabilities
    pixels = np.stack([images.image(i) for i in range(len(images))]).astype("float32")
    np.testing.assert_allclose(said, keras.ops.softmax(model(pixels)), atol=1e-6)


@pytest.mark.parametrize(
    ("unfreeze", "trained"),
    [
        ("head", set()),
        ("left/*", {"left/conv1", "left/conv2"}),
        ("conv2", None),  # no pattern
        ("conv[2]", {"left/conv2", "right/conv2"}),
        ("*/conv1", {"left/conv1", "right/conv1"}),
        (1, {"left/conv1", "right/conv1", "left/conv2", "right/conv2"}),
    ],
)
def test_what_unfreezes_is_told_by_path_or_name(unfreeze: object, trained: set | None) -> None:
    model = side_by_side()
    stage = tl.Stage("a", unfreeze=unfreeze, epochs=2, learning_rate=1e-2)
    if trained is None:
        with pytest.raises(ValueError, match="`unfreeze` must be one of"):
            tl.fine_tune(model, data(), plan(stage), "none", verbose=0)
        return
    before = {path: [v.numpy() for v in layer.variables] for path, layer in named(model).items()}
    run = tl.fine_tune(model, data(), plan(stage), "none", verbose=0)
    for path, layer in named(model).items():
        same = [np.array_equal(a, b) for a, b in zip(before[path], layer.variables, strict=True)]
        assert all(same) == (path not in trained), path
    assert len(set(run.stages[0].changed)) == len(run.stages[0].changed)
    changed = {path.rpartition("/")[0] for path in run.stages[0].changed}
    assert changed == {*trained, "scores"}


def test_the_users_layers_keep_their_names() -> None:
    model = side_by_side()
    names = [layer.name for layer in model._flatten_layers()]
    tl.fine_tune(model, data(), plan(tl.Stage("a", epochs=1)), "none", verbose=0)
    assert [layer.name for layer in model._flatten_layers()] == names


def test_each_layer_has_the_rate_of_its_own_block() -> None:
    model = in_a_row()
    network = network_of(model)
    job = trial(network, data().train, batch_size=6)
    stage = tl.Stage("a", unfreeze="all", layer_decay=0.5, optimizer="sgd", momentum=0.0,
                     weight_decay=0.0, clip_norm=None)  # fmt: skip
    freeze = tl.freeze(model, "all")
    task = task_of(job, stage, 0, 0, freeze)
    trainer = task.trainer()
    optimizer = gradient.optimizer_of(trainer, task, lambda factor: factor)
    variables = trainer.trainable_variables
    before = [v.numpy() for v in variables]
    optimizer.build(variables)
    optimizer.apply([keras.ops.ones(v.shape) for v in variables], variables)
    steps = {id(v): np.max(old - v.numpy()) for v, old in zip(variables, before, strict=True)}
    rates = {
        path: steps[id(layer.kernel)] for path, layer in named(model).items() if "conv" in path
    }
    assert rates == {"low/conv": pytest.approx(0.25, 1e-5), "high/conv": pytest.approx(0.5, 1e-5)}


class Stop(keras.callbacks.Callback):
    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.at, self.seen = epoch, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.seen += 1
        if self.seen > self.at:
            raise RuntimeError("pulled")


class Go(keras.callbacks.Callback):
    pass


Go.__name__ = "Stop"  # the same list of callbacks, for the record


def automatic() -> keras.Model:
    """Layers whose names Keras counts up in a process."""
    pixels = keras.Input((SIZE, SIZE, 3))
    init = keras.initializers.GlorotUniform(1)
    x = layers.Conv2D(4, 3, 2, kernel_initializer=init)(layers.Rescaling(1 / 255)(pixels))
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(4, 3, kernel_initializer=init)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, layers.Dense(2, kernel_initializer=init)(x))


STAGES = plan(
    tl.Stage("head", epochs=2, learning_rate=1e-2),
    tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-3, layer_decay=0.5),
)


def call(model: keras.Model, callback: object, directory: Path) -> object:
    return tl.fine_tune(
        model, data(), STAGES, "none", callbacks=[callback], run_dir=directory, verbose=0
    )


@functools.cache
def uninterrupted(make: Callable[[], keras.Model]) -> object:
    with tempfile.TemporaryDirectory() as directory:
        return call(make(), Go(), Path(directory))


@pytest.mark.parametrize("make", [automatic, side_by_side], ids=["automatic", "side_by_side"])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_run_goes_on_with_a_model_that_is_built_again(
    make: Callable[[], keras.Model], at: int, tmp_path: Path
) -> None:
    """In the middle of the first stage, and between the stages."""
    whole = uninterrupted(make)
    with pytest.raises(RuntimeError, match="pulled"):
        call(make(), Stop(at), tmp_path / "run")
    again = make()
    run = call(again, Go(), tmp_path / "run")
    for mine, other in zip(again.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    # The record speaks of the model at hand, whichever model the first part was trained on.
    paths = set(graph.paths(again).values())
    for result, reference in zip(run.stages, whole.stages, strict=True):
        assert set(result.changed) <= paths
        assert len(result.changed) == len(reference.changed)
    third = make()
    finished = call(third, Go(), tmp_path / "run")
    assert set(finished.stages[1].changed) <= set(graph.paths(third).values())
    for mine, other in zip(third.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_refit_of_such_a_run_knows_what_never_trained(tmp_path: Path) -> None:
    stage = tl.Stage("head", epochs=2, learning_rate=1e-2)
    run = tl.fine_tune(side_by_side(), data(), plan(stage), "none", verbose=0)
    assert tl.refit(run, data(), build=side_by_side).model is not run.model
    other = side_by_side()
    other.get_layer("right").get_layer("conv1").kernel.assign_add(keras.ops.ones((3, 3, 3, 4)))
    with pytest.raises(ValueError, match="layers that never trained differ"):
        tl.refit(run, data(), build=lambda: other)


def test_two_networks_of_keras_side_by_side() -> None:
    """VGG16 has the fewest layers of those whose layers' names Keras fixes."""
    pixels = keras.Input((32, 32, 3))
    nets = [
        keras.applications.VGG16(
            weights=None, input_shape=(32, 32, 3), include_top=False, pooling="avg", name=name
        )
        for name in ("left", "right")
    ]
    x = layers.Concatenate()([net(layers.Rescaling(1 / 255)(pixels)) for net in nets])
    model = keras.Model(pixels, layers.Dense(2)(x))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 32, 32, 3)).astype(np.uint8)
    some = tl.data.from_arrays(images, np.arange(8) % 2, val=0.25)
    assert "left/block1_conv1" in tl.blocks(model)["block1"]
    stage = tl.Stage("a", unfreeze="right/block5_*", epochs=1)
    run = tl.fine_tune(model, some, plan(stage), "none", verbose=0)
    below = {path.split("/")[0] for path in run.stages[0].changed if "block5" in path}
    assert below == {"right"}


def test_a_schedule_reaches_every_dropout_of_a_name() -> None:
    model = side_by_side(drop=True)
    model.compile("sgd", "mse")
    x = np.zeros((4, SIZE, SIZE, 3), "float32")
    schedule = SpatialDropoutSchedule(lambda epoch: 0.3, layers=["drop"])
    model.fit(x, np.zeros((4, 2)), verbose=0, callbacks=[schedule])
    rates = [float(layer.rate) for path, layer in named(model).items() if "drop" in path]
    assert rates == [pytest.approx(0.3)] * 2


def test_the_monitor_records_every_layer_of_a_name() -> None:
    model = side_by_side()
    model.compile("sgd", "mse")
    x, y = np.ones((4, SIZE, SIZE, 3), "float32"), np.zeros((4, 2), "float32")
    monitor = TrainingMonitor(batch=(x, y))
    model.fit(x, y, verbose=0, callbacks=[monitor])
    seen = {row["layer"] for row in monitor.records if row["kind"] == "weights"}
    expected = {path for path, layer in named(model).items() if layer.trainable_weights}
    assert seen == {*expected, "scores"}


def test_questions_about_such_a_model_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which rate is best is another test's question.
    monkeypatch.setattr(sweep, "RUNG_STEPS", 2)
    model, before = side_by_side(), side_by_side().get_weights()
    assert tl.tune.find_lr(model, data(), "left/*", steps=20).losses.size
    assert tl.check.capacity(model, data(), samples=8, steps=10, rates=(1e-3,)).verdict
    assert str(tl.check.data(data(), model))
    assert estimate(model, data(), plan(tl.Stage("a", unfreeze=1))).stages[0].trains > 100
    for mine, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_another_process_can_build_such_a_model() -> None:
    network = network_of(side_by_side())
    parts = batch_size._networks(network.model, network, "head", "frozen")
    lower, upper = (keras.models.model_from_json(parts[name]) for name in ("lower", "upper"))
    names = [layer.name for layer in lower.layers]
    assert len(set(names)) == len(names) == len(network.model.layers) - 1
    assert upper(lower(np.zeros((1, SIZE, SIZE, 3)))).shape == (1, 2)


def test_surgery_on_such_a_model_says_why_not() -> None:
    with pytest.raises(ValueError, match="`model` must be .* left/conv1"):
        tl.surgery.insert(side_by_side(), {"both": layers.Dropout(0.1)})
