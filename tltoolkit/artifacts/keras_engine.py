"""A Keras model as what a predictor computes with."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tltoolkit.augment import Preparation
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import Network, network_of
from tltoolkit.model.settings import Settings
from tltoolkit.solving.familiarity import Familiarity


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

    @property
    def familiarity(self) -> Familiarity | None:
        """What training noted of known images, or None."""
        return getattr(self.model, "tltoolkit_familiarity", None)

    @property
    def familiar(self) -> bool:
        """Whether it knows how familiar images are."""
        return self.familiarity is not None

    @cached_property
    def features(self) -> Any:
        """The tensor (B, F) that the head reads; None where there is no such one."""
        if self.network.output is None:
            return None
        return freezing.head_input(self.network.model, self.network.blocks)

    @cached_property
    def _both(self) -> Any:
        """The model with what its head reads as a second output: one pass gives both."""
        model = self.network.model
        return graph.part(model, model.input, [model.output, self.features])

    def told(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What `said` gives, and the familiarity (B,) in 0..1, or None where it is not known."""
        if (known := self.familiarity) is None:
            return self.said(images), None
        said, features = self.both(images)
        return said, known(features)

    def both(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `said` gives, and what the head reads of it, (B, F); `features` is not None."""
        values, features = self._both.predict_on_batch(self.network.as_input(images)[0])
        return self._probabilities(values), features

    def said(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (B, C) for images (B, S, S, 3), uint8."""
        # Not `predict`, which sets up a data set for each call.
        return self._probabilities(self.model.predict_on_batch(self.network.as_input(images)[0]))

    def _probabilities(self, values: np.ndarray) -> np.ndarray:
        # Our own models end in probabilities, whatever their loss is computed from.
        return values if self.settings else self.network.probabilities(values, self.multi_label)
