"""An exported classifier, ready to compute."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tltoolkit.augment import Preparation
from tltoolkit.runtimes.card import Card

# Pixels (B, S, S, 3) of float32 in, probabilities (B, C) out, and in newer files distances (B, 1).
Compute = Callable[[np.ndarray], Sequence[np.ndarray]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Exported:
    """An exported file as what a predictor computes with.

    Attributes:
        path: Of the file.
        settings: What it says of its classifier.
        compute: Its graph, in the runtime of its format.
    """

    path: Path
    settings: Card
    compute: Compute

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.settings.image_size

    @property
    def preparation(self) -> Preparation:
        """What every image goes through before."""
        return self.settings.preparation

    @property
    def familiar(self) -> bool:
        """Whether it knows how familiar images are."""
        return self.settings.familiarity is not None

    def told(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What `said` gives, and the familiarity (B,) in 0..1, or None where it is not known."""
        values, *more = self.compute(np.ascontiguousarray(images, np.float32))
        ranks = self.settings.familiarity
        return self._summing(values), None if ranks is None else ranks(more[0][:, 0])

    def said(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (B, C) for images (B, S, S, 3), uint8."""
        return self.told(images)[0]

    def _summing(self, values: np.ndarray) -> np.ndarray:
        if self.settings.quantize is None or self.settings.multi_label:
            return values
        # Of numbers that were rounded the sum is not quite 1.
        return values / values.sum(axis=1, keepdims=True)
