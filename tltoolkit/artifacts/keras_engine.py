"""A Keras model as what a predictor computes with."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tltoolkit.augment import Preparation
from tltoolkit.model.network import Network, network_of
from tltoolkit.model.settings import Settings


@dataclass(frozen=True, kw_only=True)
class KerasEngine:
    """A Keras model, ours or the user's own, that answers with probabilities.

    Attributes:
        model: As it was given, which may be nested.
        network: The same as training and evaluation see it.
        multi_label: Whether an image may have several labels.
    """

    model: Any
    network: Network
    multi_label: bool

    @classmethod
    def of(cls, model: Any, from_logits: bool | str, multi_label: bool) -> "KerasEngine":
        """That of a model; arguments and errors are those of `network_of`."""
        network = network_of(model, from_logits, multi_label)
        return cls(model=model, network=network, multi_label=multi_label)

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.network.image_size

    @property
    def preparation(self) -> Preparation:
        """What every image goes through before."""
        return self.network.preparation

    @property
    def settings(self) -> Settings | None:
        """Those of `build_classifier`, or None."""
        return self.network.settings

    def said(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (B, C) for images (B, S, S, 3), uint8."""
        # Not `predict`, which sets up a data set for each call.
        values = self.model.predict_on_batch(self.network.as_input(images)[0])
        # Our own models end in probabilities, whatever their loss is computed from.
        return values if self.settings else self.network.probabilities(values, self.multi_label)
