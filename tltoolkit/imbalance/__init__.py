"""Class imbalance: priors, weights, resampling, adjustment, on plain arrays of labels.

Nothing here needs TensorFlow. Labels are class numbers (N,), one-hot or soft rows (N, C) that sum
to 1, or, with `multi_label=True`, zeros and ones (N, C). The losses are in `tltoolkit.losses`.
"""

from tltoolkit.imbalance.adjustment import adjust_logits, check_prior, logit_offsets, shift_prior
from tltoolkit.imbalance.correction import Correction, correct
from tltoolkit.imbalance.labels import check_counts, class_counts, class_prior, long_tail
from tltoolkit.imbalance.sampling import SAMPLINGS, epoch_rows
from tltoolkit.imbalance.settings import METHODS, Imbalance, choose
from tltoolkit.imbalance.synthetic import SYNTHETIC, resample
from tltoolkit.imbalance.weights import WEIGHTS, class_weights, deferred_from, sample_weights

__all__ = [
    "METHODS",
    "SAMPLINGS",
    "SYNTHETIC",
    "WEIGHTS",
    "Correction",
    "Imbalance",
    "adjust_logits",
    "check_counts",
    "check_prior",
    "choose",
    "class_counts",
    "class_prior",
    "class_weights",
    "correct",
    "deferred_from",
    "epoch_rows",
    "logit_offsets",
    "long_tail",
    "resample",
    "sample_weights",
    "shift_prior",
]
