"""What a method finds for a batch of images, and what it needs to know of the classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

# Probabilities (B, C) of a batch -> the number of the class to explain for each image, (B,).
Choose = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Evidence for a batch.

    Attributes:
        evidence: (B, S, S) float32.
        targets: (B,) numbers of the classes.
        probabilities: (B,) theirs, before any decision.
        bias: (B,) what belongs to no position; None where evidence does not add up to a logit.
        by_block: Block -> (B, S, S), where asked for.
    """

    evidence: np.ndarray
    targets: np.ndarray
    probabilities: np.ndarray
    bias: np.ndarray | None = None
    by_block: Mapping[str, np.ndarray] = field(default_factory=dict)


# Images (B, S, S, 3) uint8, and how the class of each is chosen.
Finder = Callable[[np.ndarray, Choose], Found]


def of_targets(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(B,) those of the class of each image."""
    return np.take_along_axis(probabilities, targets[:, None], axis=1)[:, 0]


def outputs_of(targets: np.ndarray, one_for_two: bool) -> tuple[np.ndarray, np.ndarray]:
    """The output of each class, and 1, or -1 where an output that speaks for the other falls."""
    if not one_for_two:
        return targets, np.ones(len(targets), np.float32)
    return np.zeros_like(targets), np.where(targets == 1, 1, -1).astype(np.float32)
