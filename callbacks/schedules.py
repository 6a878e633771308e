"""Learning-rate schedules by name, each checked when it is made; Keras' own where Keras has one.

Each function returns a `keras.optimizers.schedules.LearningRateSchedule`: a callable from the
number of steps (or epochs) done, t >= 0, to a value. Give it to an optimizer, or to
`LearningRateDecay`, `MomentumSchedule` or `SpatialDropoutSchedule`. `SCHEDULES` lists them all.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from keras.optimizers import schedules as keras_schedules

from tltoolkit import _checks
from tltoolkit._checks import Number, Table
from tltoolkit.callbacks.own_schedules import (
    RATE,
    LinearCosineDecay,
    OneCycle,
    PowerDecay,
    TriangularCycle,
)

Schedule: TypeAlias = keras_schedules.LearningRateSchedule
# Of those that Keras has; ours are checked where they are.
TABLES: dict[str, Table] = {
    "step": {**RATE, "drop": Number(above=0, below=1)},
    "polynomial": {**RATE, "end_learning_rate": Number(0), "power": Number(above=0)},
    "exponential": {**RATE, "decay_rate": Number(above=0, below=1)},
    "natural_exponential": {**RATE, "decay_rate": Number(above=0)},
    "inverse_time": {**RATE, "decay_rate": Number(above=0)},
    "cosine": {**RATE, "alpha": Number(0, 1)},
    "cosine_restarts": {
        "initial_learning_rate": RATE["initial_learning_rate"],
        "first_decay_steps": RATE["decay_steps"],
        "t_mul": Number(1),
        "m_mul": Number(above=0, high=1),
        "alpha": Number(0, 1),
    },
    # Its rate is divided, where a peak of a momentum may be 0.
    "one_cycle": {"peak": Number(above=0)},
}


def piecewise_constant(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """`values[i]` while t <= boundaries[i], and the last value after that.

    >>> round(float(piecewise_constant([10, 20], [0.1, 0.01, 0.001])(15)), 6)
    0.01
    """
    for boundary in boundaries:
        _checks.integer("boundaries", boundary, 0)
    if any(later <= earlier for earlier, later in itertools.pairwise(boundaries)):
        raise _checks.fail("boundaries", "in rising order", boundaries)
    if len(values) != len(boundaries) + 1:
        raise _checks.fail("values", f"{len(boundaries) + 1} values for the boundaries", values)
    for value in values:
        _checks.number("values", value, 0)
    # Floats: Keras computes in the type of the first value (3.15.1), which must not be an int.
    return keras_schedules.PiecewiseConstantDecay(list(boundaries), [float(v) for v in values])


def step(initial_learning_rate: float, decay_steps: int, drop: float = 0.5) -> Schedule:
    """initial_learning_rate * drop ** floor(t / decay_steps), with 0 < drop < 1.

    >>> round(float(step(0.1, 10, drop=0.5)(25)), 6)
    0.025
    """
    _checks.arguments(TABLES["step"], locals())
    return keras_schedules.ExponentialDecay(
        initial_learning_rate, decay_steps, drop, staircase=True
    )


def polynomial(
    initial_learning_rate: float,
    decay_steps: int,
    end_learning_rate: float = 0.0,
    power: float = 2.0,
) -> Schedule:
    """end + (initial - end) * (1 - t / decay_steps) ** power; `end` after that.

    >>> round(float(polynomial(0.1, 10)(5)), 6)
    0.025
    """
    _checks.arguments(TABLES["polynomial"], locals())
    return keras_schedules.PolynomialDecay(
        initial_learning_rate, decay_steps, end_learning_rate, power
    )


def linear(
    initial_learning_rate: float, decay_steps: int, end_learning_rate: float = 0.0
) -> Schedule:
    """end + (initial - end) * (1 - t / decay_steps), and the floor `end` after that.

    >>> round(float(linear(0.1, 10, 0.02)(5)), 6), round(float(linear(0.1, 10, 0.02)(50)), 6)
    (0.06, 0.02)
    """
    return polynomial(initial_learning_rate, decay_steps, end_learning_rate, power=1.0)


def exponential(
    initial_learning_rate: float, decay_steps: int, decay_rate: float = 0.5
) -> Schedule:
    """initial_learning_rate * decay_rate ** (t / decay_steps), with 0 < decay_rate < 1.

    >>> round(float(exponential(0.1, 10, 0.5)(20)), 6)
    0.025
    """
    _checks.arguments(TABLES["exponential"], locals())
    return keras_schedules.ExponentialDecay(initial_learning_rate, decay_steps, decay_rate)


def natural_exponential(
    initial_learning_rate: float, decay_steps: int, decay_rate: float = 1.0
) -> Schedule:
    """initial_learning_rate * exp(-decay_rate * t / decay_steps), with decay_rate > 0.

    >>> round(float(natural_exponential(1.0, 10)(10)), 5)
    0.36788
    """
    _checks.arguments(TABLES["natural_exponential"], locals())
    # The same curve, so that Keras' own schedule does it.
    return exponential(initial_learning_rate, decay_steps, math.exp(-decay_rate))


def inverse_time(
    initial_learning_rate: float, decay_steps: int, decay_rate: float = 1.0
) -> Schedule:
    """initial_learning_rate / (1 + decay_rate * t / decay_steps), with decay_rate > 0.

    >>> round(float(inverse_time(0.1, 10)(10)), 6)
    0.05
    """
    _checks.arguments(TABLES["inverse_time"], locals())
    return keras_schedules.InverseTimeDecay(initial_learning_rate, decay_steps, decay_rate)


def power(initial_learning_rate: float, alpha: float = 0.5, decay_steps: int = 1) -> Schedule:
    """initial_learning_rate * (1 + t / decay_steps) ** -alpha, with alpha > 0.

    >>> round(float(power(0.1)(3)), 6)
    0.05
    """
    return PowerDecay(initial_learning_rate, alpha, decay_steps)


def cosine(initial_learning_rate: float, decay_steps: int, alpha: float = 0.0) -> Schedule:
    """initial_learning_rate * (alpha + (1 - alpha) * (1 + cos(pi t / decay_steps)) / 2).

    `alpha`, in 0..1, is the share that stays. Source: Loshchilov and Hutter, "SGDR: Stochastic
    Gradient Descent with Warm Restarts", 2017.

    >>> round(float(cosine(0.1, 10)(5)), 6)
    0.05
    """
    _checks.arguments(TABLES["cosine"], locals())
    return keras_schedules.CosineDecay(initial_learning_rate, decay_steps, alpha)


def cosine_restarts(
    initial_learning_rate: float,
    first_decay_steps: int,
    t_mul: float = 2.0,
    m_mul: float = 1.0,
    alpha: float = 0.0,
) -> Schedule:
    """`cosine` over and over; each period is `t_mul` times as long, `m_mul` times as high.

    `t_mul` >= 1, 0 < `m_mul` <= 1. Source: Loshchilov and Hutter, 2017.

    >>> round(float(cosine_restarts(0.1, 10)(10)), 6)
    0.1
    """
    _checks.arguments(TABLES["cosine_restarts"], locals())
    return keras_schedules.CosineDecayRestarts(
        initial_learning_rate, first_decay_steps, t_mul, m_mul, alpha
    )


def linear_cosine(
    initial_learning_rate: float,
    decay_steps: int,
    num_periods: float = 0.5,
    alpha: float = 0.0,
    beta: float = 0.001,
) -> Schedule:
    """initial * ((alpha + 1 - t / T) * (1 + cos(2 pi num_periods t / T)) / 2 + beta).

    T is `decay_steps`; t stops there. Source: Bello et al., "Neural Optimizer Search with
    Reinforcement Learning", 2017.

    >>> round(float(linear_cosine(0.1, 10, beta=0.0)(5)), 6)
    0.025
    """
    return LinearCosineDecay(initial_learning_rate, decay_steps, num_periods, alpha, beta)


def noisy_linear_cosine(
    initial_learning_rate: float,
    decay_steps: int,
    initial_variance: float = 1.0,
    variance_decay: float = 0.55,
    num_periods: float = 0.5,
    alpha: float = 0.0,
    beta: float = 0.001,
    seed: int = 0,
) -> Schedule:
    """`linear_cosine` with e_t ~ N(0, initial_variance / (1 + t) ** variance_decay) on alpha.

    e_t depends on (seed, t) alone, so a run can be repeated and resumed; a rate below 0 becomes
    0. Source: Bello et al., 2017.

    >>> noisy = noisy_linear_cosine(0.1, 10)
    >>> float(noisy(3)) == float(noisy(3)) != float(noisy_linear_cosine(0.1, 10, seed=1)(3))
    True
    """
    return LinearCosineDecay(
        initial_learning_rate,
        decay_steps,
        num_periods,
        alpha,
        beta,
        initial_variance,
        variance_decay,
        seed,
    )


def one_cycle(
    peak: float,
    decay_steps: int,
    warmup_fraction: float = 0.3,
    initial: float | None = None,
    final: float | None = None,
) -> Schedule:
    """Half a cosine from `initial` (peak / 25) up to `peak`, then one down to `final` (peak / 1e4).

    The rise takes `warmup_fraction` of `decay_steps`. For the momentum that goes with it:
    `one_cycle(0.85, decay_steps, initial=0.95, final=0.95)`. Source: Smith and Topin,
    "Super-Convergence", 2018.

    >>> [round(float(one_cycle(0.1, 10)(t)), 5) for t in (0, 3, 10)]
    [0.004, 0.1, 1e-05]
    """
    _checks.arguments(TABLES["one_cycle"], locals())
    # 25 is PyTorch's and fastai's; the end need only be too small to matter.
    return OneCycle(
        peak / 25 if initial is None else initial,
        peak,
        peak / 1e4 if final is None else final,
        decay_steps,
        warmup_fraction,
    )


def triangular(base: float, peak: float, half_cycle_steps: int, decay: float = 1.0) -> Schedule:
    """Up from `base` to `peak` in `half_cycle_steps` and down again, over and over.

    Each cycle is `decay` times as high as the one before: 0.5 is the paper's "triangular2".
    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.

    >>> [round(float(triangular(0.01, 0.1, 10, decay=0.5)(t)), 6) for t in (0, 10, 20, 30)]
    [0.01, 0.1, 0.01, 0.055]
    """
    return TriangularCycle(base, peak, half_cycle_steps, decay)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "piecewise_constant": piecewise_constant,
    "step": step,
    "polynomial": polynomial,
    "linear": linear,
    "exponential": exponential,
    "natural_exponential": natural_exponential,
    "inverse_time": inverse_time,
    "power": power,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "linear_cosine": linear_cosine,
    "noisy_linear_cosine": noisy_linear_cosine,
    "one_cycle": one_cycle,
    "triangular": triangular,
}
