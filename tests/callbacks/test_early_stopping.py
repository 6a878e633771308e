"""EarlyStopping against Keras' own, and its stopping criteria against plain NumPy."""

import itertools
import math

import keras
import numpy as np
import pytest

from tltoolkit.callbacks import EarlyStopping
from tltoolkit.callbacks.stopping import GeneralizationLoss, ProgressQuotient, UpInStrips

COMBINATIONS = [
    dict(
        zip(
            ("monitor", "mode", "min_delta", "patience", "baseline", "start_from_epoch"),
            c,
            strict=True,
        )
    )
    for c in itertools.product(
        ("val_loss", "val_accuracy"),
        ("auto", "min", "max"),
        (0, 0.02),
        (0, 1, 3),
        (None, 0.5),
        (0, 2),
    )
]


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse", metrics=["accuracy"])
    model.evaluate(np.ones((2, 1)), np.ones((2, 1)), verbose=0)
    return model


def run(model, callback, curve, training=None):
    """Feed a validation curve epoch by epoch; the weight says in which epoch it was set."""
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, value in enumerate(curve):
        model.set_weights([np.full((1, 1), epoch)])
        train = value if training is None else training[epoch]
        logs = {"loss": train, "accuracy": train, "val_loss": value, "val_accuracy": value}
        callback.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callback.on_train_end()
    return epoch, float(model.get_weights()[0][0, 0])


def curve(seed, length=14):
    """Falling or rising with noise, sometimes on a grid so that ties happen."""
    rng = np.random.default_rng(seed)
    trend = np.linspace(0.9, 0.3, length) if seed % 2 else np.linspace(0.3, 0.9, length)
    values = trend + rng.normal(0, 0.08, length)
    values = np.round(values, 1) if seed % 5 == 0 else values
    if seed % 7 == 0:
        values[rng.integers(1, length)] = np.nan
    return [float(v) for v in values]


@pytest.mark.parametrize("restore", [False, True])
def test_same_as_keras_on_every_combination(model, restore):
    # 120 curves; each combination meets 1 of them, where weights are restored 2.
    for number, settings in enumerate(COMBINATIONS):
        for seed in [(number * 3 + i) % 120 for i in range(1 + restore)]:
            settings = {**settings, "restore_best_weights": restore}
            theirs = keras.callbacks.EarlyStopping(**settings)
            ours = EarlyStopping(**settings)
            assert run(model, ours, curve(seed)) == run(model, theirs, curve(seed)), (
                settings,
                seed,
            )
            for name in ("wait", "stopped_epoch", "best", "best_epoch"):
                assert getattr(ours, name) == getattr(theirs, name), (settings, seed, name)


def test_it_is_a_drop_in(model):
    ours, theirs = EarlyStopping(), keras.callbacks.EarlyStopping()
    assert isinstance(ours, keras.callbacks.EarlyStopping)
    for name in ("monitor", "min_delta", "patience", "verbose", "mode", "baseline"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_broken_first_epoch_is_never_the_best(model, bad):
    stop = EarlyStopping(patience=3, restore_best_weights=True, baseline=0.9)
    assert run(model, stop, [bad, 0.5, 0.6, 0.7, 0.8, 0.9]) == (4, 1.0)
    assert stop.best == 0.5


def test_all_epochs_broken_keeps_the_last_weights(model):
    stop = EarlyStopping(patience=2, restore_best_weights=True)
    assert run(model, stop, [math.nan] * 5) == (1, 1.0)
    assert stop.best is None


def test_extra_epochs_are_trained_and_may_win(model):
    stop = EarlyStopping(patience=2, extra_epochs=3, restore_best_weights=True)
    assert run(model, stop, [0.5, 0.6, 0.6, 0.6, 0.4, 0.6, 0.1]) == (5, 4.0)
    assert stop.reason == ("epoch 3: no better val_loss for 2 epochs; best val_loss 0.4 in epoch 5")


def test_min_epochs(model):
    assert run(model, EarlyStopping(patience=1, min_epochs=5), [0.5] * 9)[0] == 4


def test_patience_grows_with_a_clear_improvement(model):
    falling = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5] + [0.5] * 12
    # A clear improvement after 6 epochs earns 6 * (2 - 1) epochs of waiting.
    assert run(model, EarlyStopping(patience=2, patience_increase=2.0), falling)[0] == 11
    unclear = EarlyStopping(patience=2, patience_increase=2.0, improvement_threshold=0.5)
    assert run(model, unclear, falling)[0] == 7


