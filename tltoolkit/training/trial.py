"""How a job is laid out: by a run for all its stages, or for a measurement on some images."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks
from tltoolkit.augment import keys
from tltoolkit.data.images import check_image_data
from tltoolkit.model.network import Network, network_of
from tltoolkit.training.caching import Examples, Features
from tltoolkit.training.features import Storage
from tltoolkit.training.job import Job


def network_for(model: Any, data: Any, from_logits: bool | str = "auto") -> Network:
    """The view of a model that fits the data; for `from_logits` see `network_of`.

    Raises:
        TypeError: Not a Keras model, or not an `ImageData`.
        ValueError: Data with other classes than the model's, or outputs that do not fit them.
    """
    _checks.instance("model", model, keras.Model, "a keras.Model")
    # Before the network is looked at, which needs to know `multi_label`.
    check_image_data(data)
    network = network_of(model, from_logits, data.multi_label)
    network.check_classes("data", data.class_names, data.multi_label)
    return network


def job_of(
    network: Network,
    train: Any,
    val: Any | None,
    *,
    batch_size: int,
    seed: int,
    pipeline: Any = None,
    features: Features | None = None,
    callbacks: Sequence[Any] = (),
    verbose: int = 0,
    correction: Any = None,
) -> Job:
    """A job on two splits; a pipeline of None shows the training images plain."""
    plain = network.plain
    return Job(
        network=network,
        train=Examples.of(train),
        val=None if val is None else Examples.of(val),
        plain=plain,
        augmented=pipeline or plain,
        features=features or Features(storage=Storage()),
        batch_size=batch_size,
        multi_label=train.multi_label,
        callbacks=callbacks,
        verbose=verbose,
        seed=seed,
        correction=correction,
    )


def trial(
    network: Network, split: Any, *, batch_size: int, seed: int = 0, pipeline: Any = None
) -> Job:
    """A job that trains on `split`, without validation images.

    Args:
        network: The classifier.
        split: The images.
        batch_size: Images per step.
        seed: Of their order and of dropout.
        pipeline: What they go through; None shows them plain.

    Raises:
        ValueError: A pipeline with another image size than the model's, or that prepares images
            otherwise.
    """
    if pipeline is not None:
        network, pipeline = network.shown("pipeline", pipeline)
    return job_of(network, split, None, pipeline=pipeline, batch_size=batch_size, seed=seed)


def sample(split: Any, count: int, seed: int = 0) -> Any:
    """`count` images of a split at random, every class as often as can be; all if it has fewer.

    One image of each class after the other is drawn, so that a few images show all classes.
    """
    # Of several labels the first: it only spreads the choice.
    labels = split.labels.argmax(1) if split.multi_label else split.labels
    order = keys.keyed(seed, keys.SHUFFLE).permutation(len(split))
    turn = np.empty(len(split), np.int64)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        turn[rows] = np.arange(len(rows))
    # The sort is stable, so that within a turn the order stays random.
    return split.subset(np.sort(order[np.argsort(turn[order], kind="stable")][:count]))
