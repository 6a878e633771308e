"""find_lr and Stage(learning_rate="auto")."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

import tltoolkit as tl
from tltoolkit.training import rates, stage, sweep

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 16


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps and rungs of few steps, for tests that ask no more of a rate than that it is found."""
    monkeypatch.setattr(sweep, "SWEEP_STEPS", 20)
    monkeypatch.setattr(sweep, "RUNG_STEPS", 2)


def data(count: int = 80, seed: int = 0, **options: Any) -> tl.data.ImageData:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    noise = rng.integers(0, 120, (count, SIZE, SIZE, 3)) + 40 * labels[:, None, None, None]
    return tl.data.from_arrays(noise.astype(np.uint8), labels, **{"val": 0.25, **options})


def build() -> keras.Model:
    """A small network with dropout, BatchNorm and a penalty, the same each time."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.Conv2D(4, 3, strides=2, kernel_regularizer="l2", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2, seed=3, name="dropout"),
            layers.Dense(2, name="dense"),
        ],
        name="small",
    )


def linear(**scores: Any) -> keras.Model:
    """A network that is traced quickly."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            layers.Rescaling(1 / 127.5, -1),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2, seed=3, name="dropout"),
            layers.Dense(2, name="scores", **scores),
        ],
        name="linear",
    )


def everything(model: keras.Model) -> dict[str, Any]:
    """All that must not change."""
    return {
        "values": [v.numpy().tolist() for v in model.variables],
        "trainable": [layer.trainable for layer in model._flatten_layers()],
        "variables": [v.trainable for v in model.variables],
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "keras": keras.random.normal((3,)).numpy().tolist(),
        "optimizer": id(getattr(model, "optimizer", None)),
        "compiled": model.compiled,
    }


def descent(gradient: Any, loss: Any, start: np.ndarray, adam: bool) -> Any:
    """Losses of gradient descent or Adam in plain NumPy, for `sweep`."""

    def make(rates: np.ndarray) -> Iterator[float]:
        x, m, v = start.copy(), 0.0, 0.0
        for step, rate in enumerate(rates, 1):
            yield float(loss(x))
            g = gradient(x)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            mean, spread = m / (1 - 0.9**step), v / (1 - 0.999**step)
            x = x - rate * (mean / (np.sqrt(spread) + 1e-7) if adam else g)

    return make


def best_of_grid(make: Any, grid: np.ndarray, steps: int) -> float:
    with np.errstate(all="ignore"):
        ends = [np.nan_to_num(sweep.rung(make, rate, steps), nan=np.inf) for rate in grid]
    return float(grid[np.argmin(ends)])


@pytest.mark.parametrize(("high", "low", "size"), [(3, 0.3, 10), (3, 0.03, 20), (300, 0.3, 20)])
@pytest.mark.parametrize("adam", [False, True])
def test_on_a_quadratic_the_rate_is_near_the_best_of_a_fine_grid(
    high: float, low: float, size: int, adam: bool
) -> None:
    curvature = np.geomspace(high, low, size)
    start = np.random.default_rng(0).normal(size=size)
    make = descent(lambda x: curvature * x, lambda x: (curvature * x**2).sum() / 2, start, adam)
    best = best_of_grid(make, np.geomspace(1e-4, 10, 41), 100)
    found = sweep.sweep(make, 1e-6, 10.0, 100)
    assert 1 / 3 < found.suggestion / best < 3
    assert 1 / 3 <= sweep.ladder(make, 1e-6, 10.0, 30).suggestion / best <= 3
    if not adam:
        # Above 2 / L gradient descent explodes.
        assert found.suggestion < 2 / high


@pytest.mark.usefixtures("traced")
def test_on_a_small_network_the_rate_is_near_the_best_of_a_fine_grid() -> None:
    few = data(64, val=0.0)
    labels = few.train.labels ^ (np.random.default_rng(1).random(64) < 0.2)
    pixels = np.stack([few.train.image(i) for i in range(64)])
    noisy = tl.data.from_arrays(pixels, labels, val=0.0)
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Rescaling(1 / 5, -16),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, kernel_initializer="zeros", use_bias=False),
        ]
    )
    features = pixels.mean((1, 2)) / 5 - 16
    targets = np.eye(2)[labels]

    def gap(w: np.ndarray) -> np.ndarray:
        return softmax(features @ w, 1) - targets

    make = descent(
        lambda w: features.T @ gap(w) / 64,
        lambda w: -(targets * log_softmax(features @ w, 1)).sum(1).mean(),
        np.zeros((3, 2)),
        adam=False,
    )
    # At zero weights the Hessian is F'F / N times ((1, -1), (-1, 1)) / 4.
    limit = 2 / (np.linalg.eigvalsh(features.T @ features / 64).max() / 2)
    best = best_of_grid(make, np.geomspace(limit / 300, limit * 30, 61), 100)
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None}
    found = tl.tune.find_lr(model, noisy, batch_size=64, **plain)
    assert 1 / 3 < found.suggestion / best < 3, (best, limit)
    assert set(found.suggestions) == {"steepest", "valley", "minimum / 10"}


