"""LearningRateDecay, ReduceLROnPlateau and MomentumSchedule against Keras' own on real fits."""

import itertools
import math

import keras
import numpy as np
import pytest

from tltoolkit.callbacks import (
    LearningRateDecay,
    MomentumSchedule,
    ReduceLROnPlateau,
    schedules,
)

X = np.linspace(-1, 1, 24, dtype="float32").reshape(12, 2)
Y = X @ np.array([[2.0], [-1.0]], dtype="float32")


def build(optimizer, **compile_arguments):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[0.3], [0.1]]), np.zeros(1)])
    model.compile(optimizer, "mse", **compile_arguments)
    # Otherwise the first step makes its variables, and is traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, *callbacks, epochs=6, **arguments):
    return model.fit(
        X,
        Y,
        batch_size=4,
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
        **arguments,
    ).history


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "step"])
def test_by_step_trains_as_the_same_schedule_inside_the_optimizer(name):
    settings = {"peak": 0.3} if name == "one_cycle" else {"initial_learning_rate": 0.3}
    make = schedules.SCHEDULES[name]
    inside = build(keras.optimizers.SGD(make(decay_steps=15, **settings)))
    outside = build(keras.optimizers.SGD(0.5))
    fit(inside)
    fit(outside, LearningRateDecay(make(decay_steps=15, **settings), by="step"))
    for ours, theirs in zip(outside.get_weights(), inside.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_by_epoch_trains_as_keras_scheduler():
    def halve(epoch):
        return 0.3 * 0.5**epoch

    ours, theirs = build(keras.optimizers.SGD(0.5)), build(keras.optimizers.SGD(0.5))
    history = fit(ours, LearningRateDecay(halve))
    expected = fit(theirs, keras.callbacks.LearningRateScheduler(lambda e, _: halve(e)))
    assert history["learning_rate"] == expected["learning_rate"]
    assert history["loss"] == expected["loss"]


def test_by_step_far_into_training_and_over_two_fits():
    model = build(keras.optimizers.SGD(0.5))
    decay = LearningRateDecay(schedules.linear(1.0, 5000), by="step")
    model.optimizer.iterations.assign(2047)
    fit(model, decay, epochs=1)
    assert model.optimizer.learning_rate.numpy() == pytest.approx(1 - 2049 / 5000)
    fit(model, decay, epochs=1)
    assert model.optimizer.learning_rate.numpy() == pytest.approx(1 - 2052 / 5000)


def test_warmup_climbs_then_starts_the_schedule():
    decay = LearningRateDecay(schedules.linear(1.0, 10), warmup=4)
    assert [round(decay.value(t), 6) for t in range(7)] == [0.2, 0.4, 0.6, 0.8, 1.0, 0.9, 0.8]


@pytest.mark.parametrize("plateau_class", [ReduceLROnPlateau, keras.callbacks.ReduceLROnPlateau])
@pytest.mark.parametrize("plateau_first", [True, False])
@pytest.mark.parametrize("by", ["epoch", "step"])
def test_plateau_composes_in_any_order(plateau_class, plateau_first, by):
    plateau = plateau_class("loss", factor=0.5, patience=2, min_delta=1e9)
    decay = LearningRateDecay(schedules.exponential(0.01, 1 if by == "epoch" else 3, 0.9), by=by)
    pair = [plateau, decay] if plateau_first else [decay, plateau]
    history = fit(build(keras.optimizers.SGD(0.5)), *pair, epochs=8)
    # The first epoch is the best; reductions after epochs 2, 4 and 6.
    last_step = 2 / 3 if by == "step" else 0
    expected = [
        0.01 * 0.9 ** (e + last_step) * 0.5 ** ((e - 1) // 2 if e > 2 else 0) for e in range(8)
    ]
    np.testing.assert_allclose(history["learning_rate"], expected, rtol=1e-5)


def rates_of_curve(callback, curve, model=None):
    model = model or build("sgd")
    model.optimizer.learning_rate = 0.1
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(curve):
        callback.on_epoch_end(epoch, {"val_loss": value})
        rates.append(float(model.optimizer.learning_rate))
    return rates


def test_plateau_is_keras_own_on_every_combination():
    settings = itertools.product(
        ("auto", "min", "max"), (0.1, 0.5), (1, 3), (0.0, 0.05), (0, 2), (0.0, 0.02)
    )
    names = ("mode", "factor", "patience", "min_delta", "cooldown", "min_lr")
    model = build("sgd")
    for number, values in enumerate(settings):
        arguments = dict(zip(names, values, strict=True))
        for seed in (2 * number,) if number % 2 else (2 * number + 1,):  # 96 curves
            rng = np.random.default_rng(seed)
            curve = list(0.9 - 0.03 * np.arange(14) + rng.normal(0, 0.1, 14))
            curve[5] = math.nan if seed % 3 == 0 else curve[5]
            theirs = rates_of_curve(keras.callbacks.ReduceLROnPlateau(**arguments), curve, model)
            assert rates_of_curve(ReduceLROnPlateau(**arguments), curve, model) == theirs, arguments


def test_plateau_never_takes_nan_as_the_best():
    callback = ReduceLROnPlateau(patience=2)
    assert rates_of_curve(callback, [math.nan, 0.5, 0.4])[-1] == pytest.approx(0.1)
    assert callback.best == 0.4


def test_plateau_scales_a_schedule_inside_the_optimizer(tmp_path):
    model = build(keras.optimizers.SGD(schedules.linear(0.1, 1000)))
    fit(model, epochs=1)  # the step is traced before the schedule becomes scalable
    fit(model, ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e9), epochs=3)
    rate = float(model.optimizer.learning_rate)
    assert rate == pytest.approx(0.1 * (1 - 12 / 1000) * 0.01, rel=1e-5)
    before = model.get_weights()
    fit(model, epochs=1)
    moved = np.abs(model.get_weights()[0] - before[0]).max()
    unscaled = build(keras.optimizers.SGD(0.1 * (1 - 13 / 1000)))
    unscaled.set_weights(before)
    fit(unscaled, epochs=1)
    assert moved < 0.05 * np.abs(unscaled.get_weights()[0] - before[0]).max()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(
        float(model.optimizer.learning_rate)
    )


def multi():
    # Four variables in two layers, each with its own rate.
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, name="slow"), keras.layers.Dense(1, name="quick")]
    )
    optimizers = {".*slow.*": keras.optimizers.SGD(0.01, momentum=0.5, name="a")}
    default = keras.optimizers.Adam(0.1, name="b")
    optimizer_map = keras.optimizers.OptimizerMap(default, optimizers)
    model.compile(keras.optimizers.MultiOptimizer(optimizer_map), "mse")
    return model


