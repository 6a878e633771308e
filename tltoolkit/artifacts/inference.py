"""Running a classifier over images: probabilities and the report on a split."""

import warnings
from typing import Any, Protocol

import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.augment.labels import reader
from tltoolkit.data import Split
from tltoolkit.evaluation import Report
from tltoolkit.model.network import Network, network_of


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
    network = network_of(model, from_logits, multi_label)
    network.check_outputs(multi_label)
    return _proba(network, model, source, batch_size, multi_label, pipeline, views)


def _proba(
    network: Network,
    model: Any,
    source: Source,
    batch_size: int,
    multi_label: bool,
    pipeline: Any,
    views: int,
) -> np.ndarray:
    versions = versions_of(network, pipeline, views)

    def once(pipeline: Any, epoch: int) -> np.ndarray:
        batches = augment.Batches(source, pipeline, batch_size=batch_size, epochs_from=epoch)
        outputs = [model.predict_on_batch(network.as_input(images)[0]) for images, _ in batches]
        # Our own models end in probabilities, whatever the loss is computed from.
        joined = np.concatenate(outputs)
        return joined if network.settings else network.probabilities(joined, multi_label)

    # The plain version is of epoch 0, and the random ones of those that follow.
    total = once(versions[0], 0)
    for epoch, version in enumerate(versions[1:], 1):
        total = total + once(version, epoch)
    return total / views


def versions_of(network: Network, pipeline: Any, views: int) -> list[augment.Pipeline]:
    """What makes each of the `views` versions of an image, the plain one first.

    Raises:
        ValueError: Several views without a random pipeline, or one with it; a pipeline of another
            size or preparation than the network's.
    """
    _checks.integer("views", views, 1)
    if pipeline is not None:
        _checks.instance("pipeline", pipeline, augment.Pipeline, "an augment.Pipeline")
        network, pipeline = network.shown("pipeline", pipeline)
    if (pipeline is not None and pipeline.random) != (views > 1):
        raise _checks.fail("views", "above 1 with a random pipeline, and 1 without", views)
    return [network.plain, *[pipeline] * (views - 1)]


def _say_order(split: Split) -> None:
    """Warn where sorted class names may come in another order than a model's own loader gave."""
    names = split.class_names
    if not split.order_stated and tuple(sorted(names)) != tuple(names):
        warnings.warn(
            f"classes are numbered in the order {', '.join(names)}; Keras' loader would have taken "
            f"{', '.join(sorted(names))}. If the model was trained so, pass class_names= to the "
            "source of the images; if not, pass these",
            stacklevel=4,  # the caller of tl.evaluate
        )


def evaluate(
    model: Any,
    split: Any,
    batch_size: int = 32,
    *,
    pipeline: Any = None,
    views: int = 1,
    from_logits: bool | str = "auto",
) -> Report:
    """The report of a model's probabilities on a split; see `tltoolkit.artifacts.evaluating`."""
    check_split(split)
    # Before the model is looked at, which may take a pass of test images.
    _checks.integer("batch_size", batch_size, 1)
    network = network_of(model, from_logits, split.multi_label)
    network.check_classes("split", tuple(split.class_names), split.multi_label)
    # Ours has names to compare; of somebody else's only their order can be doubted.
    if network.settings is None:
        _say_order(split)
    plain = versions_of(network, pipeline, views)[0]
    image = reader(split, plain.image_size)
    return Report.from_predictions(
        split.labels,
        _proba(network, model, split, batch_size, split.multi_label, pipeline, views),
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
