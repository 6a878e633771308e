"""One stage: freeze, compute what stays frozen, fit, check that nothing else changed."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tltoolkit import freezing
from tltoolkit.callbacks import training_state
from tltoolkit.run import StageResult
from tltoolkit.stages import AUTO, LBFGS, Stage
from tltoolkit.training import gradient, solving, sweep
from tltoolkit.training.best import best_epoch
from tltoolkit.training.job import Job, Task, task_of
from tltoolkit.training.progress import Progress

# State that callbacks and random layers may change in frozen layers too.
UNHASHED = ("rate", "seed_generator_state")
# Of a stage that asks for "auto" where no rate could be found, by what it unfreezes.
FALLBACK_RATES = {freezing.HEAD: 1e-3}
FALLBACK_RATE = 1e-4


def run_stage(job: Job, stage: Stage, number: int, progress: Progress) -> None:
    """Train one stage, from where `progress` has it, and add its record to `progress`.

    The model has the weights of the stage's last epoch afterwards, `progress.best` those of the
    best.

    Raises:
        FloatingPointError: The loss became NaN or infinite.
        RuntimeError: A frozen variable changed.
    """
    plan = freezing.freeze_plan(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)
    freezing.apply_freeze(job.model, plan)
    trained = tuple(v.path for v in job.model.trainable_variables)
    begun = progress.begin_stage(job.steps, hashes(job.model))
    before = begun["hashes"]
    task = with_rate(task_of(job, stage, number, progress.first_epoch, plan), begun)
    history = (solving if stage.optimizer == LBFGS else gradient).fit(task, progress)
    changed = tuple(path for path, value in hashes(job.model).items() if value != before[path])
    _check_changes(task, plan, changed)
    result = StageResult(
        stage=stage,
        epochs=len(history["loss"]),
        best_epoch=best_epoch(history),
        learning_rate=float(task.stage.learning_rate),
        seconds=progress.seconds,
        views=task.views,
        trained=trained,
        changed=changed,
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


def hashes(model: Any) -> dict[str, str]:
    """Path -> SHA-256 of each variable, but for dropout rates and random states."""
    return {
        v.path: hashlib.sha256(np.ascontiguousarray(v.numpy()).data).hexdigest()
        for v in training_state.model_variables(model)
        if v.name not in UNHASHED
    }


def _check_changes(task: Task, plan: Mapping[str, bool], changed: tuple[str, ...]) -> None:
    stage, blocks = task.stage, task.job.network.blocks
    free = {name for name, trains in plan.items() if trains}
    if stage.batch_norm == "recalibrate":
        free |= freezing.trained_layers(blocks, stage.unfreeze)
    layers = [layer for layer in task.job.model.layers if layer.name in free]
    allowed = {v.path for layer in layers for v in layer.variables}
    if stray := sorted(set(changed) - allowed):
        raise RuntimeError(f"stage {stage.name!r} changed frozen variables: {', '.join(stray)}")
