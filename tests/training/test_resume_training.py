"""A run that was interrupted ends as one that was not: weights, history and best epoch."""

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tltoolkit as tl
from tltoolkit.callbacks import checkpoint
from tltoolkit.plans import ready
from tltoolkit.runs.record import Run
from tltoolkit.training import features
from tltoolkit.training.caching import Examples

SIZE, BATCH = 16, 18


def images(count: int = 36) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).integers(0, 170, (count, SIZE, SIZE, 3))
    return (noise + 30 * labels[:, None, None, None]).astype(np.uint8), labels


def data(**options: Any) -> tl.data.ImageData:
    return tl.data.from_arrays(*images(), **{"val": 0.25, **options})


def build() -> keras.Model:
    """Convolution, BatchNorm and dropout below a dense head, the same in every process."""
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    for i, width in enumerate((4, 6)):
        init = keras.initializers.GlorotUniform(i)
        x = keras.layers.Conv2D(
            width, 3, strides=2, use_bias=False, kernel_initializer=init, name=f"block{i}_conv"
        )(x)
        x = keras.layers.BatchNormalization(name=f"block{i}_bn")(x)
        x = keras.layers.ReLU(name=f"block{i}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.3, seed=1, name="drop")(x)
    init = keras.initializers.GlorotUniform(7)
    return keras.Model(pixels, keras.layers.Dense(2, kernel_initializer=init, name="scores")(x))


class Broken(keras.callbacks.Callback):
    """Raises after so many steps of all stages, or at the end of so many epochs."""

    def __init__(self, steps: int = 0, epochs: int = 0) -> None:
        super().__init__()
        self.left = {"steps": steps, "epochs": epochs}

    def count(self, what: str) -> None:
        self.left[what] -= 1
        if self.left[what] == 0:
            raise InterruptedError

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.count("steps")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.count("epochs")


class Drawing(keras.callbacks.Callback):
    """Has a state, and draws from Python's and NumPy's global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.drawn.append(random.random() + np.random.rand())  # noqa: NPY002

    def get_state(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def set_state(self, state: dict[str, Any]) -> None:
        self.drawn = list(state["drawn"])


PLANS = {
    "cached": tl.Plan(
        (
            tl.Stage("head", epochs=3, learning_rate=1e-1, cache_views=2),
            tl.Stage("upper", unfreeze=1, epochs=2, learning_rate=1e-2, batch_norm="train"),
        )
    ),
    "pixels": tl.Plan(
        (
            tl.Stage(
                "all",
                unfreeze="all",
                epochs=6,
                learning_rate=1.0,
                layer_decay=0.5,
                schedule="constant",
                early_stopping=1,
            ),
            tl.Stage("again", unfreeze=1, epochs=2, learning_rate=1e-1, cache_views=0),
        )
    ),
    "recalibrated": tl.Plan(
        (tl.Stage("all", unfreeze="all", epochs=2, learning_rate=1e-2, batch_norm="recalibrate"),)
    ),
}


def train(plan: Any, run_dir: Path | None = None, broken: Broken | None = None, **options: Any):
    """The run, and what its callback drew."""
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    drawing = Drawing()
    options = {"batch_size": BATCH, "verbose": 0, "augment": "medium", **options}
    callbacks = [drawing, broken or Broken()]
    run = tl.fine_tune(
        build(), data(), PLANS.get(plan, plan), run_dir=run_dir, callbacks=callbacks, **options
    )
    return run, drawing.drawn


def weights(run: Run) -> str:
    values = [value.tobytes() for value in run.model.get_weights()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def outcome(trained: tuple[Run, list[float]]) -> tuple[Any, ...]:
    """All that must agree, seconds aside."""
    run, drawn = trained
    changed = [(stage.epochs, stage.best_epoch, stage.changed) for stage in run.stages]
    return weights(run), run.history, run.best_epoch, run.why, changed, drawn


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tracing is what takes the time."""
    tf.config.run_functions_eagerly("compiled" not in request.node.name)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def whole() -> Callable[[str], tuple[Any, ...]]:
    """The outcome of each plan when nothing interrupts it, without a run directory."""
    known: dict[str, tuple[Any, ...]] = {}

    def get(plan: str) -> tuple[Any, ...]:
        if plan not in known:
            known[plan] = outcome(train(plan))
        return known[plan]

    return get


@pytest.mark.parametrize(
    ("plan", "breaks"),
    [
        ("cached", [{"steps": 2}, {"epochs": 3}]),
        ("cached", [{"steps": 7}]),
        ("pixels", [{"steps": 3}, {"steps": 1}]),
        ("pixels", [{"epochs": 3}]),
        ("recalibrated", [{"steps": 3}]),
    ],
)
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    plan: str, breaks: list[dict[str, int]], whole: Any, tmp_path: Path
) -> None:
    for options in breaks:
        with pytest.raises(InterruptedError):
            train(plan, tmp_path, Broken(**options), save_freq=1)
    assert outcome(train(plan, tmp_path, save_freq=1)) == whole(plan)


