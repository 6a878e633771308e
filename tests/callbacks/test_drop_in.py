"""Keras' own tests of its callbacks, run on ours that stand in their place."""

import importlib
import inspect
import types
import unittest
import warnings
from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest

from tltoolkit.callbacks import EarlyStopping, LearningRateDecay, ReduceLROnPlateau, Resume

pytestmark = pytest.mark.usefixtures("eagerly")


class Scheduler(LearningRateDecay):
    """The arguments of Keras' LearningRateScheduler; the rate before is not known."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        unknown = [float("nan")] * (len(inspect.signature(schedule).parameters) - 1)
        super().__init__(lambda epoch: schedule(epoch, *unknown))


class Backup(Resume):
    """The arguments of Keras' BackupAndRestore, and the counters that its tests look at."""

    def __init__(self, backup_dir: str, save_freq: str | int = "epoch") -> None:
        super().__init__(backup_dir, save_freq=save_freq)

    @property
    def _current_epoch(self) -> int:
        return self._epoch

    @property
    def _last_batch_seen(self) -> int:
        return self._step - 1


OURS = {
    "early_stopping_test": ("EarlyStopping", EarlyStopping),
    "reduce_lr_on_plateau_test": ("ReduceLROnPlateau", ReduceLROnPlateau),
    "learning_rate_scheduler_test": ("LearningRateScheduler", Scheduler),
    "backup_and_restore_test": ("BackupAndRestore", Backup),
}
# Where a class of ours differs on purpose, and why.
OTHERWISE = {
    ("reduce_lr_on_plateau_test", "test_throws_when_optimizer_has_schedule"): "it scales schedules",
    ("learning_rate_scheduler_test", "test_verbose_logging"): "the rate is in the logs instead",
    (
        "learning_rate_scheduler_test",
        "test_schedule_dependent_on_previous_learning_rate",
    ): "a schedule is a function of time alone, so that it can be drawn, warmed up and resumed",
    (
        "learning_rate_scheduler_test",
        "test_throws_when_optimizer_has_schedule",
    ): "a ValueError before the first step, in test_learning_rate.py",
    ("backup_and_restore_test", "test_backup_corrupted"): "see test_resume.py",
    ("backup_and_restore_test", "test_save_freq_unknown_error"): "another wording",
    ("backup_and_restore_test", "test_backup_dir_empty_error"): "another wording",
    ("backup_and_restore_test", "test_backup_dir_none_error"): "another wording",
}


def kerass_tests() -> Iterator[tuple[str, str]]:
    for name in OURS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pytest.PytestUnknownMarkWarning)
            module = importlib.import_module(f"keras.src.callbacks.{name}")
        for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
            yield from ((name, test._testMethodName) for test in suite)


@pytest.mark.parametrize(
    ("module", "method"), [test for test in kerass_tests() if test not in OTHERWISE]
)
def test_keras_own_test_passes(module: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = importlib.import_module(f"keras.src.callbacks.{module}")
    name, cls = OURS[module]
    monkeypatch.setattr(tests, "callbacks", types.SimpleNamespace(**{name: cls}))
    (case,) = (
        test
        for suite in unittest.defaultTestLoader.loadTestsFromModule(tests)
        for test in suite
        if test._testMethodName == method
    )
    result = unittest.TestResult()
    keras.utils.set_random_seed(0)
    case.run(result)
    assert not result.skipped
    assert not [text for _, text in (*result.failures, *result.errors)]


def test_what_is_otherwise_is_a_test_of_keras() -> None:
    assert set(OTHERWISE) <= set(kerass_tests())


def compiled() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def run(callback: keras.callbacks.Callback, logs: list[dict[str, float]]) -> int:
    """Epochs until the callback stops the training."""
    model = compiled()
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, log in enumerate(logs):
        callback.on_epoch_end(epoch, dict(log))
        if model.stop_training:
            return epoch + 1
    return len(logs)


@pytest.mark.parametrize("base", [EarlyStopping, keras.callbacks.EarlyStopping])
def test_a_subclass_may_compare_and_read_in_its_own_way(base: type) -> None:
    class Counts(base):
        """Keras' documented hooks: a value made of two logs, and the comparison itself."""

        seen: list[bool]

        def get_monitor_value(self, logs: dict[str, float]) -> float:
            return logs["loss"] + logs["mae"]

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            before = self.best
            super().on_epoch_end(epoch, logs)
            value = self.get_monitor_value(logs or {})
            if before is not None:
                self.seen.append(bool(self.monitor_op(value - self.min_delta, before)))

    values = [(3, 1), (2, 1), (1, 4), (2, 2), (0, 9), (1, 1)]
    logs = [{"loss": float(a), "mae": float(b)} for a, b in values]
    stop = Counts("loss", patience=3, min_delta=0.5)
    stop.seen = []
    assert run(stop, logs) == 5
    assert stop.seen == [True, False, False, False]
    assert stop.best == 3


@pytest.mark.parametrize("base", [EarlyStopping, keras.callbacks.EarlyStopping])
def test_a_subclass_may_set_the_comparison(base: type) -> None:
    stop = base("anything", patience=2)
    stop.monitor_op = keras.ops.greater
    assert run(stop, [{"anything": v} for v in (1.0, 2.0, 1.5, 1.6, 1.7)]) == 4
    assert stop.best == 2.0


@pytest.mark.parametrize("cls", [EarlyStopping, ReduceLROnPlateau])
def test_a_metric_of_several_numbers_is_named(cls: type) -> None:
    callback = cls("f1", mode="max")
    run(callback, [{"f1": np.array([0.5])}])
    assert callback.best == 0.5
    with pytest.raises(ValueError, match="`monitor` must be a name with one number per epoch"):
        run(callback, [{"f1": np.array([0.5, 0.6])}])
