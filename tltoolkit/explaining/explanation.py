"""Explanation: what `tl.explain` returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tltoolkit import _checks
from tltoolkit.evaluation import heat
from tltoolkit.explaining import overlays


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Explanation:
    """Where N images hold evidence for a class each.

    Attributes:
        targets: N names of the classes.
        probabilities: (N,) how likely the model says they are, before any decision.
        evidence: (N, S, S) float32, signed: what speaks for the class is positive. For `"cam"`
            in units of the logit: its mean over an image, plus `bias`, is the logit of the class.
            For `"occlusion"` the log odds that are lost where a place is covered; for
            `"grad_cam"` of no unit.
        images: (N, S, S, 3) uint8, the images as the model sees them.
        by_block: Block -> (N, S, S) float32, the evidence in its map, where asked for. For
            `"cam"` they add up to `evidence`.
        bias: (N,) what belongs to no position, for `"cam"`; else None.
    """

    targets: tuple[str, ...]
    probabilities: np.ndarray
    evidence: np.ndarray
    images: np.ndarray
    by_block: Mapping[str, np.ndarray] = field(default_factory=dict)
    bias: np.ndarray | None = None

    @cached_property
    def maps(self) -> np.ndarray:
        """(N, S, S) float32 of 0..1, to be looked at.

        The evidence, smoothed over a 28th of the side: in each image the least is 0 and the
        greatest 1 (but for 2 % at either end), so that values of two images do not compare. A map
        that is the same everywhere is all 0.
        """
        return overlays.scaled(self.evidence)

    def overlay(self, i: int, strength: float = heat.STRENGTH) -> np.ndarray:
        """(S, S, 3) uint8: image `i` with its map laid over it, yellow where it is 1.

        Args:
            i: Which image, 0..N-1.
            strength: How much of the image is covered where the map is 1, in [0, 1].
        """
        _checks.integer("i", i, 0, len(self.targets) - 1)
        _checks.number("strength", strength, 0, 1)
        return overlays.over(self.images[i], self.maps[i], strength)

    def __repr__(self) -> str:
        side = self.images.shape[1]
        return f"Explanation({len(self.targets)} images of {side} x {side} pixels)"


def joined(parts: Sequence[Explanation]) -> Explanation:
    """One explanation of the images of several, at least one."""
    biases = [part.bias for part in parts if part.bias is not None]
    return Explanation(
        targets=tuple(name for part in parts for name in part.targets),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        evidence=np.concatenate([part.evidence for part in parts]),
        images=np.concatenate([part.images for part in parts]),
        by_block={n: np.concatenate([p.by_block[n] for p in parts]) for n in parts[0].by_block},
        bias=np.concatenate(biases) if biases else None,
    )
