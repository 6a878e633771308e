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

    def said(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (B, C) for images (B, S, S, 3), uint8."""
        ...
