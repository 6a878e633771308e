"""Cross-entropy with class weights: what all losses here are built on."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tltoolkit import _checks
from tltoolkit._checks import SWITCH, Number, Table
from tltoolkit.layers import private

CROSS_ENTROPY: Table = {
    "multi_label": SWITCH,
    "label_smoothing": Number(0, below=1),
    "from_logits": SWITCH,
}


@keras.saving.register_keras_serializable("tltoolkit")
class CrossEntropy(keras.losses.Loss):
    """Cross-entropy: softmax over the classes, or a sigmoid for each where `multi_label`.

    Args:
        class_weights: (C,), each above 0; None weighs all classes alike.
        offsets: (C,), added to the logits, so that the model learns logits without them; see
            `imbalance.logit_offsets`.
        multi_label: Whether a row may have several labels.
        label_smoothing: Share of each target spread over the classes, in [0, 1).
        from_logits: Whether the model's outputs are logits. If not, the loss finds the logits
            that Keras keeps beside a softmax or sigmoid, or takes the logarithm.

    Outputs are (B, C), or (B, 1) for two classes: the logit or the sigmoid of the second.

    Raises:
        ValueError: A value out of range.

    >>> loss = CrossEntropy(class_weights=[1.0, 3.0])
    >>> float(loss([0, 1], [[0.0, 0.0], [0.0, 0.0]]))  # log 2, whatever the weights
    0.6931471824645996
    """

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        *,
        offsets: Sequence[float] | None = None,
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        from_logits: bool = True,
        reduction: str = "mean_with_sample_weight",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        # Keras' own `reduction` divides by the batch size, not by the sum of weights (3.15.1).
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        for weight in () if class_weights is None else class_weights:
            _checks.number("class_weights", weight, above=0)
        for offset in () if offsets is None else offsets:
            _checks.number("offsets", offset)
        _checks.arguments(CROSS_ENTROPY, locals())
        # Lists of floats: what is in the config must go into JSON.
        self.class_weights = floats(class_weights)
        self.offsets = floats(offsets)
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    @property
    def classes(self) -> int | None:
        """C, where weights, offsets or counts tell it."""
        counts = getattr(self, "class_counts", None)
        known = self.class_weights or self.offsets or counts
        return len(known) if known else None

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch, a scalar unless `reduction` says otherwise."""
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        # Here and not in `call`: Keras divides by the sum of the sample weights alone.
        weight = self.row_weights(y_true, y_pred)
        if weight is not None and sample_weight is not None:
            given = ops.convert_to_tensor(sample_weight, dtype=weight.dtype)
            # They may come as (B, 1), whose product with (B,) would be (B, B).
            sample_weight = weight * ops.reshape(given, ops.shape(weight))
        elif weight is not None:
            sample_weight = weight
        return super().__call__(y_true, y_pred, sample_weight)

    def row_weights(self, y_true: Any, y_pred: Any) -> Any | None:
        """The weight of each row, (B,), from its targets; None if all are 1."""
        weights = self._weights_now()
        if weights is None:
            return None
        targets = self._targets(y_true, y_pred)
        if self.multi_label:
            # Times what `call` divides a row by, so that each element counts the same in all rows.
            return ops.mean(1 + targets * (weights - 1), axis=-1)
        return ops.sum(targets * weights, axis=-1)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each row, (B,)."""
        logits = self._logits(y_pred)
        if self.offsets is not None:
            logits = logits + ops.convert_to_tensor(self.offsets, dtype=self.dtype)
        given = self._targets(y_true, y_pred)
        # An independent label has two outcomes to share between, whatever the number of classes.
        share = self.label_smoothing / (2 if self.multi_label else given.shape[-1])
        targets = given * (1 - self.label_smoothing) + share
        if not self.multi_label:
            # By the labels as given: smoothing would take a margin off every class.
            logits = self.margins(given, logits)
            return -ops.sum(targets * self.log_present(ops.log_softmax(logits)), axis=-1)
        # By the logits: of a probability that has rounded to 0 there is no finite logarithm.
        present = targets * self.log_present(ops.log_sigmoid(logits))
        losses = -present - (1 - targets) * self.log_absent(logits)
        weights = self._weights_now()
        if weights is None:
            return ops.mean(losses, axis=-1)
        # Presence alone is weighted: with absence too the odds of a label would stay as they are.
        elements = 1 + given * (weights - 1)
        return ops.sum(elements * losses, axis=-1) / ops.sum(elements, axis=-1)

    def margins(self, targets: Any, logits: Any) -> Any:
        """The logits as a single-label loss takes them."""
        return logits

    def log_present(self, log_p: Any) -> Any:
        """What a label that is present adds, negative; `log_p` is log of its probability."""
        # Focal losses put their factor here, by `log_p`, from which 1 - p comes exactly.
        return log_p

    def log_absent(self, logits: Any) -> Any:
        """What a label that is absent adds in multi-label, negative."""
        return self.log_present(ops.log_sigmoid(-logits))

    def _weights_now(self) -> Any | None:
        if self.class_weights is None:
            return None
        return ops.convert_to_tensor(self.class_weights, dtype=self.dtype)

    def _targets(self, y_true: Any, y_pred: Any) -> Any:
        targets, columns = ops.convert_to_tensor(y_true), y_pred.shape[-1]
        if self.multi_label:
            return ops.cast(ops.reshape(targets, ops.shape(y_pred)), self.dtype)
        # One output stands for two classes, and its targets may be one-hot all the same.
        classes = max(columns, 2)
        if len(targets.shape) == 2 and targets.shape[-1] == classes:
            return ops.cast(targets, self.dtype)
        numbers = ops.reshape(targets, (-1,))
        if columns > 1:
            return ops.one_hot(ops.cast(numbers, "int32"), classes, dtype=self.dtype)
        second = ops.cast(numbers, self.dtype)
        return ops.stack([1 - second, second], axis=-1)

    def _logits(self, outputs: Any) -> Any:
        """The logits behind outputs, one for each class."""
        one_for_two = not self.multi_label and outputs.shape[-1] == 1
        logits = outputs if self.from_logits else self._behind(outputs, one_for_two)
        if not one_for_two:
            return logits
        # Softmax of (0, z) is the sigmoid of z: from here on there is one kind of single label.
        return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)

    def _behind(self, outputs: Any, one_for_two: bool) -> Any:
        # Before any cast, with which Keras' note of the logits would be lost.
        kept = private.logits_behind(outputs)
        if kept is not None:
            return ops.cast(kept, self.dtype)
        # Only where nothing else is known of the logits: what is cut off has no gradient.
        epsilon = keras.config.epsilon()
        p = ops.clip(ops.cast(outputs, self.dtype), epsilon, 1 - epsilon)
        return ops.log(p) - ops.log(1 - p) if self.multi_label or one_for_two else ops.log(p)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = ("class_weights", "offsets", *CROSS_ENTROPY)
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def floats(values: Sequence[float] | None) -> list[float] | None:
    """Plain numbers, which a saved model can hold."""
    return None if values is None else [float(value) for value in values]
