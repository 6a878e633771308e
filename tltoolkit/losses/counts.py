"""Losses that know the class counts: logit-adjusted, and LDAM with deferred weights."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tltoolkit import _checks, imbalance
from tltoolkit._checks import Instance, Integer, Number, Table
from tltoolkit.imbalance.terms import IMBALANCE
from tltoolkit.losses.cross_entropy import CrossEntropy, floats

MARGINS: Table = {"margin": IMBALANCE["margin"], "scale": Number(above=0)}


@keras.saving.register_keras_serializable("tltoolkit")
class LogitAdjusted(CrossEntropy):
    """Cross-entropy of logits + tau log prior (balanced softmax), so that the logits are balanced.

    Source: Menon et al. 2021, "Long-tail learning via logit adjustment"; Ren et al. 2020.

    Args:
        class_counts: (C,) training labels of each class, each above 0.
        tau: >= 0; 0 is cross-entropy.
        kwargs: As in `CrossEntropy`, but for offsets.
    """

    def __init__(self, class_counts: Sequence[float], *, tau: float = 1.0, **kwargs: Any) -> None:
        # Added within the loss, so that the model learns logits that are balanced without them.
        super().__init__(offsets=list(imbalance.logit_offsets(class_counts, tau)), **kwargs)
        self.class_counts, self.tau = floats(class_counts), tau

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        config = {**super().get_config(), "class_counts": self.class_counts, "tau": self.tau}
        # They follow from the counts, and the constructor takes no others.
        del config["offsets"]
        return config


@keras.saving.register_keras_serializable("tltoolkit")
class LDAM(CrossEntropy):
    """Cross-entropy with a margin for each class that grows as n_c^(-1/4), single-label only.

    Source: Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
    Loss". Its deferred re-weighting is `class_weights` beside the callback `DeferWeights`.

    Args:
        class_counts: (C,) training labels of each class, each above 0.
        margin: The margin of the rarest class, above 0, in units of the logits.
        scale: Factor of the logits, above 0; 30 for cosines, as in the paper.
        class_weights: And all else as in `CrossEntropy`, but for multi_label.
    """

    def __init__(
        self,
        class_counts: Sequence[float],
        class_weights: Sequence[float] | None = None,
        *,
        margin: float = 0.5,
        scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("multi_label", False):
            raise _checks.fail("multi_label", "False, since LDAM is for single labels", True)
        super().__init__(class_weights, **kwargs)
        _checks.arguments(MARGINS, locals())
        counts = imbalance.check_counts(class_counts)
        self.class_counts, self.margin, self.scale = floats(list(counts)), margin, scale
        # Relative to the rarest class, so that `margin` is its margin for any size of data.
        self._class_margins = margin * (counts / counts.min()) ** -0.25
        # 1 lets the class weights count, 0 does not; a variable, because training is compiled.
        self.weighted = keras.Variable(1.0, trainable=False, name="weighted")

    def margins(self, targets: Any, logits: Any) -> Any:
        """Logits less the margins of the classes that are present, scaled."""
        margins = ops.convert_to_tensor(self._class_margins, dtype=self.dtype)
        return self.scale * (logits - targets * margins)

    def _weights_now(self) -> Any | None:
        weights = super()._weights_now()
        # A blend, since traced code cannot branch on a variable in Python.
        return None if weights is None else 1 + self.weighted * (weights - 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {name: getattr(self, name) for name in ("class_counts", *MARGINS)}
        config = {**super().get_config(), **own}
        # Left out, since it is never anything but False.
        del config["multi_label"]
        return config


DEFER: Table = {"loss": Instance(LDAM, "an LDAM loss"), "epoch": Integer(0)}


class DeferWeights(keras.callbacks.Callback):
    """Lets the class weights of an `LDAM` loss count from one epoch on (deferred re-weighting).

    Args:
        loss: The loss that the model is compiled with.
        epoch: The first epoch, from 0, in which they count.
    """

    def __init__(self, loss: LDAM, epoch: int) -> None:
        super().__init__()
        _checks.arguments(DEFER, locals())
        self.loss, self.epoch = loss, epoch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Switch by the number of the epoch alone, so that a resumed run agrees."""
        self.loss.weighted.assign(float(epoch >= self.epoch))
