"""Losses for imbalanced classes, computed from logits; for any Keras model.

Targets may be class numbers (B,) or (B, 1), one-hot or soft rows (B, C), or, with
`multi_label=True`, zeros and ones (B, C). Every loss takes `class_weights`: a row weighs the sum
over its classes of target times weight, and in multi-label each element weighs its class's weight
where the label is present and 1 where it is not. The loss of a batch is the sum of weight times
loss over the sum of weights; `sample_weight` multiplies the weights.
"""

from tltoolkit.losses.counts import LDAM, DeferWeights, LogitAdjusted
from tltoolkit.losses.cross_entropy import CrossEntropy
from tltoolkit.losses.focal import Asymmetric, BalancedFocal, Focal
from tltoolkit.losses.mean_loss import MeanLoss

__all__ = [
    "LDAM",
    "Asymmetric",
    "BalancedFocal",
    "CrossEntropy",
    "DeferWeights",
    "Focal",
    "LogitAdjusted",
    "MeanLoss",
]
