"""Resume: a run that was interrupted ends as one that was not, bit for bit."""

import functools
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tltoolkit.callbacks import (
    EarlyStopping,
    LearningRateDecay,
    ReduceLROnPlateau,
    Resume,
    checkpoint,
    schedules,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 4)).astype("float32")
Y = RNG.integers(0, 3, 12)
EPOCHS, STEPS = 5, 3


class Interrupt(keras.callbacks.Callback):
    def __init__(self, epoch=None, step=None):
        super().__init__()
        self.epoch, self.step = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch
        if (epoch, None) == (self.epoch, self.step):
            raise InterruptedError

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.step):
            raise InterruptedError


def build(optimizer=None, eager=True):
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.1),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        run_eagerly=eager,  # tracing is what takes the time
    )
    return model


def run(
    directory,
    *,
    interrupt=(),
    data="arrays",
    save_freq="epoch",
    epochs=EPOCHS,
    keep=True,
    eager=True,
):
    """One process' worth of training: everything is made anew."""
    model = build(eager=eager)
    callbacks = [
        EarlyStopping(patience=4, restore_best_weights=True, smooth=2),
        ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=0.3),
        LearningRateDecay(schedules.exponential(0.1, 3), warmup=1),
    ]
    resume = Resume(directory, callbacks, save_freq, delete_checkpoint=not keep)
    if data == "arrays":
        arguments = {"x": X, "y": Y, "batch_size": 4}
    else:
        examples = tf.data.Dataset.from_tensor_slices((X, Y))
        arguments = {"x": resume.dataset(lambda epoch: examples.shuffle(12, seed=epoch).batch(4))}
    history = model.fit(
        **arguments,
        epochs=epochs,
        verbose=0,
        validation_data=(X[:4], Y[:4]),
        callbacks=[*callbacks, resume, Interrupt(*interrupt)],
    )
    return model, callbacks, history


def same(result, expected):
    (model, callbacks, history), (model2, callbacks2, history2) = result, expected
    assert history.history == history2.history
    assert history.epoch == history2.epoch
    assert callbacks[0].reason == callbacks2[0].reason
    for ours, theirs in zip(model.get_weights(), model2.get_weights(), strict=True):
        assert (ours == theirs).all()
    variables = zip(model.optimizer.variables, model2.optimizer.variables, strict=True)
    assert all((a.numpy() == b.numpy()).all() for a, b in variables)


@functools.cache
def whole(data="arrays"):
    """What a run comes to that nothing interrupts."""
    with tempfile.TemporaryDirectory() as directory:
        return run(Path(directory), data=data)


@pytest.mark.parametrize(("data", "epoch"), [("arrays", 1), ("dataset", 2)])
def test_interrupted_between_epochs(tmp_path, data, epoch):
    assert len(whole(data)[2].epoch) == EPOCHS
    with pytest.raises(InterruptedError):
        run(tmp_path, interrupt=(epoch,), data=data)
    same(run(tmp_path, data=data), whole(data))


def test_interrupted_in_compiled_steps(tmp_path):
    settings = {"data": "dataset", "save_freq": 2, "epochs": 3, "eager": False}
    expected = run(tmp_path / "whole", **settings)
    with pytest.raises(InterruptedError):
        run(tmp_path / "run", interrupt=(1, 2), **settings)
    assert Resume(tmp_path / "run").position() == (1, 2)
    same(run(tmp_path / "run", **settings), expected)


def test_interrupted_at_any_step(tmp_path):
    for epoch, step in ((0, 0), (1, 1), (3, 2)):
        directory = tmp_path / f"{epoch}-{step}"
        with pytest.raises(InterruptedError):
            run(directory, interrupt=(epoch, step), data="dataset", save_freq=1)
        last = (epoch, step + 1) if step + 1 < STEPS else (epoch, step)
        assert Resume(directory).position() == last
        same(run(directory, data="dataset", save_freq=1), whole("dataset"))


def test_interrupted_twice_with_a_stale_unfinished_write(tmp_path):
    for epoch in (2, 4):
        with pytest.raises(InterruptedError):
            run(tmp_path / "run", interrupt=(epoch,))
        (tmp_path / "run" / ".checkpoint-being-written").mkdir()
        (tmp_path / "run" / ".checkpoint-being-written" / "arrays.npz").write_bytes(b"half")
    same(run(tmp_path / "run"), whole())


def test_a_finished_run_is_not_trained_again_but_may_go_on(tmp_path):
    first = run(tmp_path, epochs=2)
    same(run(tmp_path, epochs=2), first)
    assert len(run(tmp_path, epochs=3)[2].epoch) == 3


def test_a_run_that_was_stopped_early_stays_so(tmp_path):
    def train():
        model = build()
        stop = EarlyStopping("loss", patience=2, min_delta=9, restore_best_weights=True)
        resume = Resume(tmp_path, [stop], delete_checkpoint=False)
        history = model.fit(X, Y, epochs=9, verbose=0, callbacks=[stop, resume])
        return model.get_weights()[0], history.epoch, stop.reason

    (weights, epochs, reason), (again, epochs_again, reason_again) = train(), train()
    assert (weights == again).all()
    assert epochs == epochs_again == [0, 1, 2]
    assert reason == reason_again


