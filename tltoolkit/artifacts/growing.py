"""add_class, update: a classifier that learns further images without training.

Its head is solved again from the sums of all rows, those of before and the new ones.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.artifacts import seeing
from tltoolkit.artifacts.inference import versions_of
from tltoolkit.artifacts.keras_engine import KerasEngine
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.seeing import Image
from tltoolkit.artifacts.terms import GROWING
from tltoolkit.augment.labels import as_targets
from tltoolkit.data import ImageData, Split
from tltoolkit.data.arrays import check_pixels
from tltoolkit.data.decoding import MAX_PIXELS
from tltoolkit.data.seen import NEW
from tltoolkit.data.sources import Arrays, Files
from tltoolkit.data.split import SPLITS
from tltoolkit.layers import graph
from tltoolkit.model.classifier import LOGITS, settings_of, with_classes
from tltoolkit.model.settings import checked_names
from tltoolkit.solving.familiarity import Familiarity
from tltoolkit.solving.statistics import Statistics


def add_class(
    predictor: Predictor, name: str, images: Sequence[Image], *, batch_size: int = 32
) -> Predictor:
    """A classifier that also knows another class, by some images of it, without training.

    The head is solved again on the sums that `fine_tune(statistics=)` left and the new images:
    with the same features, strengths and kinds, it is the one that solving on all images at once
    would give. The layers below are shared with `predictor`, which stays as it is.

    Args:
        predictor: Of `tl.load`, or of a run's model; its head must be in closed form, as
            `plan="solve"` and `plan="auto"` make it, and its statistics kept.
        name: Of the new class, which comes last. Images of a multi-label classifier have this
            label alone.
        images: Of the new class, as `Predictor.predict` takes them, one or more.
        batch_size: Images per forward pass.

    Returns:
        The new classifier, to be saved and exported like any other. It keeps the temperature and
        the statistics; the new class counts as familiar. Thresholds and abstention, which were
        chosen for the classes before, are left out with a warning.

    Raises:
        ValueError: A name that is taken, no images, or one that cannot be read, named; a
            classifier without statistics.

    Warns:
        UserWarning: The decision had thresholds or an abstention.
    """
    _checks.arguments(GROWING, locals())
    statistics = _statistics(predictor)
    names = tuple(predictor.class_names)
    if name in names:
        raise _checks.fail("name", f"other than those of the classes {names}", name)
    grown = checked_names((*names, name), predictor.decision.multi_label, "name")
    split = _split(predictor, images, grown)
    decision = predictor.decision
    if decision.thresholds is not None or decision.abstention is not None:
        said = "thresholds and abstention were chosen for the classes before, and are left out"
        warnings.warn(f"{said}: choose them anew on validation images", stacklevel=2)
        decision = dataclasses.replace(decision, thresholds=None, abstention=None)
    before = dataclasses.replace(predictor, decision=decision)
    return _learned(before, statistics.with_class(), split, batch_size)


def update(predictor: Predictor, data: Split | ImageData, *, batch_size: int = 32) -> Predictor:
    """A classifier that has also learned further images of its classes, without training.

    As `add_class`, but for the decision, which stays.

    Args:
        predictor: As in `add_class`.
        data: A `Split`, or an `ImageData` of which the training images are taken. Its classes
            are among the classifier's. Images that the classifier was trained or validated on
            are left out, with a warning.
        batch_size: Images per forward pass.

    Raises:
        ValueError: Unknown classes, images that cannot be read, none that is new; a classifier
            without statistics.

    Warns:
        UserWarning: Some images were left out.
    """
    GROWING["batch_size"].check("batch_size", batch_size)
    statistics = _statistics(predictor)
    _checks.instance("data", data, (Split, ImageData), "a Split, such as data.train, or ImageData")
    split = data.train if isinstance(data, ImageData) else data
    split = split.in_classes(tuple(predictor.class_names), predictor.decision.multi_label)
    return _learned(predictor, statistics, _new(predictor, split), batch_size)


def _statistics(predictor: Any) -> Statistics:
    _checks.instance("predictor", predictor, Predictor, "a Predictor, as tl.load returns it")
    found = getattr(predictor.model, "tltoolkit_statistics", None)
    if isinstance(found, Statistics):
        return found
    rule = (
        "a classifier that keeps the sums its head was solved on: of tl.fine_tune with "
        "plan='solve' or 'auto' and statistics=True, in memory or saved, not exported"
    )
    raise _checks.fail("predictor", rule, f"one of a model {type(predictor.model).__name__}")


def _split(predictor: Predictor, images: Any, names: tuple[str, ...]) -> Split:
    """Images of the last of some classes."""
    rule = "a sequence of one or more paths, arrays or other images"
    if seeing.is_one(images) or not hasattr(images, "__getitem__") or not len(images):
        raise _checks.fail("images", rule, images)
    source: Any
    if all(isinstance(image, (str, Path)) for image in images):
        source = Files([str(image) for image in images], MAX_PIXELS)
    else:
        side = predictor.engine.image_size
        source = Arrays([_array(image, f"images[{i}]", side) for i, image in enumerate(images)])
    labels: Any = np.full(len(source), len(names) - 1)
    if predictor.decision.multi_label:
        labels = np.eye(len(names), dtype=np.uint8)[labels]
    return _new(
        predictor,
        Split(source=source, indices=np.arange(len(source)), labels=labels, class_names=names),
    )


def _array(image: Image, name: str, side: int) -> np.ndarray:
    found = seeing.pixels_of(image, name, side)
    _checks.instance(name, found, np.ndarray, "a path, an array or another image")
    check_pixels(name, found, ("(H, W, 3)", "(H, W)"), 0)
    return found


def _new(predictor: Predictor, split: Split) -> Split:
    """The images that the classifier has not learned from yet."""
    seen = getattr(predictor.model, "tltoolkit_seen", None)
    if seen is None:
        return split
    before = seen.split_of(split)
    # Test images have taught it nothing; those of the other two are in the sums.
    new = (before == NEW) | (before == SPLITS.index("test"))
    if not new.any():
        raise _checks.fail("data", "images that the classifier has not learned from", split)
    if not new.all():
        count = int((~new).sum())
        warnings.warn(f"{count} images are left out: learned from before", stacklevel=3)
    return split.subset(new)


def _learned(
    predictor: Predictor, statistics: Statistics, split: Split, batch_size: int
) -> Predictor:
    """The classifier of all rows, those of a split in the classes of the outcome included."""
    engine, several = predictor.engine, predictor.decision.multi_label
    assert isinstance(engine, KerasEngine)  # it has statistics
    rows = _features(engine, split, batch_size)
    total = statistics.with_rows(rows, as_targets(split, None))
    kernel, bias = total.solve(rows.shape[1], several)
    model = with_classes(predictor.model, split.class_names)
    model.get_layer(LOGITS).kernel.assign(kernel)
    model.get_layer(LOGITS).bias.assign(bias)
    shares = tuple(map(float, total.y / total.weight))
    # A label that all have or none has no odds that another prior could shift.
    if all(0 < share < 1 for share in shares):
        model.tltoolkit_settings = dataclasses.replace(
            settings_of(model), train_prior=shares, output_prior=shares
        )
    model.tltoolkit_statistics = total
    if (known := engine.familiarity) is not None:
        if len(split.class_names) > len(predictor.class_names):
            # Of several labels, too, whose images so far have one centre.
            labels = np.full(len(split), len(known.distance.means))
        else:
            labels = np.zeros(len(split), np.int64) if several else split.labels
        distance = known.distance.with_rows(rows, labels)
        model.tltoolkit_familiarity = Familiarity(distance, known.ranks)
    if (seen := getattr(predictor.model, "tltoolkit_seen", None)) is not None:
        model.tltoolkit_seen = seen.with_trained(split)
    return dataclasses.replace(predictor, model=model, class_names=split.class_names)


def _features(engine: KerasEngine, split: Split, batch_size: int) -> np.ndarray:
    """(N, F) what the head reads of the images of a split."""
    model = graph.part(engine.network.model, engine.network.model.input, engine.features)
    plain = versions_of(engine, None, 1)[0]
    batches = augment.Batches(split, plain, batch_size=batch_size)
    return np.concatenate(
        [model.predict_on_batch(engine.network.as_input(images)[0]) for images, _ in batches]
    )
