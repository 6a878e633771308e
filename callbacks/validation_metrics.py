"""Exact scores over the whole validation set, in the logs of every epoch."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit._checks import OneOf, Table
from tltoolkit.callbacks._validation_pass import Evaluation

PER_CLASS = ("precision", "recall", "f1", "average_precision", "roc_auc")
AVERAGES = (
    *(f"{name}_{how}" for name in PER_CLASS[:3] for how in ("macro", "micro", "weighted")),
    "average_precision_macro",
    "roc_auc_macro",
)

METRICS: Table = {
    "multi_label": OneOf(None, True, False),
    "from_logits": OneOf("auto", True, False),
}


class ValidationMetrics(keras.callbacks.Callback):
    """Exact precision, recall, F1, average precision and ROC-AUC in the logs.

    It keeps the predictions of the validation pass that `fit` makes anyway, so it costs no second
    pass and no memory beyond N x C float32, and its values are in the logs before any
    callback sees them: `val_precision_macro`, `_micro`, `_weighted`, the same of `recall` and
    `f1`, `val_average_precision_macro`, `val_roc_auc_macro`, and `val_f1_<class>` of each class.
    A class without positives has NaN and stays out of the averages (but for `_micro`, which pool
    all decisions), also where it was predicted; `evaluation.Report` counts that as an F1 of 0, as
    scikit-learn does. The label of a row is its
    highest probability; for multi-label, every probability >= 0.5. ROC-AUC and average precision
    are one class against the rest, from all scores and not from a grid of thresholds. Sample
    weights are ignored, as Keras does for `metrics=`. Several of them in one fit share the
    predictions, each with its own settings; of two that log the same name, the later one counts.

    While Keras validates, XLA is off for that pass (the training step keeps it).

    Args:
        class_names: C names for the per-class keys; "0", "1", ... if None.
        per_class: which of precision, recall, f1, average_precision and roc_auc to log for each
            class.
        averages: which of the averages above to log, such as ("f1_macro",).
        multi_label: whether a row may have several labels. None: if the loss is a binary
            cross-entropy over several columns, or any target row does not sum to 1.
        from_logits: whether the outputs are logits. "auto": if the loss says so, or any output
            lies outside 0..1.

    Targets may be integers (N,) or (N, 1), one-hot (N, C), or zeros and ones (N, C) for
    multi-label; outputs (N, C), or (N, 1) for two classes.

    Raises:
        ValueError: a model with several outputs; targets that do not fit the outputs.

    >>> x, y = np.eye(3, dtype="float32"), np.arange(3)
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
    >>> model.set_weights([np.eye(3)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("sgd", loss)
    >>> history = model.fit(
    ...     x, y, validation_data=(x, y), verbose=0, callbacks=[ValidationMetrics()]
    ... )
    >>> history.history["val_f1_macro"], history.history["val_roc_auc_macro"]
    ([1.0], [1.0])
    """

    def __init__(
        self,
        class_names: Sequence[str] | None = None,
        *,
        per_class: Sequence[str] = ("f1",),
        averages: Sequence[str] = AVERAGES,
        multi_label: bool | None = None,
        from_logits: bool | str = "auto",
    ) -> None:
        super().__init__()
        for name in per_class:
            _checks.one_of("per_class", name, PER_CLASS)
        for name in averages:
            _checks.one_of("averages", name, AVERAGES)
        _checks.arguments(METRICS, locals())
        self.class_names = class_names
        self.per_class = per_class
        self.averages = averages
        self.multi_label = multi_label
        self.from_logits = from_logits
        self._validated = self._warned = False

    def score(self, targets: npt.NDArray[Any], outputs: npt.NDArray[Any]) -> dict[str, float]:
        """The scores of a whole validation set by their names in the logs, without "val_".

        `fit` needs no call of this: it is for what validates in its own way.

        Args:
            targets: As the class says.
            outputs: (N, C), or (N, 1), of the model that this callback was set on.

        Raises:
            ValueError: targets that do not fit the outputs.
        """
        self._validated = True
        outputs = np.asarray(outputs, np.float32).reshape(len(outputs), -1)
        # (N,) and (N, 1) alike; a single column is class numbers.
        targets = np.asarray(targets).reshape(len(targets), -1)
        several = self._has_several_labels(targets)
        if self._are_logits(outputs):
            outputs = _probabilities(outputs, softmax=not several and outputs.shape[1] > 1)
        figures = _figures(targets, outputs, several, self.class_names)
        return _named(figures, self.averages, self.per_class)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put a layer around `evaluate`, which is what `fit` calls to validate."""
        self._validated = self._warned = False
        # Also in place of one that a fit that failed has left.
        self.model.evaluate = Evaluation(self.model, ValidationMetrics)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Say so once if there is nothing to score."""
        if not (self._validated or self._warned):
            self._warned = True
            warnings.warn(
                f"ValidationMetrics has no values for epoch {epoch + 1}: fit was given no "
                "validation_data, or validation_freq skipped it",
                stacklevel=2,
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the model as it was."""
        found = self.model.__dict__.get("evaluate")
        if isinstance(found, Evaluation):
            found.undo()

    def _has_several_labels(self, targets: npt.NDArray[Any]) -> bool:
        if self.multi_label is not None or targets.shape[1] == 1:
            return bool(self.multi_label)
        # By its name: compiled as a text, an object or a function it has one.
        binary = "binary" in str(getattr(self.model.loss, "name", self.model.loss))
        return binary or not np.allclose(targets.sum(axis=1), 1)

    def _are_logits(self, outputs: npt.NDArray[np.float32]) -> bool:
        if self.from_logits != "auto":
            return bool(self.from_logits)
        loss = self.model.loss
        config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
        # A NaN fails both comparisons and so does not count as outside.
        outside = bool(((outputs < 0) | (outputs > 1)).any())
        return bool(config.get("from_logits", False)) or outside


def _probabilities(logits: npt.NDArray[np.float32], softmax: bool) -> npt.NDArray[np.float32]:
    if not softmax:
        # exp(89) does not fit float32; beyond 80 the result is nearly 0 or 1 all the same.
        return (1 / (1 + np.exp(-logits.clip(-80, 80)))).astype(np.float32)
    # The difference of two huge logits does not fit float32.
    powers = np.exp(np.subtract(logits, logits.max(axis=1, keepdims=True), dtype=np.float64))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _figures(
    targets: npt.NDArray[Any],
    probabilities: npt.NDArray[np.float32],
    several: bool,
    class_names: Sequence[str] | None,
) -> Any:
    # Here, so that the other callbacks load without it.
    from tltoolkit.evaluation.figures import Figures

    # One output is the second of two classes, as everywhere in Keras.
    if probabilities.shape[1] == 1 and not several:
        probabilities = np.hstack([1 - probabilities, probabilities])
    count = probabilities.shape[1]
    names = tuple(map(str, range(count) if class_names is None else class_names))
    if len(names) != count:
        raise _checks.fail("class_names", f"{count} names, one for each output", class_names)
    return Figures(
        labels=_labels(targets, count, several),
        probabilities=probabilities,
        class_names=names,
        multi_label=several,
    )


def _named(figures: Any, averages: Sequence[str], per_class: Sequence[str]) -> dict[str, float]:
    """The scores by the name that they have in the logs, without "val_"."""
    # A NaN compares with nothing, so that ranks and labels would be silently wrong.
    finite = bool(np.isfinite(figures.probabilities).all())
    unknown = [float("nan")] * len(figures.class_names)
    scores = {
        name: figures.average(*name.rsplit("_", 1), present=True) if finite else float("nan")
        for name in averages
    }
    for figure in per_class:
        values = figures.of_present(figure) if finite else unknown
        named = zip(figures.class_names, values, strict=True)
        scores |= {f"{figure}_{name}": float(value) for name, value in named}
    return scores


def _labels(targets: npt.NDArray[Any], count: int, several: bool) -> npt.NDArray[np.int64]:
    if targets.shape[1] != count and (several or targets.shape[1] != 1):
        raise ValueError(
            f"ValidationMetrics: the targets have {targets.shape[1]} columns and the model has "
            f"{count} outputs"
        )
    if several:
        return (targets >= 0.5).astype(np.int64)
    labels = targets[:, 0] if targets.shape[1] == 1 else targets.argmax(axis=1)
    labels = labels.astype(np.int64)
    # NumPy would count -1 as the last class.
    if labels.min() < 0 or labels.max() >= count:
        raise ValueError(f"ValidationMetrics: labels must lie in 0..{count - 1}")
    return labels