def test_killed_between_the_stop_and_the_end_of_fit(tmp_path):
    class Killed(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if self.model.stop_training:
                raise InterruptedError

    def train(directory, *more):
        model = build()
        stop = EarlyStopping("loss", patience=1, min_delta=9, restore_best_weights=True)
        callbacks = [stop, Resume(directory, [stop]), *more]
        history = model.fit(X, Y, epochs=9, verbose=0, callbacks=callbacks)
        return model.get_weights()[0], history.epoch, stop.reason

    weights, epochs, reason = train(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tmp_path / "run", Killed())
    weights_again, epochs_again, reason_again = train(tmp_path / "run")
    assert (weights == weights_again).all()
    assert (epochs, reason) == (epochs_again, reason_again)


def test_checkpoints_are_deleted_and_a_later_fit_runs_all_its_epochs(tmp_path):
    with pytest.raises(InterruptedError):
        run(tmp_path, interrupt=(3,), keep=False)
    (tmp_path / "notes.txt").write_text("mine")
    model, _, _ = run(tmp_path, keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert len(model.fit(X, Y, epochs=3, verbose=0).epoch) == 3


def test_callbacks_of_keras_are_carried_too(tmp_path):
    def train(directory, *interrupt):
        model = build()
        stop = keras.callbacks.EarlyStopping("loss", patience=3, min_delta=9)
        plateau = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=2, min_delta=9)
        resume = Resume(directory, [stop, plateau], delete_checkpoint=False)
        callbacks = [stop, plateau, resume, Interrupt(*interrupt)]
        return model.fit(X, Y, epochs=9, verbose=0, callbacks=callbacks).history

    expected = train(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tmp_path / "run", 2)
    assert train(tmp_path / "run") == expected


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    with pytest.raises(InterruptedError):
        run(tmp_path / "run", interrupt=(4,))
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert len(names) == checkpoint.KEPT
    arrays = tmp_path / "run" / names[-1] / "arrays.npz"
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    assert Resume(tmp_path / "run").position() == (3, 0)
    same(run(tmp_path / "run"), whole())
    for path in (tmp_path / "run").iterdir():
        (path / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is whole\. checkpoint-.*state.json is not what was"):
        run(tmp_path / "run")


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    tree = {"epoch": 1, "step": 0, "weights": [np.arange(5.0)], "note": None}
    checkpoint.write(tmp_path, tree)

    def full(*arguments, **keywords):
        raise OSError("No space left on device")

    for broken in ("rename", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, broken, full)
            with pytest.raises(OSError, match="No space left.*checkpoint-00000000 is what can be"):
                checkpoint.write(tmp_path, {**tree, "epoch": 2})
        found = checkpoint.read_latest(tmp_path)
        assert found["epoch"] == 1
        assert (found["weights"][0] == np.arange(5.0)).all()
    checkpoint.write(tmp_path, {**tree, "epoch": 3})
    assert checkpoint.read_latest(tmp_path)["epoch"] == 3


def test_only_own_files_are_deleted(tmp_path):
    for epoch in range(4):
        path = checkpoint.write(tmp_path, {"epoch": epoch})
        if epoch == 0:
            (path / "notes.txt").write_text("mine")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"checkpoint-0000000{n}" for n in (0, 2, 3)]
    checkpoint.delete_all(tmp_path)
    assert (tmp_path / "checkpoint-00000000" / "notes.txt").read_text() == "mine"


def test_bfloat16_weights(tmp_path):
    def train(epochs):
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense(3, dtype="bfloat16")
        model = keras.Sequential([keras.Input((4,)), dense])
        model.compile("sgd", "mse")
        resume = Resume(tmp_path, delete_checkpoint=False)
        model.fit(X, X[:, :3], epochs=epochs, verbose=0, callbacks=[resume])
        return np.asarray(model.get_weights()[0]).astype("float32")

    assert (train(1) == train(1)).all()


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="`save_freq` must be an integer >= 1"):
        Resume(tmp_path, save_freq=0)
    with pytest.raises(ValueError, match="TerminateOnNaN has no state that can be kept"):
        Resume(tmp_path, [keras.callbacks.TerminateOnNaN()])
    stop, resume = EarlyStopping("loss", patience=9), Resume(tmp_path)
    with pytest.raises(ValueError, match="must come before Resume"):
        build().fit(X, Y, verbose=0, callbacks=[Resume(tmp_path, [stop]), stop])
    with pytest.raises(InterruptedError):
        build().fit(X, Y, epochs=2, verbose=0, callbacks=[resume, Interrupt(1)])
    with pytest.raises(ValueError, match="does not fit: the optimizer has"):
        build("sgd").fit(X, Y, epochs=2, verbose=0, callbacks=[Resume(tmp_path)])
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.compile("adam", "mse")
    with pytest.raises(ValueError, match="does not fit: the model has"):
        other.fit(X, Y, verbose=0, callbacks=[Resume(tmp_path)])
    with pytest.raises(ValueError, match="holds the state of 0 callbacks; Resume was given 1"):
        build().fit(X, Y, verbose=0, callbacks=[stop, Resume(tmp_path, [stop])])
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    unbuilt.compile("adam", "mse")
    with pytest.raises(ValueError, match="build the model before fit"):
        unbuilt.fit(X, Y, verbose=0, callbacks=[Resume(tmp_path)])
    with pytest.raises(ValueError, match="known number of batches"):
        resume.dataset(lambda epoch: tf.data.Dataset.range(5).repeat())
    shutil.rmtree(tmp_path)
    assert Resume(tmp_path).position() == (0, 0)
