"""What stays alive of trainings that are over: nothing but what the caller holds."""

import gc
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tltoolkit as tl
from tltoolkit.tune import space
from tltoolkit.tune.bench import Bench

pytestmark = pytest.mark.usefixtures("shallow")

SIZE = 32
PLAN = tl.Plan(
    (
        tl.Stage("head", epochs=1, learning_rate=1e-2),
        tl.Stage("upper", unfreeze=1, epochs=1, learning_rate=1e-3, cache_views=0),
    )
)
OPTIONS: dict[str, Any] = {"plan": PLAN, "augment": "light", "verbose": 0}
KINDS = (keras.Variable, keras.Model, keras.optimizers.Optimizer)


def data() -> tl.data.ImageData:
    labels = np.arange(36) % 2
    noise = np.random.default_rng(0).integers(0, 150, (36, SIZE, SIZE, 3))
    pixels = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    return tl.data.from_arrays(pixels, labels, val=0.3)


def build() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    x = pixels
    for i in range(2):
        init = keras.initializers.GlorotUniform(i)
        x = keras.layers.Conv2D(4, 3, strides=2, kernel_initializer=init, name=f"conv{i}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.1, seed=1)(x)
    init = keras.initializers.GlorotUniform(7)
    return keras.Model(pixels, keras.layers.Dense(2, kernel_initializer=init, name="scores")(x))


def live() -> int:
    """Variables, models and optimizers in the whole process."""
    gc.collect()
    return sum(issubclass(type(one), KINDS) for one in gc.get_objects())


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest) -> Any:
    """Tracing is what takes the time; but it is also what keeps things alive."""
    tf.config.run_functions_eagerly("compiled" not in request.node.name)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("how", ["eager", "compiled"])
def test_trainings_leave_nothing(how: str) -> None:
    before = live()
    # What only the second training would leave is not of its graphs, which take long to trace.
    for _ in range(1 if how == "compiled" else 2):
        tl.fine_tune(build(), data(), **OPTIONS)
        assert live() == before


def test_a_model_that_is_trained_again_and_again_does_not_grow() -> None:
    model, counts = build(), []
    for _ in range(2):
        tl.fine_tune(model, data(), **OPTIONS)
        counts.append(live())
    assert len(set(counts)) == 1


def test_neither_does_a_training_that_fails_leave_anything() -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    before = live()
    with pytest.raises(KeyboardInterrupt):
        tl.fine_tune(build(), data(), callbacks=[Stop()], **OPTIONS)
    assert live() == before


def test_cross_validation_leaves_nothing() -> None:
    before = live()
    tl.cross_validate(build, data(), 2, **OPTIONS)
    assert live() == before


def test_training_on_all_images_leaves_nothing() -> None:
    before = live()
    run = tl.fine_tune(build(), data(), **OPTIONS)
    trained = live()
    tl.refit(run, data(), "repeat", build=build, epochs=1)
    assert live() == trained
    tl.refit(run, data(), "continue", build=build, epochs=1)
    del run
    assert live() == before


@pytest.mark.parametrize("unfreeze", ["head", "all"])
def test_trials_of_a_search_leave_nothing_on_the_network_they_share(
    unfreeze: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, score = [], Bench.score

    def counted(bench: Bench, *arguments: Any) -> float:
        found = score(bench, *arguments)
        counts.append(live())
        return found

    monkeypatch.setattr(Bench, "score", counted)
    # Of a head before upper blocks train, which takes most of the time.
    monkeypatch.setitem(space.ALONE, "epochs", 1)
    before = live()
    fixed = {"epochs": 1, "hidden": [[8]], "trunk": "stem", "image_size": SIZE}
    settings = {"learning_rate": (1e-3, 1e-2), "unfreeze": unfreeze, **fixed}
    tl.tune.search(data(), settings, trials=2, weights=None, verbose=False)
    assert len(counts) == 2
    assert len(set(counts)) == 1
    monkeypatch.undo()
    assert live() == before


def test_a_climb_keeps_the_best_network_and_nothing_else() -> None:
    before = live()
    solved = tl.Plan((tl.Stage("head", optimizer="lbfgs", augment="none"),))
    options = {"plan": solved, "weights": None, "image_size": SIZE, "verbose": 0}
    found = tl.tune.climb(data(), "efficientnet_lite", **options)
    model = found.run.model
    assert live() - before <= len(model.variables) + 2
    del found, model
    assert live() == before
