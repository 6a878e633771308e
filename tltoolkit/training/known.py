"""What a classifier knows of the images that it was trained on: how far its features may lie."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.model import freezing
from tltoolkit.plans.stages import Stage
from tltoolkit.plans.terms import LDA, RIDGE
from tltoolkit.solving.familiarity import Distance, Familiarity
from tltoolkit.solving.ranks import Ranks
from tltoolkit.solving.statistics import KEPT, Statistics
from tltoolkit.training import closed, solving
from tltoolkit.training.caching import Wanted
from tltoolkit.training.job import Job, task_of
from tltoolkit.training.progress import Progress
from tltoolkit.training.result import holding

CLOSED = (LDA, RIDGE)
# Validation images by which distances are ranked: of fewer a share of a tenth says nothing.
LEAST = 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run is to leave besides weights; None decides by what it costs.

    Attributes:
        familiarity: Whether it knows how familiar images are.
        statistics: Whether it keeps the sums that its head was solved on.
    """

    familiarity: bool | None = None
    statistics: bool | None = None


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


def statistics(job: Job, progress: Progress, asked: bool | None) -> Statistics | None:
    """The sums that the head in closed form was solved on; None where it ends with another.

    Args:
        job: The run, its model with the weights that it ends with.
        progress: What has happened.
        asked: Whether they are wanted; None is where they are small.
    """
    if asked is False or not counts_alike(job):
        return None
    solved = progress.solved or _solved(job, progress)
    if solved is None or (asked is None and solved.size() > KEPT):
        return None
    return solved.statistics()


def counts_alike(job: Job) -> bool:
    """Whether each row counts once, so that sums of rows know all that a head was solved on."""
    correction, targets = job.correction, job.train.targets
    made_up = correction.imbalance.features is not None or correction.offsets is not None
    known = job.network.settings is not None
    return known and not made_up and correction.solver_weights(targets) is None


def check_statistics(job: Job, begun: Iterable[Stage], compares: bool) -> None:
    """Raise ValueError where sums are asked for that there will never be."""
    closed_form = compares or any(stage.optimizer in CLOSED for stage in begun)
    if job.network.settings is None:
        missing = "a model of tl.build_classifier"
    elif not closed_form:
        missing = "a head in closed form: plan='solve' or 'auto', optimizer='lda' or 'ridge'"
    elif not counts_alike(job):
        missing = "imbalance='none': sums do not know weights, which change with a class"
    else:
        return
    raise _checks.fail("statistics", f"None or False without {missing}", True)


def _solved(job: Job, progress: Progress) -> solving.Solved | None:
    """The head of the stage with the best epoch, if that is in closed form."""
    result, epoch = holding(progress.results, progress.best.epoch)
    if result.stage.optimizer not in CLOSED:
        return None
    number, first = progress.results.index(result), progress.best.epoch - epoch
    stage = result.stage
    plan = freezing.freeze_plan(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)
    task = task_of(job, stage, number, first, plan)
    choice = progress.choice
    if choice is None or choice.task.number != number:
        choice = solving.choice_of(task)
    return solving.Solved(task=task, choice=choice)


def check_kept(model: Any, asked: Asked) -> None:
    """Raise ValueError where a run that is finished has not kept what is asked for now."""
    for name in ("familiarity", "statistics"):
        if getattr(asked, name) and getattr(model, f"tltoolkit_{name}", None) is None:
            rule = "None or False for a finished run without; name another directory"
            raise _checks.fail(name, rule, True)


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
