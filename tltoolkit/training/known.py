"""What a classifier knows of the images that it was trained on: how far its features may lie."""

from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.model import freezing
from tltoolkit.solving.familiarity import Distance, Familiarity
from tltoolkit.solving.ranks import Ranks
from tltoolkit.training import closed
from tltoolkit.training.caching import Wanted
from tltoolkit.training.job import Job

# Validation images by which distances are ranked: of fewer a share of a tenth says nothing.
LEAST = 10


def familiarity(job: Job, asked: bool) -> Familiarity | None:
    """How familiar images are to the model as it is now; None where that cannot be known.

    The features of a head that was solved just now are stored, so that they take no pass.

    Args:
        job: The run.
        asked: Whether it is wanted; None is the answer where it is not.
    """
    if not asked or _missing(job):
        return None
    assert job.val is not None
    tensor = _tensor(job)
    wanted = [Wanted(examples=one, pipeline=job.plain) for one in (job.train, job.val)]
    train, val = job.features.get(job.model, tensor, job.batch_size, wanted)
    parts = closed.parts_of(job.network, tensor.shape[1])
    targets = job.train.targets
    several = job.multi_label
    # With several labels an image is of no one class: their means are those of mixtures.
    labels = np.zeros(len(targets), np.int64) if several else targets.argmax(1)
    distance = Distance.of(train[0], labels, parts, 1 if several else targets.shape[1])
    return Familiarity(distance, Ranks.of(distance(val[0])))


def check(job: Job) -> None:
    """Raise ValueError unless it can be known how familiar images are."""
    if missing := _missing(job):
        raise _checks.fail("familiarity", f"None or False without {missing}", True)


def _missing(job: Job) -> str:
    """What is missing for it, or ""."""
    if job.network.settings is None:
        # A user's own model has no place beside it where this could be kept.
        return "a model of tl.build_classifier"
    if job.val is None or len(job.val.source) < LEAST:
        return f"{LEAST} validation images or more"
    return "" if _tensor(job) is not None else "a head that reads one row of features"


def _tensor(job: Job) -> Any:
    return freezing.head_input(job.model, job.network.blocks)
