"""One stage: freeze, compute what stays frozen, fit, check that nothing else changed."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tltoolkit import freezing
from tltoolkit.run import StageResult
from tltoolkit.stages import LBFGS, Stage
from tltoolkit.training import gradient, solving
from tltoolkit.training.best import Best, best_epoch
from tltoolkit.training.job import History, Job, Task, task_of

# State that callbacks and random layers may change in frozen layers too.
UNHASHED = ("rate", "seed_generator_state")


def run_stage(
    job: Job, stage: Stage, number: int, best: Best, first_epoch: int
) -> tuple[StageResult, History]:
    """Train one stage; returns its record and its history.

    The model has the weights of the stage's last epoch afterwards, `best` those of the best.

    Raises:
        FloatingPointError: The loss became NaN or infinite.
        RuntimeError: A frozen variable changed.
    """
    started = time.perf_counter()
    plan = freezing.freeze_plan(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)
    freezing.apply_freeze(job.model, plan)
    trained = tuple(v.path for v in job.model.trainable_variables)
    before = hashes(job.model)
    task = task_of(job, stage, number, first_epoch, plan)
    history = (solving if stage.optimizer == LBFGS else gradient).fit(task, best)
    changed = tuple(path for path, value in hashes(job.model).items() if value != before[path])
    _check_changes(task, plan, changed)
    _check_finite(stage, history)
    result = StageResult(
        stage=stage,
        epochs=len(history["loss"]),
        best_epoch=best_epoch(history),
        seconds=time.perf_counter() - started,
        views=task.views,
        trained=trained,
        changed=changed,
    )
    return result, history


def hashes(model: Any) -> dict[str, str]:
    """Path -> SHA-256 of each variable, but for dropout rates and random states."""
    return {
        v.path: hashlib.sha256(np.ascontiguousarray(v.numpy()).data).hexdigest()
        for v in model.variables
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


def _check_finite(stage: Stage, history: History) -> None:
    if not np.isfinite(history["loss"]).all():
        epoch = int(np.argmin(np.isfinite(history["loss"])))
        raise FloatingPointError(
            f"the loss of stage {stage.name!r} became {history['loss'][epoch]} in epoch "
            f"{epoch + 1}; try a learning_rate below {stage.learning_rate:g}"
        )
