"""What stands between probabilities and an answer: kept with a model, applied by its predictor."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tltoolkit.evaluation.calibration import Abstention
from tltoolkit.evaluation.inputs import FloatArray, IntArray
from tltoolkit.evaluation.rows import given_labels, label_confidence
from tltoolkit.evaluation.temperature import Temperature
from tltoolkit.evaluation.thresholds import Thresholds


class Answers(NamedTuple):
    """Labels (N,) or (N, C), probabilities (N, C), confidence (N,) and abstained (N,)."""

    labels: IntArray
    probabilities: FloatArray
    confidence: FloatArray
    abstained: npt.NDArray[np.bool_]


class Decides(Protocol):
    """What stands between probabilities and answers, such as a `Decision`."""

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        ...

    def decide(self, prob: FloatArray) -> Answers:
        """Answers to (N, C) probabilities."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How probabilities become answers: temperature, then thresholds, then abstention.

    Attributes:
        temperature: scales the probabilities; None leaves them.
        thresholds: chooses the label; None takes the most probable one, for multi-label all
            from 0.5 upwards.
        abstention: leaves rows unanswered; None answers all.
        multi_label: whether an image may have several labels.
    """

    temperature: Temperature | None = None
    thresholds: Thresholds | None = None
    abstention: Abstention | None = None
    multi_label: bool = False

    def __post_init__(self) -> None:
        for part in (self.temperature, self.thresholds):
            if part is not None and part.multi_label != self.multi_label:
                raise ValueError("`multi_label` must be the same in a decision and its parts")

    def check(self, classes: int, multi_label: bool) -> None:
        """Raise ValueError unless it decides for so many classes, and as many labels."""
        if self.thresholds is not None and len(self.thresholds.values) != classes:
            count = len(self.thresholds.values)
            raise ValueError(f"there are {count} thresholds for {classes} classes")
        if self.multi_label != multi_label:
            raise ValueError(f"it must have multi_label={multi_label}, as the model")

    def decide(self, prob: FloatArray) -> Answers:
        """Answers to (N, C) probabilities."""
        # First: thresholds and abstention were chosen on probabilities at this temperature.
        if self.temperature is not None:
            prob = self.temperature.apply(prob)
        if self.thresholds is not None:
            labels = self.thresholds.decide(prob)
        else:
            labels = given_labels(prob, self.multi_label)
        # Of the label given, which thresholds may have made a less probable one.
        confidence = label_confidence(prob, labels)
        if self.abstention is None:
            abstained = np.zeros(len(prob), bool)
        else:
            abstained = self.abstention.abstains(confidence)
        return Answers(labels, prob, confidence, abstained)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        parts = ("temperature", "thresholds", "abstention")
        plain = {name: getattr(self, name) and getattr(self, name).to_dict() for name in parts}
        return {**plain, "multi_label": self.multi_label}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Decision":
        """The inverse of `to_dict`."""
        temperature, thresholds = values["temperature"], values["thresholds"]
        abstention = values["abstention"]
        return cls(
            temperature=temperature and Temperature.from_dict(temperature),
            thresholds=thresholds and Thresholds.from_dict(thresholds),
            abstention=abstention and Abstention.from_dict(abstention),
            multi_label=values["multi_label"],
        )
