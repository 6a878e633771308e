"""Go on after an interruption as if there had been none."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit._checks import SWITCH, Integer, Table, arguments
from tltoolkit.callbacks import checkpoint, training_state
from tltoolkit.layers import private

RESUME: Table = {"save_freq": Integer(1) | "epoch", "delete_checkpoint": SWITCH}


class Resume(keras.callbacks.Callback):
    """Write checkpoints while training, and start from the newest one.

    The same program, run again, goes on where it was: weights, optimizer, state of the named
    callbacks, seeds of dropout layers, Python's and NumPy's generators, history, epoch and
    step. A checkpoint is written beside, flushed and renamed, so a kill at any moment leaves a
    whole one; the last two are kept, with SHA-256 sums.

    What is promised: the resumed run ends with the same weights, bit for bit, as one that was
    never interrupted, if the data of epoch e are the same in both. That holds for
    - arrays, shuffled by `fit` after `keras.utils.set_random_seed`, or not shuffled;
    - data that Python's `random` or NumPy's global generator shuffles in this process;
    - any `tf.data.Dataset` that `resume.dataset` makes, whose order may depend on the epoch.
    It does not hold for `tf.data` with `shuffle(reshuffle_each_iteration=True)`, whose
    counter begins anew in every process, nor for TensorFlow's own stateful random operations.

    With `save_freq="epoch"`, training goes on at the start of the epoch that was interrupted. With
    a number of steps it goes on in the middle, and the data must begin there: `resume.dataset`
    does that; other data can ask `position()` before `fit`.

    Args:
        directory: where the checkpoints are; nothing else in it is touched.
        callbacks: those whose state is kept, in a fixed order. All of them must come before
            this one in the list that `fit` gets.
        save_freq: "epoch", or a number of steps (then at each epoch's end as well).
        delete_checkpoint: delete the checkpoints once `fit` has finished, as Keras'
            BackupAndRestore does. If False, a finished run is not trained again when the
            program is: `fit` only restores it, unless it asks for more epochs.

    Raises:
        ValueError: a checkpoint of another model or optimizer, checkpoints of which none is
            whole, a callback without state or in the wrong place.
        OSError: a checkpoint cannot be written; the ones before it are untouched.

    >>> import tempfile
    >>> def run(epochs):
    ...     keras.utils.set_random_seed(0)
    ...     model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     resume = Resume(directory, delete_checkpoint=False)
    ...     x = np.ones((4, 1))
    ...     return model.fit(x, x, epochs=epochs, verbose=0, callbacks=[resume])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     first = run(epochs=2).history["loss"]
    ...     both = run(epochs=4).history["loss"]
    >>> len(both), both[:2] == first
    (4, True)
    """

    def __init__(
        self,
        directory: str | Path,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not training_state.keeps_state(callback):
                raise ValueError(
                    f"{type(callback).__name__} has no state that can be kept: it needs "
                    "get_state() and set_state(), or stays out of `callbacks`"
                )
        arguments(RESUME, locals())
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        self._found: dict[str, Any] | None = None
        self._make_epoch: Callable[[Any], tf.data.Dataset] | None = None
        self._steps: int | None = None
        self._epoch = self._offset = self._step = self._saved_step = 0
        self._history: list[list[Any]] = []
        self._quiet: warnings.catch_warnings[None] | None = None

    def position(self) -> tuple[int, int]:
        """Epoch and step (both from 0) at which the next `fit` starts; reads the disk."""
        found = checkpoint.read_latest(self.directory)
        return (0, 0) if found is None else (found["epoch"], found["step"])

    def dataset(self, make_epoch: Callable[[Any], tf.data.Dataset]) -> tf.data.Dataset:
        """A data set for `fit` that is `make_epoch(epoch)` in each epoch, resumable at any step.

        Args:
            make_epoch: from the epoch (a scalar int64 tensor) to the batches of that epoch, whose
                number is known and always the same. Shuffle with the epoch as the seed:
                `lambda epoch: examples.shuffle(1000, seed=epoch).batch(32)`.
        """
        self._make_epoch = make_epoch
        # Of epoch 0 for all, whose number is promised to be the same.
        self._steps = int(make_epoch(tf.constant(0, tf.int64)).cardinality())
        if self._steps < 1:
            raise ValueError("`make_epoch` must give a data set with a known number of batches")
        scalar = tf.TensorSpec((), tf.int64)
        # A generator, since it is asked at the start of each epoch and tells where that begins.
        positions = tf.data.Dataset.from_generator(
            lambda: iter([(self._epoch, self._offset)]), output_signature=(scalar, scalar)
        )
        epochs = positions.flat_map(lambda epoch, step: make_epoch(epoch).skip(step))
        # Keras must know the number of batches; flat_map hides it, repeat and take restore it.
        return epochs.repeat().take(self._steps)

    def save(self) -> Path:
        """Write a checkpoint of this moment; `fit` calls it as `save_freq` says."""
        self._saved_step = self._step
        return checkpoint.write(self.directory, self._tree())

    def set_params(self, params: dict[str, Any]) -> None:
        """Check the order: Keras hands this dict to the callbacks of a fit one after the other."""
        super().set_params(params)
        for callback in self.callbacks:
            # Keras gives one dict to each in turn: who has it not yet comes later.
            if callback.params is not params:
                raise ValueError(
                    f"{type(callback).__name__} must come before Resume in the list of "
                    "callbacks that fit gets"
                )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the newest checkpoint and put weights, optimizer and callbacks back."""
        self._epoch = self._offset = self._step = self._saved_step = 0
        self._history = []
        self._found = found = self._read()
        if found is None:
            return
        self._put_back(found)
        # A run that was stopped early is finished, however many epochs are left.
        done = found["stopped"] or found["epoch"] >= self.params["epochs"]
        self._epoch, self._step = found["epoch"], found["step"]
        self._history = found["history"]
        # Past the last epoch `fit` trains none and still ends as usual.
        private.start_fit_at(self.model, self.params["epochs"] if done else found["epoch"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch; in the first one, put back what `fit` has reset in the meantime."""
        resumed = self._found
        self._epoch = epoch
        self._offset = self._step = 0
        if resumed is not None:
            self._offset = self._step = resumed["step"]
            self._put_back_last(resumed)
            # Only now: `fit` may have drawn from them since on_train_begin.
            training_state.set_random_state(resumed["random"])
            if resumed["step"]:
                self._put_back_metrics(resumed["metrics"])
                # Keras warns of an epoch that is shorter than the others.
                self._quiet = warnings.catch_warnings()
                # By hand, since no `with` reaches from one callback to another.
                self._quiet.__enter__()
                warnings.filterwarnings("ignore", message="Your input ran out of data")
        self._saved_step = self._step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint if it is time."""
        self._step = self._offset + batch + 1
        steps = self.params["steps"] if self._steps is None else self._steps - self._offset
        last = steps is not None and batch + 1 >= steps
        # After the last step the checkpoint of the epoch follows, with its validation.
        if not last and not self.model.stop_training and self._is_due():
            self.save()
        if last and self._offset and self._steps is not None:
            # How data tell Keras that the epoch is over. Left to find out by itself, it would
            # start one more step, and what needs no data in it (seeds, the step count) would run.
            raise StopIteration

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the checkpoint of the epoch."""
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None
        # A copy, to which callbacks behind this one cannot add.
        self._history.append([epoch, dict(logs or {})])
        # The checkpoint of an epoch is that of the next one's start.
        self._epoch, self._step, self._offset = epoch + 1, 0, 0
        self.save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Delete the checkpoints, or write the final one."""
        trained = self._found is None
        if self._found is not None:  # no epoch was left to train
            self._put_back_last(self._found)
        self._finish(trained)

    # What a run of several fits does in its own way.

    def _read(self) -> dict[str, Any] | None:
        """The checkpoint to start from."""
        return checkpoint.read_latest(self.directory)

    def _variables(self) -> list[Any]:
        """The weights that a checkpoint holds, those of the model at least."""
        return training_state.model_variables(self.model)

    def _tree(self) -> dict[str, Any]:
        """What a checkpoint of this moment holds."""
        model = self.model
        # Between epochs the metrics start from nothing, so they matter within one only.
        metrics = training_state.metric_variables(model) if self._step else []
        return {
            "epoch": self._epoch,
            "step": self._step,
            "stopped": bool(model.stop_training),
            "history": self._history,
            "model": training_state.values(self._variables()),
            "optimizer": training_state.values(model.optimizer.variables),
            "metrics": training_state.values(metrics),
            "callbacks": [training_state.callback_state(callback) for callback in self.callbacks],
            "random": training_state.random_state(),
        }

    def _is_due(self) -> bool:
        """Whether to write a checkpoint after this step."""
        return self.save_freq != "epoch" and self._step - self._saved_step >= int(self.save_freq)

    def _make_metrics(self) -> None:
        """Keras makes the variables of metrics when it first sees a batch."""
        if self._make_epoch is not None:
            batch = next(iter(self._make_epoch(tf.constant(self._epoch, tf.int64))))
            self.model.test_on_batch(*batch)

    def _finish(self, trained: bool) -> None:
        """Write the final checkpoint, or delete all."""
        if self.delete_checkpoint:
            checkpoint.delete_all(self.directory)
        elif trained:
            self.save()

    def _put_back(self, found: dict[str, Any]) -> None:
        model = self.model
        if not model.built:
            raise ValueError("build the model before fit (give it an Input), so that it can resume")
        if not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        variables = self._variables()
        training_state.check_fits("model", variables, found["model"])
        training_state.check_fits("optimizer", model.optimizer.variables, found["optimizer"])
        training_state.assign(variables, found["model"])
        training_state.assign(model.optimizer.variables, found["optimizer"])
        training_state.set_callback_states(self.callbacks, found["callbacks"])

    def _put_back_last(self, found: dict[str, Any]) -> None:
        """The history, which Keras empties after `on_train_begin`; and `fit`'s start, used up."""
        self._found = None
        private.start_fit_at(self.model, None)
        history = self.model.history
        for epoch, logs in found["history"]:
            history.on_epoch_end(epoch, logs)

    def _put_back_metrics(self, saved: list[np.ndarray[Any, Any]]) -> None:
        """Let the metrics of the epoch include the steps before the interruption."""
        model = self.model
        if len(saved) != len(training_state.metric_variables(model)):
            self._make_metrics()
        variables = training_state.metric_variables(model)
        # Another number: metrics that could not be made here begin anew.
        if len(saved) == len(variables):
            training_state.assign(variables, saved)
