"""What a predictor computes with: a Keras model, or an exported file that needs no Keras."""

from typing import Protocol

import numpy as np

from tltoolkit.artifacts.priors import Assumes
from tltoolkit.augment import Preparation


class Engine(Protocol):
    """Square images in, probabilities out."""

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        ...

    @property
    def preparation(self) -> Preparation:
        """What every image goes through before."""
        ...

    @property
    def settings(self) -> Assumes | None:
        """What it knows of its classes; None for a model of somebody else's."""
        ...

    @property
    def familiar(self) -> bool:
        """Whether it knows how familiar images are."""
        ...

    def told(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What `said` gives, and the familiarity (B,) in 0..1, or None where it is not known."""
        ...

    def said(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (B, C) for images (B, S, S, 3), uint8."""
        ...
