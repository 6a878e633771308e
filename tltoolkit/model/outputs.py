"""What the outputs of a user's own model mean: seen in its graph and in its values."""

import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.layers.random_states import same_random_state
from tltoolkit.model.terms import FROM_LOGITS

LOGITS, SOFTMAX, SIGMOID = "", "softmax", "sigmoid"
# How far probabilities may be from a sum of 1: rounding, which is coarser in half precision.
TOLERANCES = {"float16": 1e-2, "bfloat16": 2e-2}
# Of float32, in which a softmax over many classes is off by less.
TOLERANCE = 1e-3
# Pixels so many times too large drive logits out of 0..1, and still fit float16.
FAR = 50
# Operations of TensorFlow that change the type or shape of values, or nothing.
PASSING = ("Identity", "Cast", "Reshape", "Squeeze", "ExpandDims", "EnsureShape", "StopGradient")
# A product of matrices, or its bias, comes last where there is no activation.
ACTIVATIONS = {
    "Softmax": SOFTMAX,
    "Sigmoid": SIGMOID,
    "MatMul": LOGITS,
    "BatchMatMulV2": LOGITS,
    "BiasAdd": LOGITS,
}

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Seen:
    """Outputs (N, C) for some images, and how exact they are."""

    values: NDArray[np.float32]
    tolerance: float

    @property
    def finite(self) -> bool:
        """Whether none is NaN or infinite."""
        return bool(np.isfinite(self.values).all())

    @property
    def outside(self) -> bool:
        """Whether one is no probability."""
        return bool(((self.values < -self.tolerance) | (self.values > 1 + self.tolerance)).any())

    @property
    def sum_to_one(self) -> bool:
        """Whether every row does, as that of a softmax."""
        sums = self.values.sum(axis=1)
        return self.finite and not self.outside and bool((abs(sums - 1) <= self.tolerance).all())

    @property
    def differ(self) -> bool:
        """Whether they depend on the image."""
        return bool((np.ptp(self.values, axis=0) > self.tolerance).any())


@same_random_state()
def activation_of(
    model: Any, shape: Shape, from_logits: bool | str = "auto", multi_label: bool = False
) -> str:
    """What a model's outputs went through: `"softmax"`, `"sigmoid"`, or `""` if they are logits.

    The last operation of its graph tells, together with its outputs for a few test images: rows
    of numbers >= 0 that sum to 1 are probabilities, numbers outside 0..1 are logits. The model
    and all random states stay as they are.

    Args:
        model: A built Keras model with one output (B, C).
        shape: Height, width and channels of its images.
        from_logits: True or False where the user says whether the outputs are logits.
        multi_label: Whether an image may have several labels; decides what numbers in 0..1 are
            that nothing else explains.

    Raises:
        ValueError: `from_logits=False` for outputs that are not in 0..1.

    Warns:
        UserWarning: Nothing tells for certain.
    """
    FROM_LOGITS.check("from_logits", from_logits)
    # Without a look at the outputs, which could only doubt what the user knows.
    if from_logits is True:
        return LOGITS
    probe = Probe(model, shape)
    seen = probe.outputs(_images(shape))
    # One output of two classes is a sigmoid, as several labels are.
    several = multi_label or seen.values.shape[1] == 1
    if from_logits is False:
        return _as_stated(probe.last, seen, several)
    found = _told(probe, seen)
    return _guess(model, seen, several) if found is None else found


class Probe:
    """A model's graph in inference mode, traced without touching the model.

    Attributes:
        last: The activation that its last operation is, `""` for a product of matrices; None
            for any other.
    """

    def __init__(self, model: Any, shape: Shape) -> None:
        pixels = tf.TensorSpec((None, *shape), tf.float32)
        function = tf.function(lambda x: model(x, training=False), autograph=False)
        # What the model assigns when it is called stays in the scope.
        with keras.StatelessScope():
            self.graph = function.get_concrete_function(pixels)
        self.shape = shape
        self.last = _last(self.graph.outputs[0])
        self.tolerance = _tolerance(self.graph.graph)

    def outputs(self, images: NDArray[np.float32]) -> Seen:
        """What the model says of images (N, H, W, channels)."""
        (values,) = tf.nest.flatten(self.graph(tf.constant(images)))
        return Seen(tf.cast(values, tf.float32).numpy(), self.tolerance)


def _told(probe: Probe, seen: Seen) -> str | None:
    """What graph and values say; None where they say nothing."""
    # Values come first: no activation leaves 0..1.
    if seen.finite and seen.outside:
        return LOGITS
    if probe.last == SIGMOID or (probe.last == SOFTMAX and (seen.sum_to_one or not seen.finite)):
        return probe.last
    # Logits of a head that begins at zero are all the same, and may happen to sum to 1.
    if seen.sum_to_one and seen.values.shape[1] > 1 and (seen.differ or probe.last != LOGITS):
        return SOFTMAX
    if probe.last == LOGITS or probe.outputs(_far(probe.shape)).outside:
        return LOGITS
    return None


def _as_stated(last: str | None, seen: Seen, several: bool) -> str:
    if seen.finite and seen.outside:
        low, high = seen.values.min(), seen.values.max()
        rule = f"True or 'auto' for a model with outputs from {low:.3g} to {high:.3g}"
        raise _checks.fail("from_logits", rule, False)
    if last in (SOFTMAX, SIGMOID):
        return str(last)
    # The user says probabilities: only which kind is left to tell.
    return SIGMOID if several or (seen.finite and not seen.sum_to_one) else SOFTMAX


def _guess(model: Any, seen: Seen, several: bool) -> str:
    scores = seen.finite and several
    what = "lie in 0..1 without a sum of 1" if seen.finite else "are not finite"
    warnings.warn(
        f"what the outputs of {model.name} mean is not certain: for test images they {what}. They "
        f"are taken for {'probabilities' if scores else 'logits'}; from_logits=True states that "
        "they are logits, from_logits=False that they are probabilities",
        stacklevel=2,
    )
    return SIGMOID if scores else LOGITS


def _last(tensor: Any) -> str | None:
    operation = tensor.op
    # A mixed precision policy, a Flatten or an Identity may come after the activation.
    while operation.type in PASSING:
        operation = operation.inputs[0].op
    return ACTIVATIONS.get(operation.type)


def _tolerance(graph: Any) -> float:
    """That of the coarsest precision of the graph: outputs may be float32 and not as exact."""
    used = {made.dtype.name for operation in graph.get_operations() for made in operation.outputs}
    return max((TOLERANCES[name] for name in used & TOLERANCES.keys()), default=TOLERANCE)


def _images(shape: Shape) -> NDArray[np.float32]:
    """Black, white, noise, slopes and halves: (7, H, W, channels) of 0..255."""
    height, width, _ = shape
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
    # The same images each time, so that the answer is the same.
    noise = np.random.default_rng(0).random((2, *shape))
    shown = [0, 1, down, across, down < across, noise[0], noise[1] ** 4]
    return np.stack([np.broadcast_to(np.float32(255 * one), shape) for one in shown])


def _far(shape: Shape) -> NDArray[np.float32]:
    """The same, stretched far beyond what pixels can be, to either side."""
    away = (_images(shape) - 127.5) * FAR
    # To both sides, as a layer such as ReLU may be blind to one.
    return np.concatenate([away, -away])