@pytest.mark.usefixtures("short")
def test_everything_is_as_before_also_with_a_compiled_model() -> None:
    model = build()
    model.compile("adam", "mse")
    model.layers[1].trainable = False
    model.layers[-1].bias.trainable = False
    keras.random.normal((1,))  # Keras' own generator exists
    state = everything(model)
    keras.utils.set_random_seed(1)
    state = everything(model)
    keras.utils.set_random_seed(1)
    tl.tune.find_lr(model, data(), "all", batch_norm="train", steps=20, batch_size=8)
    assert everything(model) == state


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_everything_is_as_before_when_it_is_interrupted(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    keras.utils.set_random_seed(1)
    state = everything(model)
    keras.utils.set_random_seed(1)
    calls: list[int] = []
    judge = rates.diverged

    def breaks(losses: Any, steps: int) -> bool:
        calls.append(len(losses))
        if len(losses) == 5:
            raise error
        return judge(losses, steps)

    monkeypatch.setattr(rates, "diverged", breaks)
    with pytest.raises(error):
        tl.tune.find_lr(model, data(), "all", batch_norm="train")
    assert calls[-1] == 5
    assert everything(model) == state


def weights_after(prepare: Callable[[keras.Model], Any]) -> list[np.ndarray]:
    model = build()
    prepare(model)
    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=2, batch_norm="train"),))
    return tl.fine_tune(model, data(), plan, "light", verbose=0).model.get_weights()


@pytest.mark.usefixtures("short")
def test_training_afterwards_is_the_same_to_the_bit() -> None:
    plain = weights_after(lambda model: None)
    after = weights_after(lambda model: tl.tune.find_lr(model, data(), "all", steps=20))
    for one, other in zip(plain, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("short")
def test_an_automatic_rate_is_found_recorded_and_used(tmp_path: Path) -> None:
    plan = tl.Plan((tl.Stage("head", learning_rate="auto", epochs=2),))
    assert tl.Plan.from_yaml(plan.to_yaml()) == plan
    run = tl.fine_tune(linear(), data(), plan, "none", run_dir=tmp_path / "run", verbose=0)
    rate = run.stages[0].learning_rate
    assert run.stages[0].stage.learning_rate == "auto"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["stages"][0]["learning_rate"] == rate
    assert tl.Plan.from_dict(record["plan"]) == plan
    given = tl.Plan((tl.Stage("head", learning_rate=rate, epochs=2),))
    same = tl.fine_tune(linear(), data(), given, "none", verbose=0)
    for one, other in zip(run.model.get_weights(), same.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("short")
def test_a_stage_without_a_rate_to_find_warns_and_falls_back() -> None:
    model = linear(kernel_initializer="zeros")
    flat = tl.data.from_arrays(
        np.full((24, SIZE, SIZE, 3), 9, np.uint8), np.arange(24) % 2, val=0.0
    )
    plan = tl.Plan((tl.Stage("head", learning_rate="auto", epochs=1),))
    with pytest.warns(UserWarning, match="stage 'head' runs at 0.001: no reliable suggestion"):
        run = tl.fine_tune(model, flat, plan, "none", verbose=0)
    assert run.stages[0].learning_rate == stage.FALLBACK_RATES["head"] == 1e-3


class KilledError(Exception):
    pass


class Kill(keras.callbacks.Callback):
    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == self.epoch:
            raise KilledError


@pytest.mark.usefixtures("short")
def test_a_resumed_stage_keeps_the_rate_that_was_found(tmp_path: Path) -> None:
    plan = tl.Plan((tl.Stage("all", unfreeze="all", learning_rate="auto", epochs=2),))

    def run(directory: str, kill: int) -> Any:
        options = {"callbacks": [Kill(kill)], "run_dir": tmp_path / directory, "verbose": 0}
        return tl.fine_tune(linear(), data(), plan, "none", **options)

    whole = run("whole", 99)
    with pytest.raises(KilledError):
        run("cut", 1)
    resumed = run("cut", 99)
    assert resumed.stages[0].learning_rate == whole.stages[0].learning_rate
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_ladder_gives_each_rung_the_same_steps() -> None:
    found = tl.tune.find_lr(linear(), data(), mode="ladder", low=5e-3, high=0.1, steps=12)
    np.testing.assert_allclose(found.rates, [0.1, 0.03, 0.01])
    assert found.suggestion == found.rates[np.argmin(found.losses)]
    figure = found.plot()
    assert figure.axes[0].get_xscale() == "log"


ROW = np.geomspace(1e-6, 10, 100)
NOISE = np.random.default_rng(0).normal(size=100) * 0.05


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        (0.7 + NOISE, "hardly falls"),
        (0.7 + np.geomspace(1e-3, 3, 100), "rises from the start"),
        (np.r_[np.nan, np.ones(99)], "no number at once"),
        (np.full(100, np.inf), "no number at once"),
    ],
)
def test_a_curve_without_a_suggestion_says_so(losses: np.ndarray, why: str) -> None:
    found = rates.from_sweep(ROW, losses, 100, lambda rate: 0.0)
    assert found.suggestion is None
    assert not found.suggestions
    assert found.advice.startswith("no reliable suggestion: ")
    assert why in str(found)
    assert found.plot().axes


