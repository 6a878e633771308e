"""What a stage must not change: known before, looked at after its first step and at its end."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tltoolkit.callbacks import training_state
from tltoolkit.layers import graph, traits
from tltoolkit.model import freezing
from tltoolkit.training.job import Task, recalibrated


def lasting(model: Any) -> list[Any]:
    """The variables of a model, in its order, but dropout rates and states of generators.

    Those may change in frozen layers too: callbacks and random layers do it.
    """
    passing = {id(generator.state) for generator in traits.generators(model)}
    inner = graph.layers_inside(model)
    passing |= {id(layer.rate) for layer in inner if hasattr(layer, "set_rate")}
    return [v for v in training_state.model_variables(model) if id(v) not in passing]


def hashes(variables: Sequence[Any]) -> list[str]:
    """SHA-256 of each variable."""
    return [hashlib.sha256(np.ascontiguousarray(v.numpy()).data).hexdigest() for v in variables]


def changed(variables: Sequence[Any], before: Sequence[str]) -> list[Any]:
    """The variables whose hashes are others now."""
    pairs = zip(variables, before, hashes(variables), strict=True)
    return [v for v, then, now in pairs if then != now]


def check(task: Task, variables: Sequence[Any]) -> None:
    """Raise RuntimeError if one of the variables, which have changed, is frozen."""
    free, paths = _free(task), graph.paths(task.job.model)
    if stray := sorted(paths[id(v)] for v in variables if id(v) not in free):
        raise RuntimeError(
            f"stage {task.stage.name!r} changed frozen variables: {', '.join(stray)}; a layer "
            "that does so in every mode can only train (see `unfreeze`)"
        )


class FrozenCheck(keras.callbacks.Callback):
    """Ends a stage at its first step, not at its last, if frozen variables change.

    Only code of the user's own can do so, hence only layers with such code are looked at. What
    changed while activations were stored, before that step, counts too.

    Args:
        task: The stage, its freeze plan applied.
        begun: SHA-256 of each variable that lasts as the stage began, in the order of the model.
    """

    def __init__(self, task: Task, begun: Sequence[str]) -> None:
        super().__init__()
        self.task = task
        layers = [layer for layer in task.job.model.layers if not traits.is_known(layer)]
        own = {id(v) for layer in layers for v in layer.variables}
        pairs = zip(lasting(task.job.model), begun, strict=True)
        self.before: list[tuple[Any, str]] | None = [(v, h) for v, h in pairs if id(v) in own]

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Look once."""
        if self.before is not None:
            check(self.task, [v for v, then in self.before if changed([v], [then])])
        self.before = None


def _free(task: Task) -> set[int]:
    """ids of the variables that the stage may change."""
    model, stage = task.job.model, task.stage
    plan = freezing.freeze_plan(model, task.job.network.blocks, stage.unfreeze, stage.batch_norm)
    labels = graph.labels(model)
    free: set[int] = set()
    for layer in model.layers:
        if plan.get(labels[id(layer)]):
            inner = graph.layers_inside(layer)
            # A BatchNorm inside a layer that trains may be frozen by itself.
            fixed = [one for one in inner if not plan.get(labels[id(one)], True)]
            free |= {id(v) for v in layer.variables}
            free -= {id(v) for one in fixed for v in one.variables}
    for norm in recalibrated(task.job, stage).values():
        free |= {id(norm.moving_mean), id(norm.moving_variance)}
    return free
