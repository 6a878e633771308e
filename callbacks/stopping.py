"""When to stop: the criteria of Prechelt (1998), on plain lists of errors.

E_va(t) is the validation error after epoch t and E_opt(t) the smallest one up to t. Source:
L. Prechelt, "Early Stopping - But When?", in Neural Networks: Tricks of the Trade, 1998.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from tltoolkit._checks import Checked, Integer, Number, Table


class StoppingCriterion(Protocol):
    """What `EarlyStopping(criterion=...)` takes."""

    def fires(self, validation: Sequence[float], training: Sequence[float]) -> bool:
        """Whether to stop after the last epoch of these per-epoch errors."""
        ...


def generalization_loss(validation: Sequence[float]) -> float:
    """GL(t) = 100 (E_va(t) / E_opt(t) - 1), in percent.

    Args:
        validation: errors >= 0, one per epoch, at least one.
    """
    best = min(validation)
    if best < 0:
        raise ValueError(
            f"the generalization loss needs errors >= 0. Received: {best:g}; "
            "watch a loss, or a metric between 0 and 1 with mode='max'"
        )
    # No percentage of 0: any error after it is infinitely worse.
    if best == 0:
        return 0.0 if validation[-1] == 0 else float("inf")
    return 100 * (validation[-1] / best - 1)


def training_progress(training: Sequence[float], strip: int) -> float:
    """P_k(t) = 1000 (mean / min of the training errors of the last k epochs - 1)."""
    last = training[-strip:]
    # At a training error of 0 there is no quotient: it stands still, or just got there.
    if min(last) <= 0:
        return 0.0 if max(last) <= 0 else float("inf")
    return 1000 * (sum(last) / (len(last) * min(last)) - 1)


@dataclass(frozen=True, kw_only=True)
class GeneralizationLoss(Checked):
    """Stop once the validation error exceeds its minimum by `alpha` percent: GL(t) > alpha.

    >>> GeneralizationLoss(alpha=5).fires([1.0, 0.5, 0.52], [])
    False
    >>> GeneralizationLoss(alpha=5).fires([1.0, 0.5, 0.53], [])
    True
    """

    table: ClassVar[Table] = {"alpha": Number(above=0)}
    alpha: float = 5.0

    def fires(self, validation: Sequence[float], training: Sequence[float]) -> bool:
        """Whether to stop after the last of these epochs; `training` is not looked at."""
        return generalization_loss(validation) > self.alpha


@dataclass(frozen=True, kw_only=True)
class ProgressQuotient(Checked):
    """Stop at the end of a strip once GL(t) / P_k(t) > alpha: overfitting outweighs progress.

    >>> rule = ProgressQuotient(alpha=0.5, strip=2)
    >>> rule.fires([0.5, 0.6], [0.40, 0.40])  # GL is 20 percent, the training error stands still
    True
    >>> rule.fires([0.5, 0.6], [0.40, 0.30])  # training still makes quick progress
    False
    """

    table: ClassVar[Table] = {"alpha": Number(above=0), "strip": Integer(1)}
    alpha: float = 0.5
    strip: int = 5  # epochs, as in the paper

    def fires(self, validation: Sequence[float], training: Sequence[float]) -> bool:
        """Whether to stop after the last of these epochs."""
        # Only at its end: within a strip progress is measured on too few epochs.
        if len(validation) % self.strip:
            return False
        # Multiplied out, so that no progress at all needs no special case.
        progress = training_progress(training, self.strip)
        return generalization_loss(validation) > self.alpha * progress


@dataclass(frozen=True, kw_only=True)
class UpInStrips(Checked):
    """Stop once the error rose in `strips` strips of `strip` epochs running: UP_s.

    >>> UpInStrips(strips=2, strip=1).fires([0.5, 0.6, 0.7], [])
    True
    >>> UpInStrips(strips=2, strip=1).fires([0.7, 0.6, 0.7], [])
    False
    """

    table: ClassVar[Table] = {"strips": Integer(1), "strip": Integer(1)}
    strips: int = 3
    strip: int = 5

    def fires(self, validation: Sequence[float], training: Sequence[float]) -> bool:
        """Whether to stop after the last of these epochs; `training` is not looked at."""
        # One more than strips, as a rise takes two.
        ends = list(validation[self.strip - 1 :: self.strip])[-self.strips - 1 :]
        at_strip_end = len(validation) % self.strip == 0
        rising = all(later > earlier for earlier, later in itertools.pairwise(ends))
        return at_strip_end and len(ends) == self.strips + 1 and rising
