"""Running a classifier over images: probabilities and the report on a split."""

from typing import Any, Protocol

import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.evaluation import Report
from tltoolkit.network import network_of


class Source(Protocol):
    """Anything that has images by number, such as a Split."""

    def __len__(self) -> int: ...

    def image(self, i: int) -> np.ndarray:
        """The i-th image, (H, W, 3) uint8 RGB."""


def predict_proba(
    model: Any, source: Source, batch_size: int = 32, *, multi_label: bool = False
) -> np.ndarray:
    """Probabilities (N, C) of a classifier for the images of `source`, in its order.

    Images are decoded a few batches ahead of the model and never kept. Outputs of a user's own
    model that are logits become probabilities, by a sigmoid where `multi_label`.
    """
    _checks.integer("batch_size", batch_size, 1)
    network = network_of(model)
    batches = augment.Batches(
        source, augment.Pipeline(None, network.image_size), batch_size=batch_size
    )
    outputs = np.concatenate(
        [model.predict_on_batch(network.as_input(images)[0]) for images, _ in batches]
    )
    # Our own models end in probabilities, whatever the loss is computed from.
    return outputs if network.settings else network.probabilities(outputs, multi_label)


def evaluate(model: Any, split: Any, batch_size: int = 32) -> Report:
    """The report of a classifier on a split.

    Args:
        model: From `tl.build_classifier`, `run.model`, or your own `keras.Model` from square
            images to class scores.
        split: A `Split` of labelled images, such as `data.test`.
        batch_size: Images per forward pass.

    Raises:
        ValueError: No split, or one with other classes than the model's.
    """
    if split is None:
        raise _checks.fail("split", "a Split; this data set has none here (see `test=`)", None)
    network_of(model).check_classes("split", tuple(split.class_names), split.multi_label)
    return Report.from_predictions(
        split.labels,
        predict_proba(model, split, batch_size, multi_label=split.multi_label),
        split.class_names,
        multi_label=split.multi_label,
        names=[split.name(i) for i in range(len(split))],
        image=split.image,
    )