def test_rates_of_a_multi_optimizer_keep_their_ratio():
    plateau = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    history = fit(multi(), LearningRateDecay(schedules.linear(1.0, 10)), plateau, epochs=3)
    np.testing.assert_allclose(history["learning_rate_b"], [1.0, 0.9, 0.4], rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate_a"], [0.1, 0.09, 0.04], rtol=1e-6)


def deferred(optimizer):
    """A model that gets its weights in its first step."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def test_a_model_may_get_its_weights_in_its_first_step():
    kept = [
        LearningRateDecay(lambda epoch: 0.1 / 2**epoch),
        ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9),
        MomentumSchedule(lambda epoch: 0.5),
    ]
    history = fit(deferred(keras.optimizers.SGD(0.3, momentum=0.9)), *kept, epochs=3)
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05, 0.0125], rtol=1e-6)
    several = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1, momentum=0.9))
    )
    for callback in kept:
        with pytest.raises(ValueError, match="give the model its input first"):
            fit(deferred(several), callback)


def test_a_rate_that_ended_at_zero_does_not_stay_there():
    model = multi()
    decay = LearningRateDecay(schedules.linear(1.0, 2))
    fit(model, decay, epochs=3)
    history = fit(model, decay, epochs=1)
    assert history["learning_rate_a"][0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda m: keras.optimizers.SGD(0.01, momentum=m, nesterov=True), "momentum"),
        (lambda m: keras.optimizers.RMSprop(0.01, momentum=m), "momentum"),
        (lambda m: keras.optimizers.Adam(0.01, beta_1=m), "beta_1"),
        (lambda m: keras.optimizers.Nadam(0.01, beta_1=m), "beta_1"),
    ],
)
def test_momentum_works_in_the_compiled_step(make, name):
    momenta = [0.9, 0.2, 0.99]
    model = build(make(0.5))
    fit(model, epochs=1)  # an old trace is there

    # The reference traces anew for every value.
    reference = build(make(0.5))
    fit(reference, epochs=1)
    for momentum in momenta:
        setattr(reference.optimizer, name, momentum)
        reference.make_train_function(force=True)
        fit(reference, epochs=1)
    history = fit(model, MomentumSchedule(lambda epoch: momenta[epoch]), epochs=3)
    np.testing.assert_allclose(history["momentum"], momenta, rtol=1e-6)
    for ours, theirs in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    assert type(getattr(model.optimizer, name)) is float
    assert model.optimizer.get_config()[name] == pytest.approx(0.99)


def test_momentum_does_not_retrace():
    traces = []

    class Counting(keras.Sequential):
        def train_step(self, data):
            traces.append(1)
            return super().train_step(data)

    counts = []
    for callbacks in ([], [MomentumSchedule(schedules.linear(0.9, 6, 0.1))]):
        model = Counting([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
        fit(model, *callbacks, epochs=5)
        counts.append(len(traces))
    assert counts[1] == 2 * counts[0]


def test_momentum_needs_some_and_stays_below_one():
    with pytest.raises(ValueError, match="SGD has no momentum to schedule"):
        fit(build(keras.optimizers.SGD(0.1)), MomentumSchedule(lambda _: 0.5))
    with pytest.raises(ValueError, match="`the value of schedule` must be .* < 1"):
        fit(build("adam"), MomentumSchedule(lambda _: 1.0))


def test_refusals():
    with pytest.raises(ValueError, match="compile it with a number"):
        fit(
            build(keras.optimizers.SGD(schedules.linear(0.1, 5))),
            LearningRateDecay(schedules.linear(0.1, 5)),
        )
    with pytest.raises(ValueError, match="`schedule` must be a Keras schedule or a function"):
        LearningRateDecay(0.1)
    with pytest.raises(ValueError, match="`by` must be one of 'epoch', 'step'"):
        LearningRateDecay(schedules.linear(0.1, 5), by="batch")
    with pytest.raises(ValueError, match="`warmup` must be an integer >= 0"):
        LearningRateDecay(schedules.linear(0.1, 5), warmup=-1)
    with pytest.raises(ValueError, match="the schedule gives nan at epoch 0"):
        fit(build("sgd"), LearningRateDecay(lambda _: math.nan))
    with pytest.warns(
        UserWarning, match="`val_loss`, which is not in the logs: loss, learning_rate"
    ):
        fit(build("sgd"), ReduceLROnPlateau(), epochs=1)