def test_a_compiled_run_too(tmp_path: Path) -> None:
    expected = outcome(train("cached"))
    with pytest.raises(InterruptedError):
        train("cached", tmp_path, Broken(steps=3), save_freq=1)
    assert outcome(train("cached", tmp_path, save_freq=1)) == expected


def test_with_checkpoints_by_epoch_the_epoch_begins_again(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        train("cached", tmp_path, Broken(steps=5))
    found = checkpoint.read_latest(tmp_path / "checkpoints")
    assert (found["epoch"], found["step"], len(found["run"]["results"])) == (2, 0, 0)
    assert outcome(train("cached", tmp_path)) == whole("cached")


def test_early_stopping_did_stop_and_layer_decay_had_several_rates(whole: Any) -> None:
    """Or the comparisons above would say less than they seem to."""
    epochs = [epochs for epochs, _, _ in whole("pixels")[4]]
    assert epochs[0] < 6
    assert len(whole("recalibrated")[1]["loss"]) == 3


def test_the_decision_of_the_auto_plan_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "EPOCHS", 2)
    monkeypatch.setattr(ready, "LEAST", 1)
    many = {"plan": "auto", "augment": "none"}
    pixels, labels = images(80)

    def run(run_dir: Path, broken: Broken) -> Run:
        return tl.fine_tune(
            build(),
            tl.data.from_arrays(pixels, labels, val=0.25),
            run_dir=run_dir,
            callbacks=[broken],
            verbose=0,
            **many,
        )

    expected = run(tmp_path / "whole", Broken())
    assert [stage.stage.name for stage in expected.stages][1:] == ["fine_tune"]
    with pytest.raises(InterruptedError):
        run(tmp_path / "run", Broken(epochs=1))
    resumed = run(tmp_path / "run", Broken())
    assert weights(resumed) == weights(expected)
    assert (resumed.why, resumed.plan) == (expected.why, expected.plan)


def test_killed_before_the_classifier_is_written_or_while_it_is(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr("tltoolkit.artifacts.artifact.write", killed)
        with pytest.raises(InterruptedError):
            train("cached", tmp_path)
    # A file takes its name once it is whole, so that this is what a kill leaves.
    half = tmp_path / ".tltoolkit-0123456789abcdef.keras"
    half.write_bytes(b"half of it")
    assert outcome(train("cached", tmp_path)) == whole("cached")
    assert not (tmp_path / "checkpoints").exists()
    assert not half.exists()
    assert keras.saving.load_model(tmp_path / "model.keras").count_params() > 0


def test_a_checkpoint_of_an_earlier_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InterruptedError):
        train("cached", tmp_path, Broken(epochs=2))
    read = checkpoint.read_latest

    def as_before(directory: Path) -> Any:
        tree = read(directory)
        del tree["run"]["paths"]  # layers were known by their names
        return tree

    monkeypatch.setattr(checkpoint, "read_latest", as_before)
    with pytest.raises(ValueError, match="of an earlier version.*start the run anew"):
        train("cached", tmp_path)


def test_a_finished_run_comes_back_without_training(
    whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = train("cached", tmp_path)
    again, drawn = train("cached", tmp_path)
    assert capsys.readouterr().out.count("it is finished: nothing is trained") == 1
    assert drawn == []
    assert weights(again) == weights(first) == whole("cached")[0]
    for name in ("history", "best_epoch", "stages", "plan", "why", "settings", "run_dir"):
        assert getattr(again, name) == getattr(first, name), name


def test_pixels_and_stored_rows_begin_in_the_middle_without_decoding() -> None:
    decoded: list[int] = []

    class Source:
        def __len__(self) -> int:
            return 20

        def image(self, i: int) -> np.ndarray:
            decoded.append(i)
            return np.full((4, 4, 3), i, np.uint8)

    targets = np.eye(20, dtype=np.float32)
    pipeline = tl.augment.Pipeline(None, 4)
    options = {"shuffle": True, "seed": 5}
    examples = Examples(source=Source(), targets=targets)
    whole = [list(examples.batches(pipeline, 6, epochs_from=e, **options)) for e in (2, 3)]
    decoded.clear()
    late = examples.batches(pipeline, 6, epochs_from=2, steps_from=2, **options)
    dataset = late.to_dataset()
    epochs = [list(dataset.take(count).as_numpy_iterator()) for count in (2, 4)]
    assert len(decoded) == 20 - 12 + 20
    rows = features.feed(targets[None], targets, 6, 5, (2, 2))
    fed = [list(rows.take(count).as_numpy_iterator()) for count in (2, 4)]
    for got, stored, expected in zip(epochs, fed, (whole[0][2:], whole[1]), strict=True):
        for batch, row, (x, y) in zip(got, stored, expected, strict=True):
            np.testing.assert_array_equal(batch[0], x)
            np.testing.assert_array_equal(batch[1], y)
            np.testing.assert_array_equal(row[0], y)
    with pytest.raises(ValueError, match="`steps_from` must be an integer >= 0 and <= 3"):
        examples.batches(pipeline, 6, steps_from=4)
