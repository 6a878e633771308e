"""Losses that focus on what is hard: focal, class-balanced focal, asymmetric."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tltoolkit import _checks, imbalance
from tltoolkit._checks import Number, Table
from tltoolkit.imbalance.terms import IMBALANCE
from tltoolkit.losses.cross_entropy import CrossEntropy, floats

# About float32's epsilon: less than rounding, and its power has a finite slope.
_TINY = 1e-7
FOCAL: Table = {"gamma": IMBALANCE["gamma"]}
ASYMMETRIC: Table = {
    "gamma_present": Number(0),
    "gamma_absent": Number(0),
    "clip": Number(0, below=1),
}


@keras.saving.register_keras_serializable("tltoolkit")
class Focal(CrossEntropy):
    """Cross-entropy times (1 - p)^gamma: what is right already counts less.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection". For a class-balanced one
    (Cui et al. 2019) give it `class_weights=imbalance.class_weights("effective", counts)`.

    Args:
        gamma: >= 0; 0 is cross-entropy.
        class_weights: And all else as in `CrossEntropy`.
    """

    def __init__(
        self, class_weights: Sequence[float] | None = None, *, gamma: float = 2.0, **kwargs: Any
    ) -> None:
        super().__init__(class_weights, **kwargs)
        _checks.arguments(FOCAL, locals())
        self.gamma = gamma

    def log_present(self, log_p: Any) -> Any:
        """(1 - p)^gamma log p, by `log_p` alone: exact and with a gradient for every logit."""
        # 1 - p by expm1: computed from p it would be 0 for every p that rounds to 1.
        return _focus(log_p, -ops.expm1(log_p), self.gamma)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("tltoolkit")
class BalancedFocal(Focal):
    """Focal loss with the weights of the effective number of samples (Cui et al. 2019).

    Args:
        class_counts: (C,) training labels of each class, each above 0.
        beta: In (0, 1); the nearer to 1, the more the counts matter.
        gamma: >= 0.
        kwargs: As in `CrossEntropy`, but for class_weights.
    """

    def __init__(
        self,
        class_counts: Sequence[float],
        *,
        beta: float = 0.9999,
        gamma: float = 2.0,
        **kwargs: Any,
    ) -> None:
        # From the counts at birth, so that a config holds what was given, not what follows.
        weights = imbalance.class_weights("effective", class_counts, beta=beta)
        super().__init__(list(weights), gamma=gamma, **kwargs)
        self.class_counts, self.beta = floats(class_counts), beta

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        config = {**super().get_config(), "class_counts": self.class_counts, "beta": self.beta}
        del config["class_weights"]
        return config


@keras.saving.register_keras_serializable("tltoolkit")
class Asymmetric(CrossEntropy):
    """Multi-label loss that focuses absent labels harder than present ones, and drops easy ones.

    Source: Ridnik et al. 2021, "Asymmetric Loss for Multi-Label Classification".

    Args:
        class_weights: As in `CrossEntropy`.
        gamma_present: Focus of labels that are present, >= 0.
        gamma_absent: Focus of labels that are absent, >= 0.
        clip: An absent label of at most this probability costs nothing, in [0, 1).
        kwargs: As in `CrossEntropy`, but for multi_label.
    """

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        *,
        gamma_present: float = 0.0,
        gamma_absent: float = 4.0,
        clip: float = 0.05,
        **kwargs: Any,
    ) -> None:
        # Whatever a config says: the paper's loss is for independent labels alone.
        super().__init__(class_weights, **{**kwargs, "multi_label": True})
        _checks.arguments(ASYMMETRIC, locals())
        self.gamma_present, self.gamma_absent, self.clip = gamma_present, gamma_absent, clip

    def log_present(self, log_p: Any) -> Any:
        """(1 - p)^gamma_present log p."""
        return _focus(log_p, -ops.expm1(log_p), self.gamma_present)

    def log_absent(self, logits: Any) -> Any:
        """p_m^gamma_absent log(1 - p_m), where p_m = max(p - clip, 0)."""
        # With a clip 1 - p is at least that, and its logarithm finite; without one it may be 0.
        if self.clip == 0:
            return _focus(ops.log_sigmoid(-logits), ops.sigmoid(logits), self.gamma_absent)
        p = ops.maximum(ops.sigmoid(logits) - self.clip, 0)
        return _focus(ops.log(1 - p), p, self.gamma_absent)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), **{name: getattr(self, name) for name in ASYMMETRIC}}


def _focus(log_p: Any, miss: Any, gamma: float) -> Any:
    """miss^gamma log p; without gamma the logarithm alone."""
    if gamma == 0:
        return log_p
    # The power of zero has no finite gradient where gamma < 1.
    return ops.maximum(miss, _TINY) ** gamma * log_p
