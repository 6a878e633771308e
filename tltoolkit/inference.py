"""Running a classifier over images: probabilities and the report on a split."""

import warnings
from typing import Any, Protocol

import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.data import Split
from tltoolkit.evaluation import Report
from tltoolkit.network import network_of


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
) -> np.ndarray:
    """Probabilities (N, C) of a classifier for the images of `source`, in its order.

    Images are decoded a few batches ahead of the model and never kept.

    Args:
        model: From `tl.build_classifier`, or your own; where its outputs are logits they become
            probabilities.
        source: Where the images come from.
        batch_size: Images per forward pass.
        multi_label: Whether logits become probabilities by a sigmoid.
        pipeline: An `augment.Pipeline` for test-time augmentation; None shows images as they are.
        views: How many versions of each image to average over, >= 1; the first is the plain
            one, the others are those that `pipeline` makes in epochs 1, 2, ...

    Raises:
        ValueError: An argument out of range, several views without a pipeline, or an image that
            cannot be read.
    """
    _checks.integer("batch_size", batch_size, 1)
    network = network_of(model)
    size = network.image_size
    check_views(pipeline, views, size)

    def once(pipeline: Any, epoch: int) -> np.ndarray:
        batches = augment.Batches(source, pipeline, batch_size=batch_size, epochs_from=epoch)
        outputs = [model.predict_on_batch(network.as_input(images)[0]) for images, _ in batches]
        # Our own models end in probabilities, whatever the loss is computed from.
        joined = np.concatenate(outputs)
        return joined if network.settings else network.probabilities(joined, multi_label)

    total = once(augment.Pipeline(None, size), 0)
    for epoch in range(1, views):
        total = total + once(pipeline, epoch)
    return total / views


def check_views(pipeline: Any, views: int, image_size: int) -> None:
    """Raise ValueError unless `pipeline` makes `views` versions of this size, or there is one."""
    _checks.integer("views", views, 1)
    if (pipeline is None) != (views == 1):
        raise _checks.fail("views", "above 1 with a pipeline, and 1 without", views)
    if pipeline is not None and pipeline.image_size != image_size:
        rule = f"a pipeline with the model's image_size {image_size}"
        raise _checks.fail("pipeline", rule, pipeline.image_size)


def _say_order(split: Split) -> None:
    """Warn where sorted class names may come in another order than a model's own loader gave."""
    names = split.class_names
    if not split.order_stated and tuple(sorted(names)) != tuple(names):
        warnings.warn(
            f"classes are numbered in the order {', '.join(names)}; Keras' loader would have taken "
            f"{', '.join(sorted(names))}. If the model was trained so, pass class_names= to the "
            "source of the images; if not, pass these",
            stacklevel=3,
        )


def evaluate(
    model: Any, split: Any, batch_size: int = 32, *, pipeline: Any = None, views: int = 1
) -> Report:
    """The report of a classifier on a split.

    Args:
        model: From `tl.build_classifier`, `run.model`, or your own `keras.Model` from square
            images to class scores.
        split: A `Split` of labelled images, such as `data.test`.
        batch_size: Images per forward pass.
        pipeline: For test-time augmentation, see `views`.
        views: Versions of each image, the plain one and those of `pipeline`, whose
            probabilities are averaged.

    Raises:
        ValueError: No split, or one with other classes than the model's.
        TypeError: Something else than a split.
    """
    if split is None:
        raise _checks.fail("split", "a Split; this data set has none here (see `test=`)", None)
    rule = "a Split, such as data.test; of a generator or tf.data.Dataset by tl.data.from_stream"
    _checks.instance("split", split, Split, rule)
    network = network_of(model)
    network.check_classes("split", tuple(split.class_names), split.multi_label)
    if network.settings is None:
        _say_order(split)
    return Report.from_predictions(
        split.labels,
        predict_proba(
            model,
            split,
            batch_size,
            multi_label=split.multi_label,
            pipeline=pipeline,
            views=views,
        ),
        split.class_names,
        multi_label=split.multi_label,
        names=[split.name(i) for i in range(len(split))],
        image=split.image,
    )
