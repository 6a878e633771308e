"""What was given to a run and could not do its work there; asked before anything is trained."""

from collections.abc import Sequence
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit import callbacks as ours
from tltoolkit.imbalance import Correction
from tltoolkit.layers import graph
from tltoolkit.model.network import Network
from tltoolkit.plans.stages import Stage
from tltoolkit.training import correcting, objective
from tltoolkit.training.best import BEST_BY
from tltoolkit.training.linear import linear_head

# These keep or restore the weights of one whole model in one fit; a stage fits but its upper part.
KEEPERS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.OrbaxCheckpoint,
    ours.Resume,
)
# They set a rate that must be a number, which a schedule's is not.
SETTERS: dict[Any, str] = {
    keras.callbacks.LearningRateScheduler: "a stage with schedule='constant' and no warmup",
    keras.callbacks.ReduceLROnPlateau: "tl.callbacks.ReduceLROnPlateau",
    ours.LearningRateDecay: "a stage with schedule='constant' and no warmup",
}
# They add nothing to the logs, or what is known.
SILENT = (
    keras.callbacks.CSVLogger,
    keras.callbacks.EarlyStopping,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.TensorBoard,
    keras.callbacks.TerminateOnNaN,
    ours.MixedWeightAverage,
    ours.SpatialDropoutSchedule,
)
# Keras knows which way its own metrics improve, but not this one.
DIRECTED = ("loss", "accuracy")


def check(
    callbacks: Sequence[Any],
    network: Network,
    stages: Sequence[Stage],
    correction: Correction,
    val: bool,
) -> None:
    """Raise for a callback that would fail in a later epoch, do nothing, or do harm.

    And for a loss that no stage would train by.

    Args:
        callbacks: What `fine_tune` was given.
        network: The classifier.
        stages: The stages, also those that may follow.
        correction: What is done about class imbalance, which may add a stage.
        val: Whether there are validation images.

    Raises:
        TypeError: Something else than a Keras callback.
        ValueError: A callback that has no place in a run; it says what does its work.
    """
    # A solved stage calls nobody, so that nothing in it can harm a callback.
    fitted = [stage for stage in stages if not stage.solved]
    if correction.imbalance.adjust == correcting.RETRAIN and linear_head(network) is None:
        fitted.append(Stage(correcting.RETRAIN))
    if not fitted and correction.imbalance.loss in ("focal", "ldam", "asymmetric"):
        rule = "another one where every stage solves the head, which takes cross-entropy"
        raise _checks.fail("loss", rule, correction.imbalance.loss)
    logged = _logged(correction, val)
    for callback in callbacks:
        _checks.instance("callbacks", callback, keras.callbacks.Callback, "Keras callbacks")
        reason = _no_place(callback, network.model, fitted)
        reason = reason or _no_monitor(callback, callbacks, logged)
        if reason:
            raise ValueError(f"`callbacks` must do without {type(callback).__name__}: {reason}")
    if callbacks and not fitted:
        rule = "empty where every stage solves the head, which has no epochs to call them in"
        raise _checks.fail("callbacks", rule, list(callbacks))


def _logged(correction: Correction, val: bool) -> list[str]:
    """The names in the logs of an epoch."""
    names = ["loss", "accuracy", *([objective.PLAIN] if correction.in_loss else [])]
    return [*names, *(f"val_{name}" for name in names), BEST_BY] if val else names


def _no_place(callback: Any, model: Any, fitted: Sequence[Stage]) -> str:
    """Why a callback cannot work in these stages, or ""."""
    if isinstance(callback, KEEPERS):
        return "a stage fits the layers above what is frozen; give run_dir, which keeps all"
    if isinstance(callback, keras.callbacks.SwapEMAWeights):
        return "no stage's optimizer averages; tl.callbacks.MixedWeightAverage does"
    if isinstance(callback, ours.MixedWeightAverage) and callback.batches is not None:
        return "its `batches` are not what a stage's layers take; batch_norm='recalibrate' does it"
    changeable = any(hasattr(layer, "set_rate") for layer in graph.layers_inside(model))
    if isinstance(callback, ours.SpatialDropoutSchedule) and not changeable:
        return "the model has no dropout whose rate can change; build_classifier(spatial_dropout=)"
    for stage in fitted:
        if reason := _no_place_in(callback, stage):
            return f"{reason} in stage {stage.name!r}"
    return ""


def _no_place_in(callback: Any, stage: Stage) -> str:
    scheduled = stage.schedule != "constant" or stage.warmup > 0
    composes = isinstance(callback, ours.ReduceLROnPlateau)
    for kind, instead in SETTERS.items():
        if isinstance(callback, kind) and scheduled and not composes:
            return f"the rate follows a schedule; it takes {instead}"
    if isinstance(callback, keras.callbacks.LearningRateScheduler) and stage.layer_decay < 1:
        return "it would give all blocks one rate, against layer_decay"
    still = stage.optimizer in ("adagrad", "adadelta") or (
        stage.optimizer in ("sgd", "rmsprop") and stage.momentum == 0
    )
    if isinstance(callback, ours.MomentumSchedule) and still:
        return f"{stage.optimizer} has no momentum to schedule"
    return ""


def _no_monitor(callback: Any, callbacks: Sequence[Any], logged: Sequence[str]) -> str:
    """Why a callback could not compare what it watches, or ""."""
    if not isinstance(callback, (keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau)):
        return ""
    # Ours may watch several; Keras' have one.
    names: tuple[str, ...] = getattr(callback, "monitors", (callback.monitor,))
    known = {*logged, "learning_rate", "momentum"}
    # What other callbacks log is theirs to know.
    others = [c for c in callbacks if not isinstance(c, (*SILENT, *SETTERS, ours.MomentumSchedule))]
    for name in names:
        if name not in known and not others:
            return f"it watches {name!r}, and an epoch logs {', '.join(logged)}"
    own = isinstance(callback, (ours.EarlyStopping, ours.ReduceLROnPlateau))
    if not own and callback.mode == "auto" and names[0].removeprefix("val_") not in DIRECTED:
        return f"it needs mode='max' or 'min' to watch {names[0]!r}"
    return ""
