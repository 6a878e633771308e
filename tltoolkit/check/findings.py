"""What can be wrong between data and model, in sentences; NumPy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit.model.network import Network
from tltoolkit.model.outputs import SIGMOID, SOFTMAX

# A loss this many times that of guessing is too large for a head that knows nothing.
TOO_LARGE = 2.0
# By so many standard errors the probe must beat the most frequent class.
ERRORS = 2.0


@dataclass(frozen=True, kw_only=True)
class Range:
    """Smallest, mean and largest value, and the standard deviation."""

    low: float
    mean: float
    high: float
    deviation: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> "Range":
        """The range of an array."""
        # The mean of millions of pixels loses digits in float32.
        values = values.astype(np.float64)
        low, high = float(values.min()), float(values.max())
        return cls(low=low, mean=float(values.mean()), high=high, deviation=float(values.std()))

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}, mean {self.mean:.3g} +- {self.deviation:.3g}"


def shown(value: float | None) -> str:
    """A number with three decimals, or a word where there is none."""
    return "not known" if value is None else f"{value:.3f}"


def label_form(data: Any) -> str:
    """The form of the labels in words."""
    kind = "any number of" if data.multi_label else "one of"
    return f"{kind} {len(data.class_names)} classes per image"


def head_form(network: Network) -> str:
    """The form of the outputs in words."""
    return f"{network.classes} outputs, {network.activation or 'logits'}"


def fits(network: Network, data: Any) -> tuple[str, ...]:
    """Why labels and head do not fit."""
    found = []
    one_for_two = network.one_for_two(data.multi_label)
    if len(data.class_names) != (2 if one_for_two else network.classes):
        found.append(
            f"the head has {network.classes} outputs and the labels {len(data.class_names)} classes"
        )
    elif network.settings is not None and network.settings.class_names != data.class_names:
        found.append(
            f"the model's classes are {network.settings.class_names}, those of the data "
            f"{data.class_names}"
        )
    if network.activation == SOFTMAX and network.classes == 1:
        found.append("the head's softmax has a single output, which is always 1")
    if network.activation == SOFTMAX and data.multi_label:
        found.append("an image has several labels, but the head's softmax allows only one")
    if network.activation == SIGMOID and not data.multi_label and not one_for_two:
        found.append("an image has one label, but the head's sigmoids are independent")
    return tuple(found)


def of_ranges(pixels: Range, preprocessed: Range | None) -> tuple[str, ...]:
    """Pixels that are none, or that the preprocessing does not fit."""
    if pixels.low == pixels.high:
        return (f"all pixels are {pixels.low:g}",)
    # Before the ranges after preprocessing, which follow from this one.
    if pixels.high <= 1:
        return ("pixels reach only from 0 to 1 of 255: were images of 0..1 converted to uint8?",)
    if preprocessed is None:
        return ()
    low, high = preprocessed.low, preprocessed.high
    if not np.isfinite([low, high]).all():
        return ("the preprocessing makes infinite values or NaN",)
    # No usual scaling goes so far without negative values: 0..1 is the only one without.
    if low >= 0 and high > 16:
        return (
            f"the first layer with weights receives {low:.3g} to {high:.3g}: raw pixels; does the "
            "model lack its preprocessing?",
        )
    # The narrowest usual range, 0..1, is ten times as wide.
    if high - low < 0.1:
        return (
            f"the first layer with weights receives only {low:.3g} to {high:.3g}: are pixels "
            "scaled twice?",
        )
    return ()


def of_loss(loss: float | None, guess_loss: float) -> tuple[str, ...]:
    """A head that is sure of itself before it has learned anything."""
    if loss is None or loss <= TOO_LARGE * guess_loss:
        return ()
    return (
        f"the loss is {loss:.3g} before training, against {guess_loss:.3g} for guessing: the "
        "head's first outputs are too large, or it was trained on other labels",
    )


def of_probe(accuracy: float | None, error: float, majority: float) -> tuple[str, ...]:
    """Features that say nothing about the labels."""
    if accuracy is None or accuracy > majority + ERRORS * error:
        return ()
    return (
        f"a linear probe is right in {accuracy:.3f} and the most frequent class in {majority:.3f}: "
        "the features say nothing about the labels; do labels belong to their images, and does "
        "the preprocessing fit the weights?",
    )


def label_text(row: NDArray[Any], class_names: Sequence[str]) -> str:
    """The class names of a row of targets."""
    return "|".join(class_names[int(i)] for i in np.flatnonzero(np.asarray(row) > 0.5))
