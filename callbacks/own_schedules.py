"""Learning-rate schedules that Keras does not have; `schedules` is the way to make them."""

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from tltoolkit._checks import Checked, Integer, Number, Table

RATE: Table = {"initial_learning_rate": Number(above=0), "decay_steps": Integer(1)}


class _OwnSchedule(Checked, keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose settings are the fields of a dataclass."""

    def get_config(self) -> dict[str, Any]:
        """The settings, from which `from_config` makes it again."""
        return asdict(self)


@keras.saving.register_keras_serializable("tltoolkit")
@dataclass(frozen=True)
class PowerDecay(_OwnSchedule):
    """initial_learning_rate * (1 + t / decay_steps) ** -alpha."""

    table: ClassVar[Table] = {**RATE, "alpha": Number(above=0)}
    initial_learning_rate: float
    alpha: float
    decay_steps: int

    def __call__(self, step: Any) -> Any:
        """The rate at `step`."""
        t = ops.cast(step, "float32") / self.decay_steps
        return self.initial_learning_rate * ops.power(1 + t, -self.alpha)


@keras.saving.register_keras_serializable("tltoolkit")
@dataclass(frozen=True)
class LinearCosineDecay(_OwnSchedule):
    """A cosine times a falling line, with normal noise if `initial_variance` > 0.

    With T = decay_steps, t <= T, and e_t drawn from N(0, initial_variance /
    (1 + t) ** variance_decay) from (seed, t) alone, never below 0:
    initial_learning_rate * ((alpha + 1 - t / T + e_t) * (1 + cos(2 pi num_periods t / T)) / 2
    + beta).
    """

    table: ClassVar[Table] = {
        **RATE,
        "num_periods": Number(0),
        "alpha": Number(0),
        "beta": Number(0),
        "initial_variance": Number(0),
        "variance_decay": Number(0),
        "seed": Integer(),
    }
    initial_learning_rate: float
    decay_steps: int
    num_periods: float
    alpha: float
    beta: float
    initial_variance: float = 0.0
    variance_decay: float = 0.55
    seed: int = 0

    def __call__(self, step: Any) -> Any:
        """The rate at `step`."""
        # It stays where it ends, as Keras' decays do.
        t = ops.minimum(ops.cast(step, "float32"), float(self.decay_steps))
        done = t / self.decay_steps
        line = self.alpha + 1 - done
        if self.initial_variance:
            line = line + self._noise(step)
        cosine = (1 + ops.cos(2 * math.pi * self.num_periods * done)) / 2
        return self.initial_learning_rate * ops.maximum(line * cosine + self.beta, 0.0)

    def _noise(self, step: Any) -> Any:
        import tensorflow as tf

        # `keras.random` takes no tensor as a seed (Keras 3.15.1), and the step is one.
        seeds = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        t = tf.minimum(tf.cast(step, tf.float32), float(self.decay_steps))
        spread = tf.sqrt(self.initial_variance / (1 + t) ** self.variance_decay)
        return tf.random.stateless_normal((), seeds) * spread


@keras.saving.register_keras_serializable("tltoolkit")
@dataclass(frozen=True)
class OneCycle(_OwnSchedule):
    """Half a cosine from `initial` to `peak`, then half a cosine to `final`, where it stays.

    With T = decay_steps, W = warmup_fraction * T and s(u) = (1 - cos(pi u)) / 2:
    initial + (peak - initial) * s(t / W) up to W, then
    peak + (final - peak) * s((t - W) / (T - W)).
    """

    table: ClassVar[Table] = {
        "initial": Number(0),
        "peak": Number(0),
        "final": Number(0),
        "decay_steps": RATE["decay_steps"],
        "warmup_fraction": Number(above=0, below=1),
    }
    initial: float
    peak: float
    final: float
    decay_steps: int
    warmup_fraction: float

    def __call__(self, step: Any) -> Any:
        """The value at `step`."""
        done = ops.cast(step, "float32") / self.decay_steps
        rise = _half_cosine(done / self.warmup_fraction)
        fall = _half_cosine((done - self.warmup_fraction) / (1 - self.warmup_fraction))
        return self.initial + (self.peak - self.initial) * rise + (self.final - self.peak) * fall


@keras.saving.register_keras_serializable("tltoolkit")
@dataclass(frozen=True)
class TriangularCycle(_OwnSchedule):
    """Straight up from `base` to `peak` in `half_cycle_steps` and down again, over and over.

    With c = floor(t / (2 H)) whole cycles and u = t / H - 2 c, in 0..2:
    base + (peak - base) * decay ** c * (1 - |u - 1|).
    """

    table: ClassVar[Table] = {
        "base": Number(0),
        "peak": Number(0),
        "half_cycle_steps": Integer(1),
        "decay": Number(above=0, high=1),
    }
    base: float
    peak: float
    half_cycle_steps: int
    decay: float

    def __call__(self, step: Any) -> Any:
        """The value at `step`."""
        # Whole numbers first: a float32 quotient would lose the fraction late in training.
        period = 2 * self.half_cycle_steps
        whole = ops.cast(step, "int64")
        cycles = ops.cast(whole // period, "float32")
        u = ops.cast(whole % period, "float32") / self.half_cycle_steps
        height = (self.peak - self.base) * ops.power(ops.cast(self.decay, "float32"), cycles)
        return self.base + height * (1 - ops.abs(u - 1))


def _half_cosine(done: Any) -> Any:
    # Clipped, so that two halves in a row need no branch.
    return (1 - ops.cos(math.pi * ops.clip(done, 0.0, 1.0))) / 2
