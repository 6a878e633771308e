"""Answers for images whose classes have other shares than the classifier assumes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tltoolkit import _checks
from tltoolkit.evaluation import Decision
from tltoolkit.imbalance import check_prior, shift_prior

NAMED = ("train", "uniform")
Prior = str | Sequence[float] | Mapping[str, float]


class Assumes(Protocol):
    """What a classifier knows of its classes, such as the settings of `build_classifier`."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of its probabilities, C of them."""
        ...

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        ...

    @property
    def train_prior(self) -> tuple[float, ...] | None:
        """The share of each class in training, (C,)."""
        ...

    @property
    def output_prior(self) -> tuple[float, ...] | None:
        """The share of each class that its probabilities assume, (C,)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ShiftedDecision:
    """A `Decision` with another prior: temperature, then the prior, then all else.

    Attributes:
        decision: The classifier's.
        assumed: The class shares for which its probabilities are right, (C,).
        wanted: Those for which they shall be.
    """

    decision: Decision
    assumed: tuple[float, ...]
    wanted: tuple[float, ...]

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.decision.multi_label

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        prior = {"assumed": list(self.assumed), "wanted": list(self.wanted)}
        return {**self.decision.to_dict(), "prior": prior}

    def decide(self, prob: Any) -> Any:
        """Answers to (N, C) probabilities."""
        if self.decision.temperature is not None:
            # First: the prior that is assumed is right for calibrated probabilities.
            prob = self.decision.temperature.apply(prob)
        prob = shift_prior(prob, self.assumed, self.wanted, self.multi_label)
        # Without it, or it would be applied a second time.
        return dataclasses.replace(self.decision, temperature=None).decide(prob)


def shifted(decision: Decision, settings: Assumes | None, prior: Prior) -> ShiftedDecision:
    """The decision of a classifier with these settings for another prior.

    Args:
        decision: The classifier's.
        settings: Its settings, which know the prior that it assumes.
        prior: C shares, a mapping from every class name to its share, `"train"` (those of the
            training images) or `"uniform"` (all alike; for multi-label the mean of "train").

    Raises:
        ValueError: A prior that does not fit, or a classifier that `fine_tune` did not train.
    """
    if settings is None or settings.output_prior is None or settings.train_prior is None:
        rule = "None for a classifier whose training prior is not known: tl.fine_tune notes it"
        raise _checks.fail("prior", rule, prior)
    wanted = _shares(prior, settings)
    shares = check_prior("prior", wanted, len(settings.class_names), settings.multi_label)
    return ShiftedDecision(
        decision=decision, assumed=settings.output_prior, wanted=tuple(map(float, shares))
    )


def _shares(prior: Prior, settings: Assumes) -> Any:
    train = settings.train_prior
    if isinstance(prior, str):
        _checks.one_of("prior", prior, NAMED)
        # `shifted` has seen that there is a `train`; its type does not say so.
        return train if prior == "train" else np.full(len(settings.class_names), np.mean(train))  # type: ignore[arg-type]
    if not isinstance(prior, Mapping):
        return prior
    # Each of them: a missing share has no default that would be right.
    if set(prior) != set(settings.class_names):
        rule = f"a share for each of the classes {settings.class_names}"
        raise _checks.fail("prior", rule, prior)
    return [prior[name] for name in settings.class_names]