def test_several_monitors_train_while_any_improves(model):
    stop = EarlyStopping(
        ["val_loss", "val_accuracy"], patience=2, mode=["min", "max"], restore_best_weights=True
    )
    # One rising curve: the loss never improves after epoch 0, the accuracy does until epoch 3.
    assert run(model, stop, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4]) == (5, 0.0)
    assert "val_loss or val_accuracy" in stop.reason


def test_running_mean_ignores_a_lucky_epoch(model):
    noisy = [0.9, 0.9, 0.1, 0.9, 0.8, 0.5, 0.4, 0.4, 0.4]
    assert run(model, EarlyStopping(patience=3), noisy)[0] == 5
    smooth = EarlyStopping(patience=3, smooth=3)
    assert run(model, smooth, noisy)[0] == 8
    assert smooth.best == pytest.approx(np.mean([0.4, 0.4, 0.4]))


def reference_stop(rule, validation, training):
    """Prechelt's definitions, epoch by epoch, with nothing of the toolkit."""
    validation, training = np.asarray(validation), np.asarray(training)
    for t in range(len(validation)):
        loss = 100 * (validation[t] / validation[: t + 1].min() - 1)
        if isinstance(rule, GeneralizationLoss) and loss > rule.alpha:
            return t
        if isinstance(rule, ProgressQuotient) and (t + 1) % rule.strip == 0:
            strip = training[t + 1 - rule.strip : t + 1]
            progress = 1000 * (strip.sum() / (rule.strip * strip.min()) - 1)
            if loss / progress > rule.alpha:
                return t
        if isinstance(rule, UpInStrips) and (t + 1) % rule.strip == 0:
            ends = [t - j * rule.strip for j in range(rule.strips + 1)]
            if ends[-1] >= 0 and all(
                validation[a] > validation[b] for a, b in itertools.pairwise(ends)
            ):
                return t
    return len(validation) - 1


@pytest.mark.parametrize(
    "rule",
    [
        GeneralizationLoss(alpha=5),
        GeneralizationLoss(alpha=20),
        ProgressQuotient(alpha=0.3, strip=3),
        ProgressQuotient(alpha=2, strip=5),
        UpInStrips(strips=1, strip=2),
        UpInStrips(strips=2, strip=3),
    ],
)
def test_criteria_agree_with_a_plain_reference(model, rule):
    for seed in range(25):
        rng = np.random.default_rng(seed)
        t = np.arange(24)
        validation = 0.3 + 0.5 * np.exp(-t / 4) + 0.004 * t + rng.normal(0, 0.02, 24)
        training = 0.1 + 0.7 * np.exp(-t / 6) + rng.normal(0, 0.01, 24)
        stop = EarlyStopping(criterion=rule)
        assert run(model, stop, validation, training)[0] == reference_stop(
            rule, validation, training
        )


def test_criterion_and_patience_together_and_the_reason(model):
    stop = EarlyStopping(patience=9, criterion=GeneralizationLoss(alpha=5))
    run(model, stop, [0.5, 0.6, 0.7])
    assert stop.reason == (
        "epoch 2: GeneralizationLoss(alpha=5) fired; best val_loss 0.5 in epoch 1"
    )
    stop = EarlyStopping(patience=1, criterion=GeneralizationLoss(alpha=99))
    assert run(model, stop, [0.5, 0.6, 0.7])[0] == 1


def test_a_rising_monitor_is_turned_into_an_error(model):
    stop = EarlyStopping("val_accuracy", mode="max", criterion=GeneralizationLoss(alpha=50))
    assert run(model, stop, [0.8, 0.72, 0.68])[0] == 2  # errors 0.2, 0.28, 0.32


