"""Running a classifier over images: probabilities and the report on a split."""

import inspect
import warnings
from typing import Any, Protocol

import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.artifacts.engine import Engine
from tltoolkit.augment.labels import reader
from tltoolkit.augment.preparation import shown
from tltoolkit.data import Split
from tltoolkit.evaluation import Report


class Source(Protocol):
    """Anything that has images by number, such as a Split."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> np.ndarray:
        """The i-th image, (H, W, 3) uint8 RGB."""


def predict_proba(
    model: Any,
    source: Source,
    batch_size: int = 32,
    *,
    multi_label: bool = False,
    pipeline: Any = None,
    views: int = 1,
    from_logits: bool | str = "auto",
) -> np.ndarray:
    """Probabilities (N, C) of a classifier for the images of `source`, in its order.

    Images are decoded a few batches ahead of the model and never kept.

    Args:
        model: From `tl.build_classifier`, or your own; where its outputs are logits they become
            probabilities, and a single output for two classes becomes two columns.
        source: Where the images come from.
        batch_size: Images per forward pass.
        multi_label: Whether an image may have several labels: logits then become probabilities
            by a sigmoid.
        pipeline: An `augment.Pipeline`. What it does to every image alike (`fit`, transforms
            that are not random) is done to each version, what is random to all but the first.
            None prepares images as the classifier does.
        views: How many versions of each image to average over, >= 1, as test-time augmentation;
            the first is the plain one, the others are those that `pipeline` makes in epochs 1,
            2, ...
        from_logits: Whether the outputs of your own model are logits; `"auto"` tells by its graph
            and by what it says of a few test images, and warns where that is not certain.

    Raises:
        ValueError: An argument out of range; several views without a random pipeline, or one
            with it; a pipeline that prepares images otherwise than the classifier; a model whose
            outputs do not fit the labels; an image that cannot be read.
    """
    _checks.integer("batch_size", batch_size, 1)
    # Here: what an exported file says needs no Keras.
    from tltoolkit.artifacts.keras_engine import KerasEngine

    engine = KerasEngine.of(model, from_logits, multi_label)
    engine.network.check_outputs(multi_label)
    return proba(engine, source, batch_size, pipeline, views)


def proba(
    engine: Engine, source: Source, batch_size: int, pipeline: Any = None, views: int = 1
) -> np.ndarray:
    """`predict_proba` of an engine."""
    versions = versions_of(engine, pipeline, views)

    def once(pipeline: Any, epoch: int) -> np.ndarray:
        batches = augment.Batches(source, pipeline, batch_size=batch_size, epochs_from=epoch)
        return np.concatenate([engine.said(images) for images, _ in batches])

    # The plain version is of epoch 0, and the random ones of those that follow.
    total = once(versions[0], 0)
    for epoch, version in enumerate(versions[1:], 1):
        total = total + once(version, epoch)
    return total / views


def versions_of(engine: Engine, pipeline: Any, views: int) -> list[augment.Pipeline]:
    """What makes each of the `views` versions of an image, the plain one first.

    Raises:
        ValueError: Several views without a random pipeline, or one with it; a pipeline of another
            size or preparation than the engine's.
    """
    _checks.integer("views", views, 1)
    size, own = engine.image_size, engine.preparation
    if pipeline is not None:
        _checks.instance("pipeline", pipeline, augment.Pipeline, "an augment.Pipeline")
        own, pipeline = shown("pipeline", size, own, pipeline)
    if (pipeline is not None and pipeline.random) != (views > 1):
        raise _checks.fail("views", "above 1 with a random pipeline, and 1 without", views)
    return [augment.Pipeline(None, size, first=own), *[pipeline] * (views - 1)]


def _say_order(split: Split) -> None:
    """Warn where sorted class names may come in another order than a model's own loader gave."""
    names = split.class_names
    if not split.order_stated and tuple(sorted(names)) != tuple(names):
        warnings.warn(
            f"classes are numbered in the order {', '.join(names)}; Keras' loader would have taken "
            f"{', '.join(sorted(names))}. If the model was trained so, pass class_names= to the "
            "source of the images; if not, pass these",
            stacklevel=_outside(),
        )


def _outside() -> int:
    """The stack level, seen by who asks, of the first caller that is not of the toolkit."""
    # Frames, since cross-validation evaluates as well as a user does.
    names = [str(one.frame.f_globals.get("__name__")) for one in inspect.stack(0)[1:]]
    return next((i for i, n in enumerate(names, 1) if n.split(".")[0] != "tltoolkit"), 1)


def evaluate(
    engine: Engine, split: Split, batch_size: int, pipeline: Any = None, views: int = 1
) -> Report:
    """The report of an engine's probabilities on a split; see `tltoolkit.artifacts.evaluating`."""
    # Ours has names to compare; of somebody else's only their order can be doubted.
    if engine.settings is None:
        _say_order(split)
    plain = versions_of(engine, pipeline, views)[0]
    image = reader(split, plain.image_size)
    return Report.from_predictions(
        split.labels,
        proba(engine, split, batch_size, pipeline, views),
        split.class_names,
        multi_label=split.multi_label,
        names=[split.name(i) for i in range(len(split))],
        # Read again for the few that a report shows: none is kept.
        image=lambda i: plain(image(i)),
    )


def check_split(split: Any) -> None:
    """Raise unless there is a split, and it is one."""
    if split is None:
        raise _checks.fail("split", "a Split; this data set has none here (see `test=`)", None)
    rule = "a Split, such as data.test; of a generator or tf.data.Dataset by tl.data.from_stream"
    _checks.instance("split", split, Split, rule)
