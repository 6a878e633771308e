"""The names of this room, for type checkers and for `lazy_loader`, which reads them here."""

from .adjustment import adjust_logits, check_prior, logit_offsets, shift_prior
from .correction import Correction, correct
from .labels import check_counts, class_counts, class_prior, long_tail
from .sampling import epoch_rows
from .settings import Imbalance, choose
from .synthetic import resample
from .terms import METHODS, SAMPLINGS, SYNTHETIC, WEIGHTS
from .weights import class_weights, deferred_from, sample_weights

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
