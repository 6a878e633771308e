"""Temperature scaling (Guo et al. 2017): softer or sharper probabilities, the same order."""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from tltoolkit._checks import SWITCH, Checked, Number, Table
from tltoolkit.evaluation.figures import Figures
from tltoolkit.evaluation.inputs import FloatArray

_RANGE = (0.05, 20.0)  # beyond, all answers are nearly certain or nearly equal


@dataclass(frozen=True, kw_only=True)
class Temperature(Checked):
    """Divide the logits by `value`: above 1 softens, below 1 sharpens.

    Attributes:
        value: temperature, above 0; 1 changes nothing.
        multi_label: whether every class has a probability of its own.
    """

    table: ClassVar[Table] = {"value": Number(above=0), "multi_label": SWITCH}
    value: float = 1.0
    multi_label: bool = False

    def apply(self, prob: FloatArray) -> FloatArray:
        """(N, C) probabilities at this temperature, in the type they came in."""
        if self.value == 1:
            return prob
        # A 0 has no logarithm; this is as near as its type comes.
        smallest = np.finfo(prob.dtype).tiny
        logits = np.log(np.maximum(prob, smallest).astype(float))
        if self.multi_label:
            logits -= np.log(np.maximum(1 - prob, smallest).astype(float))
            return np.asarray(1 / (1 + np.exp(-logits / self.value)), prob.dtype)
        logits = logits / self.value
        # Less the largest, so that none overflows: their ratios are the same.
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), prob.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Temperature":
        """The inverse of `to_dict`."""
        return cls(**values)


def fit_temperature(report: Figures) -> Temperature:
    """The temperature of the lowest log loss on the rows of `report`; 1 if none is lower."""
    from scipy.optimize import minimize_scalar

    def at(log_value: float) -> Temperature:
        return Temperature(value=float(np.exp(log_value)), multi_label=report.multi_label)

    def loss(temperature: Temperature) -> float:
        # By the report's own loss, so that what is chosen is what will be shown.
        return replace(report, probabilities=temperature.apply(report.probabilities)).log_loss

    # By its logarithm: twice and half are equally far from 1.
    found = minimize_scalar(lambda x: loss(at(x)), bounds=np.log(_RANGE), method="bounded")
    unchanged = Temperature(multi_label=report.multi_label)
    # The search is local and never tries 1 itself.
    return at(found.x) if loss(at(found.x)) < loss(unchanged) else unchanged
