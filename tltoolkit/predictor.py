"""Asking a trained classifier about image files and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.data import decode
from tltoolkit.evaluation import Decision
from tltoolkit.inference import predict_proba


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        label: The most probable class, or the one that the stored thresholds choose; for a
            multi-label classifier a tuple of all classes of at least 0.5 or their threshold.
        probability: That of the label; for multi-label how sure all its yes and no are.
        probabilities: Probability by class name, after the stored temperature.
        abstained: Whether `probability` is too low to answer: below the stored abstention
            threshold or the `min_confidence` asked for.
    """

    label: str | tuple[str, ...]
    probability: float
    probabilities: dict[str, float]
    abstained: bool = False


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A loaded classifier.

    Attributes:
        model: The `keras.Model`: pixels 0..255 in, probabilities out.
        class_names: Names of the classes in the order of the probabilities.
        decision: How probabilities become answers.
    """

    model: Any
    class_names: tuple[str, ...]
    decision: Decision = field(default_factory=Decision)

    def predict(
        self,
        images: Sequence[str | Path | np.ndarray],
        *,
        min_confidence: float = 0.0,
        batch_size: int = 32,
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: Paths of image files or arrays (H, W, 3) uint8 of 0..255, RGB, of any size.
            min_confidence: Predictions below it, in [0, 1], come back with `abstained=True`.
            batch_size: Images per forward pass.

        Raises:
            ValueError: A file that cannot be read, named; an array of another type or shape.
        """
        _checks.number("min_confidence", min_confidence, 0, 1)
        if isinstance(images, (str, Path)) or not hasattr(images, "__len__"):
            raise _checks.fail("images", "a sequence of paths or arrays", images)
        if not len(images):
            return []
        answers = self.decision.decide(predict_proba(self.model, _Images(images), batch_size))
        return [
            Prediction(
                label=self._label(label),
                probability=float(confidence),
                probabilities=dict(zip(self.class_names, map(float, row), strict=True)),
                abstained=bool(abstained or confidence < min_confidence),
            )
            for label, row, confidence, abstained in zip(*answers, strict=True)
        ]

    def _label(self, label: Any) -> str | tuple[str, ...]:
        if self.decision.multi_label:
            return tuple(n for n, given in zip(self.class_names, label, strict=True) if given)
        return self.class_names[label]


class _Images:
    """Paths and arrays as a source of images."""

    def __init__(self, images: Sequence[str | Path | np.ndarray]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> np.ndarray:
        one = self.images[i]
        return decode(one) if isinstance(one, (str, Path)) else one