def test_the_rules_on_a_curve_of_known_shape() -> None:
    # Falls from 1e-3 to 1e-1, is flat to 1, then rises.
    decades = np.log10(ROW)
    losses = 2 - np.clip((decades + 3) / 2, 0, 1) + 5 * np.clip(decades, 0, None)
    found = rates.from_sweep(ROW, losses, 100, lambda rate: abs(np.log(rate / 0.02)))
    assert 1e-3 < found.suggestions["steepest"] < 1e-1
    assert 1e-3 < found.suggestions["valley"] < 0.3
    assert 0.03 < found.suggestions["minimum / 10"] < 0.3
    closest = min(found.suggestions.values(), key=lambda rate: abs(np.log(rate / 0.02)))
    assert found.suggestion == closest


def test_a_ladder_without_a_fall_suggests_nothing() -> None:
    steps = rates.rungs(1e-4, 0.1)
    assert rates.from_ladder(steps, np.full(len(steps), 0.7)).suggestion is None
    broken = rates.from_ladder(steps, np.full(len(steps), np.nan))
    assert broken.suggestion is None
    best = rates.from_ladder(steps, np.linspace(0.1, 0.7, len(steps)))
    assert best.suggestion == 0.1
    assert best.advice.endswith("the highest that was tried")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "walk"}, "`mode` must be one of 'sweep', 'ladder'"),
        ({"low": 0}, "`low` must be a finite number > 0"),
        ({"low": 1, "high": 0.1}, "`high` must be a finite number > 1"),
        ({"steps": 5}, "`steps` must be an integer >= 20"),
        ({"unfreeze": "block77"}, "`unfreeze` must be one of"),
        ({"optimiser": "sgd"}, "`setting` must be one of 'augment', 'batch_norm'"),
        ({"optimizer": "lbfgs"}, "`optimizer` must be one that has a learning rate"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"data": 3}, "`data` must be an ImageData"),
        ({"mode": "ladder", "low": 0.1, "high": 0.11}, "two rungs lie between"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"model": build(), "data": data(), **options}
    with pytest.raises((ValueError, TypeError), match=message):
        tl.tune.find_lr(**arguments)


def test_a_model_without_variables_that_train_is_refused() -> None:
    images = keras.Input((SIZE, SIZE, 3))
    mean = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Normalization(mean=[1.0] * 3, variance=[1.0] * 3)(images)
    )
    empty = keras.Model(images, keras.layers.Lambda(lambda x: x[:, :2])(mean))
    with pytest.raises(ValueError, match="`model` must"):
        tl.tune.find_lr(empty, data())


@pytest.mark.parametrize("rate", ["fast", "", True])
def test_a_stage_takes_a_number_or_auto(rate: Any) -> None:
    with pytest.raises(ValueError, match="`learning_rate` must be"):
        tl.Stage("a", learning_rate=rate)
    with pytest.raises(ValueError, match="which has no rate to find"):
        tl.Stage("a", learning_rate="auto", optimizer="lbfgs")