def test_a_perfect_validation_error_is_no_division_by_zero():
    assert not GeneralizationLoss().fires([0.5, 0.0], [])
    assert GeneralizationLoss().fires([0.0, 0.1], [])
    assert ProgressQuotient(strip=2).fires([0.1, 0.2], [0.0, 0.0])


def test_state_goes_on_where_it_was(model):
    values = [0.9, 0.5, 0.7, 0.6, 0.55, 0.6, 0.6, 0.6]
    whole = EarlyStopping(patience=4, restore_best_weights=True, smooth=2)
    expected = run(model, whole, values)
    first, second = (EarlyStopping(patience=4, restore_best_weights=True, smooth=2) for _ in "ab")
    first.set_model(model)
    first.on_train_begin()
    for epoch in range(3):
        model.set_weights([np.full((1, 1), epoch)])
        first.on_epoch_end(epoch, {"val_loss": values[epoch]})
    model.stop_training = False
    second.set_model(model)
    second.on_train_begin()
    second.set_state(first.get_state())
    for epoch in range(3, len(values)):
        model.set_weights([np.full((1, 1), epoch)])
        second.on_epoch_end(epoch, {"val_loss": values[epoch]})
        if model.stop_training:
            break
    second.on_train_end()
    assert (epoch, float(model.get_weights()[0][0, 0])) == expected
    assert second.reason == whole.reason


def test_reused_and_interrupted(model):
    stop = EarlyStopping(patience=1, restore_best_weights=True)
    with pytest.raises(ValueError, match="no best weights are kept"):
        stop.restore_best()
    first = run(model, stop, [0.5, 0.6, 0.7])
    assert run(model, stop, [0.5, 0.6, 0.7]) == first
    model.set_weights([np.full((1, 1), 9.0)])
    stop.restore_best()  # what the user calls after Ctrl-C
    assert model.get_weights()[0] == 0.0


def test_in_fit_with_an_unknown_monitor_and_direction(model):
    x = np.ones((4, 1))
    with pytest.warns(UserWarning, match="val_nothing.*Available metrics are: accuracy,loss"):
        model.fit(x, x, verbose=0, callbacks=[EarlyStopping("val_nothing", mode="min")])
    with pytest.raises(ValueError, match="mode='max'"):
        model.fit(x, x, verbose=0, callbacks=[EarlyStopping("val_nothing")])


def test_directions_of_validation_metrics(model):
    stop = EarlyStopping("val_f1_macro", patience=1)
    stop.set_model(model)
    stop.on_train_begin()
    stop.on_epoch_end(0, {"val_f1_macro": 0.5})
    stop.on_epoch_end(1, {"val_f1_macro": 0.6})
    assert stop.best == 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": ["a", "a"]}, "several different names"),
        ({"monitor": ["a", "b"], "mode": ["min"]}, "one for each monitor"),
        ({"monitor": ["a", "b"], "mode": ["min", "up"]}, "`mode` must be one of"),
        ({"extra_epochs": -1}, "`extra_epochs` must be an integer >= 0"),
        ({"min_epochs": 1.5}, "`min_epochs` must be an integer"),
        ({"smooth": 0}, "`smooth` must be an integer >= 1"),
        ({"patience_increase": 1}, "`patience_increase` must be a finite number > 1"),
        ({"improvement_threshold": -1}, "`improvement_threshold`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**arguments)


def test_bad_criteria(model):
    with pytest.raises(ValueError, match="`alpha` must be a finite number > 0"):
        GeneralizationLoss(alpha=0)
    with pytest.raises(ValueError, match="`strip` must be an integer >= 1"):
        UpInStrips(strip=0)
    with pytest.raises(ValueError, match="needs errors >= 0"):
        run(model, EarlyStopping(criterion=GeneralizationLoss()), [-0.5])
    stop = EarlyStopping(criterion=GeneralizationLoss())
    stop.set_model(model)
    stop.on_train_begin()
    with pytest.raises(ValueError, match="needs `loss` of the training data"):
        stop.on_epoch_end(0, {"val_loss": 0.5})
