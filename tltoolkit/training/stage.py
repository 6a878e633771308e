"""One stage: freeze, compute what stays frozen, fit, check that nothing else changed."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.plans.stages import AUTO, Stage
from tltoolkit.training import correcting, frozen, gradient, solving, sweep
from tltoolkit.training.best import best_epoch
from tltoolkit.training.job import Job, Task, task_of
from tltoolkit.training.progress import Progress, variable_paths
from tltoolkit.training.result import StageResult

# Of a stage that asks for "auto" where no rate could be found, by what it unfreezes.
FALLBACK_RATES = {freezing.HEAD: 1e-3}
FALLBACK_RATE = 1e-4


def run_stages(job: Job, stages: Iterable[Stage], first: int, progress: Progress) -> None:
    """Train the stages that are left, the first of them numbered `first`."""
    for number, stage in enumerate(stages, first):
        if number < len(progress.results):
            continue
        if job.verbose:
            print(f"Stage {number + 1}: {stage.name}, unfreeze={stage.unfreeze!r}")
        run_stage(correcting.for_stage(job, stage), stage, number, progress)


def run_stage(job: Job, stage: Stage, number: int, progress: Progress) -> None:
    """Train one stage, from where `progress` has it, and add its record to `progress`.

    The model has the weights of the stage's last epoch afterwards, `progress.best` those of the
    best.

    Raises:
        FloatingPointError: The loss became NaN or infinite.
        RuntimeError: A frozen variable changed.
    """
    plan = freezing.freeze_plan(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)
    # Before all that follows: what trains decides hashes, cut and optimizer.
    freezing.apply_freeze(job.model, plan)
    paths, variables = graph.paths(job.model), frozen.lasting(job.model)
    trained = tuple(paths[id(v)] for v in job.model.trainable_variables)
    # Of a stage that goes on these are the hashes from before the interruption.
    begun = progress.begin_stage(job.steps, frozen.hashes(variables))
    progress.paths = variable_paths(job.model)
    before = begun["hashes"]
    task = with_rate(task_of(job, stage, number, progress.first_epoch, plan), begun)
    history = (solving if stage.solved else gradient).fit(task, progress)
    changed = frozen.changed(variables, before)
    # Against the plan: a frozen variable that moved makes every stored feature wrong.
    frozen.check(task, changed)
    result = StageResult(
        stage=stage,
        epochs=len(history["loss"]),
        best_epoch=best_epoch(history),
        learning_rate=float(task.stage.learning_rate),
        seconds=progress.seconds,
        views=task.views,
        trained=trained,
        changed=tuple(paths[id(v)] for v in changed),
    )
    progress.end_stage(job, result, history)


def with_rate(task: Task, begun: dict[str, Any]) -> Task:
    """The same stage with a number for a learning rate that is to be found.

    It is found once and noted in `begun`, so that an interrupted stage goes on with it.
    """
    stage = task.stage
    if stage.learning_rate != AUTO:
        return task
    if "learning_rate" not in begun:
        begun["learning_rate"] = _found_rate(task)
    return replace(task, stage=replace(stage, learning_rate=begun["learning_rate"]))


def _found_rate(task: Task) -> float:
    stage = task.stage
    found = sweep.find_rate(task)
    rate = found.suggestion
    if rate is None:
        rate = FALLBACK_RATES.get(str(stage.unfreeze), FALLBACK_RATE)
        warnings.warn(f"stage {stage.name!r} runs at {rate:g}: {found.advice}", stacklevel=2)
    if task.job.verbose:
        print(f"Learning rate: {rate:.3g}")
    return float(rate)
