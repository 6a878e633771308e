"""Signals, and losses that are not finite: how a run ends, and what it leaves."""

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.callbacks import checkpoint
from tltoolkit.training.interrupts import Interrupts

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = 16


def build() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    init = keras.initializers.GlorotUniform(1)
    x = keras.layers.Conv2D(4, 3, strides=2, kernel_initializer=init, name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.3, seed=1, name="drop")(x)
    init = keras.initializers.GlorotUniform(2)
    return keras.Model(pixels, keras.layers.Dense(2, kernel_initializer=init, name="scores")(x))


def train(run_dir: Path | None, callback: Any = None, seed: int = 0, **stage: Any) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3)).astype(np.uint8)
    data = tl.data.from_arrays(pixels, np.arange(40) % 2, val=0.2)
    settings = {"epochs": 3, "learning_rate": 1e-2, **stage}
    return tl.fine_tune(
        build(),
        data,
        tl.Plan((tl.Stage("head", **settings),)),
        "none",
        batch_size=8,
        callbacks=[callback or At(-1, lambda: None)],
        run_dir=run_dir,
        seed=seed,
        verbose=0,
    )


class At(keras.callbacks.Callback):
    """Does something after so many steps, and notes how many it saw."""

    def __init__(self, step: int, action: Any) -> None:
        super().__init__()
        self.at, self.action, self.seen = step, action, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.action()


@functools.cache
def uninterrupted() -> Any:
    return train(None)


def send(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(
    number: int, kind: type[BaseException], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    callback = At(6, send(number))
    with pytest.raises(kind) as caught:
        train(tmp_path, callback)
    assert getattr(caught.value, "code", 143) == 143
    assert "a checkpoint follows this step; once more stops at once" in capfd.readouterr().err
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert callback.seen == 6
    found = checkpoint.read_latest(tmp_path / "checkpoints")
    assert (found["epoch"], found["step"]) == (1, 2)
    resumed, whole = train(tmp_path), uninterrupted()
    assert resumed.history == whole.history
    for ours, theirs in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_after_the_last_step_of_an_epoch_the_epoch_is_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, At(4, send(signal.SIGINT)))
    found = checkpoint.read_latest(tmp_path / "checkpoints")
    assert (found["epoch"], found["step"], len(found["history"])) == (1, 0, 1)


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, At(2, twice))
    assert not (tmp_path / "checkpoints").exists()


def test_while_features_are_computed_a_signal_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tltoolkit.training.features.compute", lambda *_: send(signal.SIGTERM)())
    with pytest.raises(SystemExit) as caught:
        train(tmp_path)
    assert caught.value.code == 143
    monkeypatch.undo()
    assert len(train(tmp_path).history["loss"]) == 3


def test_without_a_run_directory_python_does_what_it_always_does() -> None:
    callback = At(2, send(signal.SIGINT))
    # A shell's job in the background has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(None, callback)
    finally:
        signal.signal(signal.SIGINT, before)
    assert callback.seen == 2


def test_another_thread_leaves_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with Interrupts().caught():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


CHILD = """
import importlib.util, sys
from pathlib import Path
import tensorflow as tf
spec = importlib.util.spec_from_file_location("tests", sys.argv[1])
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
tf.config.run_functions_eagerly(True)
tests.train(Path(sys.argv[2]), tests.At(3, lambda: print("now", flush=True)), epochs=100000)
"""


def test_a_process_that_gets_sigterm_ends_with_143_and_a_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, __file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"now\n"
        child.terminate()
        assert child.wait(60) == 143
        assert b"Traceback" not in child.stderr.read()
    assert checkpoint.read_latest(tmp_path / "checkpoints")["run"]["begun"]


def test_a_loss_that_is_not_finite_is_traced(tmp_path: Path) -> None:
    options = {"learning_rate": 1e38, "optimizer": "sgd", "clip_norm": None, "unfreeze": "all"}
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, **options)
    said = str(caught.value)
    assert "in stage 'head', epoch 1, step 2, on images[" in said
    assert "and 3 more; the first layer whose output is not finite is conv" in said
    assert f"try a learning_rate below 1e+38; a checkpoint is kept in {tmp_path}" in said
    step_two = said.split(" on ")[1].split(" and ")[0].split(", ")
    order = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(1, 0))).permutation(30)
    pixels = tl.data.from_arrays(
        np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3)).astype(np.uint8),
        np.arange(40) % 2,
        val=0.2,
    )
    assert step_two == [pixels.train.name(int(i)) for i in order[8:13]]


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Spoil(At):
        def __init__(self, step: int) -> None:
            super().__init__(step, self.spoil)

        def spoil(self) -> None:
            self.model.trainable_variables[0].assign(
                self.model.trainable_variables[0] * float("nan")
            )

    Spoil.__name__ = "At"
    with pytest.raises(FloatingPointError, match="weights became NaN .* epoch 2, step 4"):
        train(tmp_path, Spoil(8))
    found = checkpoint.read_latest(tmp_path / "checkpoints")
    assert found["epoch"] == 1
    assert all(np.isfinite(value).all() for value in found["model"])
    assert len(train(tmp_path).history["loss"]) == 3


def test_activations_that_float16_cannot_hold_are_named() -> None:
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Conv2D(2, 3, kernel_initializer="ones", name="conv")(pixels)
    x = keras.layers.Rescaling(1e4, name="huge")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pixels, keras.layers.Dense(2, name="scores")(x))
    images = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3)).astype(np.uint8)
    data = tl.data.from_arrays(images, np.arange(40) % 2, val=0.2)
    plan = tl.Plan((tl.Stage("head", epochs=1),))
    with pytest.raises(FloatingPointError, match="not finite in float16; cache_dtype='float32'"):
        tl.fine_tune(model, data, plan, "none", cache_dtype="float16", verbose=0)
