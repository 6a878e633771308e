"""Every schedule against its closed form in float64, and through its config."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tltoolkit.callbacks.schedules import SCHEDULES

HALF = {"initial_learning_rate": 0.1, "decay_steps": 400}


def restarts(t, first=100, t_mul=2.0, m_mul=0.5, alpha=0.1):
    height, length = 1.0, float(first)
    while t >= length:
        t, height, length = t - length, height * m_mul, length * t_mul
    return 0.1 * ((1 - alpha) * height * (1 + math.cos(math.pi * t / length)) / 2 + alpha)


def cycle(t, base=0.01, peak=0.1, half=70, decay=0.5):
    cycles = t // (2 * half)
    position = t - 2 * half * cycles
    up = position if position <= half else 2 * half - position
    return base + (peak - base) * decay**cycles * up / half


def one_cycle(t, steps=900, warm=270):
    if t <= warm:
        return 0.004 + 0.096 * (1 - math.cos(math.pi * t / warm)) / 2
    t = min(t, steps)
    return 0.1 + (1e-5 - 0.1) * (1 - math.cos(math.pi * (t - warm) / (steps - warm))) / 2


def falling_cosine(t):
    done = min(t, 400) / 400
    return 0.1 * ((0.05 + 1 - done) * (1 + math.cos(2 * math.pi * 2 * done)) / 2 + 0.01)


# name -> (arguments, closed form)
CASES = {
    "piecewise_constant": (
        {"boundaries": [100, 500], "values": [0.1, 0.05, 0.01]},
        lambda t: 0.1 if t <= 100 else 0.05 if t <= 500 else 0.01,
    ),
    "step": ({**HALF, "decay_steps": 150, "drop": 0.3}, lambda t: 0.1 * 0.3 ** (t // 150)),
    "polynomial": (
        {**HALF, "end_learning_rate": 0.01, "power": 3.0},
        lambda t: 0.01 + 0.09 * (1 - min(t, 400) / 400) ** 3,
    ),
    "linear": (
        {**HALF, "end_learning_rate": 0.01},
        lambda t: 0.01 + 0.09 * (1 - min(t, 400) / 400),
    ),
    "exponential": ({**HALF, "decay_rate": 0.3}, lambda t: 0.1 * 0.3 ** (t / 400)),
    "natural_exponential": (
        {**HALF, "decay_rate": 1.7},
        lambda t: 0.1 * math.exp(-1.7 * t / 400),
    ),
    "inverse_time": ({**HALF, "decay_rate": 0.7}, lambda t: 0.1 / (1 + 0.7 * t / 400)),
    "power": (
        {"initial_learning_rate": 0.1, "alpha": 0.6, "decay_steps": 10},
        lambda t: 0.1 * (1 + t / 10) ** -0.6,
    ),
    "cosine": (
        {**HALF, "alpha": 0.1},
        lambda t: 0.1 * (0.1 + 0.9 * (1 + math.cos(math.pi * min(t, 400) / 400)) / 2),
    ),
    "cosine_restarts": (
        {"initial_learning_rate": 0.1, "first_decay_steps": 100, "m_mul": 0.5, "alpha": 0.1},
        restarts,
    ),
    "linear_cosine": (
        {**HALF, "num_periods": 2.0, "alpha": 0.05, "beta": 0.01},
        falling_cosine,
    ),
    "noisy_linear_cosine": (
        {**HALF, "num_periods": 2.0, "alpha": 0.05, "beta": 0.01, "initial_variance": 0.0},
        falling_cosine,
    ),
    "one_cycle": ({"peak": 0.1, "decay_steps": 900}, one_cycle),
    "triangular": (
        {"base": 0.01, "peak": 0.1, "half_cycle_steps": 70, "decay": 0.5},
        cycle,
    ),
}


def values(schedule, steps):
    def value(step):
        return tf.cast(schedule(step), tf.float32)

    spec = tf.TensorSpec((), tf.float32)
    steps = tf.constant(list(steps), tf.int64)
    return tf.function(lambda s: tf.map_fn(value, s, fn_output_signature=spec))(steps).numpy()


def test_every_schedule_has_a_case():
    assert list(CASES) == list(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_closed_form_at_1000_steps(name):
    arguments, closed = CASES[name]
    got = values(SCHEDULES[name](**arguments), range(1000))
    expected = np.array([closed(t) for t in range(1000)])
    assert np.abs(got - expected).max() < 1e-6


@pytest.mark.parametrize("name", SCHEDULES)
def test_round_trip_through_config_and_optimizer(name):
    made = SCHEDULES[name](**CASES[name][0])
    assert isinstance(made, keras.optimizers.schedules.LearningRateSchedule)
    copies = [
        type(made).from_config(made.get_config()),
        keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(made)),
    ]
    config = keras.optimizers.serialize(keras.optimizers.SGD(made))
    copies.append(keras.optimizers.deserialize(config)._learning_rate)
    steps = (0, 1, 99, 333, 999)
    for copy in copies:
        assert type(copy) is type(made)
        assert (values(copy, steps) == values(made, steps)).all()


def test_noise_has_its_variance_and_its_seed():
    noisy = SCHEDULES["noisy_linear_cosine"]
    settings = {"decay_steps": 10**6, "initial_variance": 0.01, "variance_decay": 0.0, "beta": 0.0}
    drawn = values(noisy(1.0, **settings), range(1000))
    residual = drawn - values(SCHEDULES["linear_cosine"](1.0, 10**6, beta=0.0), range(1000))
    assert abs(residual.mean()) < 0.01
    assert residual.std() == pytest.approx(0.1, rel=0.1)
    assert (drawn == values(noisy(1.0, **settings), range(1000))).all()
    assert (drawn != values(noisy(1.0, seed=1, **settings), range(1000))).any()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("piecewise_constant", {"boundaries": [5, 3], "values": [1, 2, 3]}, "in rising order"),
        ("piecewise_constant", {"boundaries": [5], "values": [1]}, "2 values for the boundaries"),
        ("piecewise_constant", {"boundaries": [-1], "values": [1, 2]}, "`boundaries` must be an"),
        ("piecewise_constant", {"boundaries": [1], "values": [1, math.nan]}, "`values` must be"),
        ("step", {**HALF, "drop": 1.5}, "`drop` must be a finite number > 0 and < 1"),
        ("step", {**HALF, "decay_steps": -4}, "`decay_steps` must be an integer >= 1"),
        ("polynomial", {**HALF, "power": 0}, "`power`"),
        ("linear", {**HALF, "end_learning_rate": -1}, "`end_learning_rate`"),
        ("exponential", {**HALF, "decay_rate": 2}, "`decay_rate`"),
        ("natural_exponential", {**HALF, "decay_rate": 0}, "`decay_rate`"),
        ("inverse_time", {**HALF, "decay_rate": -1}, "`decay_rate`"),
        ("power", {"initial_learning_rate": 0.1, "alpha": 0}, "`alpha`"),
        ("cosine", {**HALF, "alpha": 2}, "`alpha`"),
        ("cosine", {"initial_learning_rate": 0, "decay_steps": 1}, "`initial_learning_rate`"),
        ("cosine_restarts", {"initial_learning_rate": 1, "first_decay_steps": 0}, "`first_decay"),
        (
            "cosine_restarts",
            {"initial_learning_rate": 1, "first_decay_steps": 9, "t_mul": 0.5},
            "`t",
        ),
        ("linear_cosine", {**HALF, "num_periods": -1}, "`num_periods`"),
        ("noisy_linear_cosine", {**HALF, "initial_variance": -1}, "`initial_variance`"),
        ("one_cycle", {"peak": 0.1, "decay_steps": 5, "warmup_fraction": 1.0}, "`warmup_fraction`"),
        ("triangular", {"base": 0, "peak": 1, "half_cycle_steps": 0}, "`half_cycle_steps`"),
        ("triangular", {"base": 0, "peak": 1, "half_cycle_steps": 5, "decay": 0}, "`decay`"),
    ],
)
def test_impossible_schedules_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        SCHEDULES[name](**arguments)
