"""evaluate: the report of a model, or of what a predictor or a saved classifier answers."""

from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.artifacts import inference, loading
from tltoolkit.artifacts.engine import Engine
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.priors import Prior, shifted
from tltoolkit.evaluation import Decision, Report


def evaluate(
    model: Any,
    split: Any,
    batch_size: int = 32,
    *,
    pipeline: Any = None,
    views: int = 1,
    prior: Prior | None = None,
    from_logits: bool | str = "auto",
) -> Report:
    """The report of a classifier on a split.

    Of a model it scores the probabilities. Of a `Predictor`, or a directory that `tl.save` or
    `tl.fine_tune` wrote, it scores the answers: those of `predictor.predict` on the same images,
    with the stored temperature, thresholds and abstention. Its figures are then of the images
    that are answered, `report.coverage` says how many those are, and `report.raw` is the report
    of the probabilities on all of them. A predictor whose decision has no part, as after
    `fine_tune`, answers with the highest probability, so that its report is the raw one.

    Args:
        model: From `tl.build_classifier`, `run.model`, or your own `keras.Model` from square
            images to class scores; a `Predictor`; or the path of a saved or exported classifier.
        split: A `Split` of labelled images, such as `data.test`.
        batch_size: Images per forward pass.
        pipeline: An `augment.Pipeline`. What it does to every image alike (`fit`, transforms
            that are not random) is done; it must not differ from what the classifier was built
            or trained with. For what is random see `views`.
        views: Versions of each image, the plain one and those of a random `pipeline`, whose
            probabilities are averaged (test-time augmentation).
        prior: The share of each class among these images, as in `Predictor.predict`.
        from_logits: Whether the outputs of your own model are logits; `"auto"` tells by its graph
            and by what it says of a few test images, and warns where that is not certain. A
            predictor knows.

    Raises:
        ValueError: No split, or one with other classes than the model's; outputs that do not fit
            its labels; a random pipeline with one view; what `tl.load` and `Predictor.predict`
            raise.
        TypeError: Something else than a split.
    """
    if isinstance(model, (str, Path)):
        model = loading.load(model)
    inference.check_split(split)
    # Before the model is looked at, which may take a pass of test images.
    _checks.integer("batch_size", batch_size, 1)
    # A Decision or a ShiftedDecision, which have no class in common.
    decision: Any = None
    if isinstance(model, Predictor):
        _check_split(model, split)
        # What the predictor was told of its outputs counts, not this call's default.
        engine, decision = model.engine, model.decision
    else:
        engine = _keras(model, split, from_logits)
    report = inference.evaluate(engine, split, batch_size, pipeline, views)
    if prior is not None:
        # A bare model has no decision; a prior needs one to stand in.
        stored = decision or Decision(multi_label=report.multi_label)
        decision = shifted(stored, engine.settings, prior)
    # A decision of no part gives the raw report, which has figures for all rows.
    if decision is None or decision == Decision(multi_label=report.multi_label):
        return report
    return report.decide(decision)


def _keras(model: Any, split: Any, from_logits: bool | str) -> Engine:
    """A model for a split, whose classes it must have."""
    # Here: a predictor of an exported file needs no Keras.
    from tltoolkit.artifacts.keras_engine import KerasEngine

    engine = KerasEngine.of(model, from_logits, split.multi_label)
    engine.network.check_classes("split", tuple(split.class_names), split.multi_label)
    return engine


def _check_split(predictor: Predictor, split: Any) -> None:
    """Raise ValueError unless the labels of a split are the predictor's answers."""
    if tuple(split.class_names) != tuple(predictor.class_names):
        rule = f"data with the predictor's classes {predictor.class_names}"
        raise _checks.fail("split", rule, tuple(split.class_names))
    if split.multi_label != predictor.decision.multi_label:
        rule = f"data with multi_label={predictor.decision.multi_label}, as the predictor"
        raise _checks.fail("split", rule, split.multi_label)
