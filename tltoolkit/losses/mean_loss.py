"""A loss as a metric, exact over all batches."""

from typing import Any

import keras
from keras import ops

from tltoolkit import _checks
from tltoolkit.losses.cross_entropy import CrossEntropy


@keras.saving.register_keras_serializable("tltoolkit")
class MeanLoss(keras.metrics.Metric):
    """The weighted mean of a loss over all rows of an epoch or a validation pass.

    Keras reports the mean over the batches, each divided by its own weights: for rows that come
    ordered by class that is as if there were no weights. This divides once, by all of them. Under
    the name "loss" it takes the place of Keras' own number in the logs.

    Args:
        loss: One of `tltoolkit.losses`; without class weights it reports the plain loss.
        name: What the logs call it; None takes that of the loss.
    """

    def __init__(self, loss: CrossEntropy, name: str | None = None, dtype: Any = None) -> None:
        # As the config of a saved model has it.
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        _checks.instance("loss", loss, CrossEntropy, "a loss of tltoolkit.losses")
        super().__init__(name=name or loss.name, dtype=dtype)
        self.loss = loss
        # Sum and weight apart: their quotient is taken once, at the end.
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")
        self.weight = self.add_weight(shape=(), initializer="zeros", name="weight")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        # Without a cast probabilities keep the logits that Keras has put beside them.
        y_pred = ops.cast(y_pred, self.loss.dtype) if self.loss.from_logits else y_pred
        # Not by calling the loss, which would divide by this batch's weights.
        losses = self.loss.call(y_true, y_pred)
        weights = self.loss.row_weights(y_true, y_pred)
        weights = ops.ones_like(losses) if weights is None else weights
        if sample_weight is not None:
            given = ops.convert_to_tensor(sample_weight, dtype=weights.dtype)
            weights = weights * ops.reshape(given, ops.shape(weights))
        self.total.assign_add(ops.sum(losses * weights))
        self.weight.assign_add(ops.sum(weights))

    def result(self) -> Any:
        """The mean so far."""
        return ops.divide_no_nan(self.total, self.weight)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}
