"""A stage that solves the linear head to its optimum on stored features."""

from typing import Any

import keras
import numpy as np

from tltoolkit import _checks
from tltoolkit.layers import graph
from tltoolkit.model import freezing, outputs
from tltoolkit.model.network import Network, probabilities
from tltoolkit.plans.stages import LBFGS, Stage
from tltoolkit.training import objective, probe, saying, scoring
from tltoolkit.training.job import History, Task
from tltoolkit.training.progress import Progress

# Rows of features that tell whether a head is the linear one that it looks like.
PROBED = 8


def fit(task: Task, progress: Progress) -> History:
    """Solve the head and give it to the model; the history has one epoch.

    Raises:
        ValueError: The head is not one dense layer.
    """
    job = task.job
    check_stage(job.network, task.stage)
    dense = linear_head(job.network)
    assert dense is not None
    rows, targets = _rows(task)
    val = task.stored()[1]
    held = None if job.val is None or val is None else (val[0], job.val.targets)
    correction, made_up = job.correction, job.correction.imbalance.features is not None
    found = probe.solve(
        rows,
        targets,
        held,
        job.multi_label,
        task.seed,
        weights=correction.solver_weights(targets, made_up),
        val_weights=None if held is None else correction.solver_weights(held[1]),
        l2=l2_of(dense),
        groups=None if made_up else _groups(task),
    )
    offsets = correction.offsets
    bias = found.bias if offsets is None else found.bias - offsets
    kernel, bias = (job.network.per_output(part, job.multi_label) for part in (found.kernel, bias))
    dense.kernel.assign(kernel)
    dense.bias.assign(bias)
    loss = objective.loss_of(task)

    def scores(features: np.ndarray, targets: np.ndarray, prefix: str) -> dict[str, float]:
        said = activated(job.network, features @ kernel + bias)
        return scoring.scores(task, loss, said, targets, prefix)

    logs = scores(rows, targets, "")
    if held is not None:
        logs |= scores(*held, "val_")
    if job.verbose:
        print(f"Solved: {saying.values(logs)}", flush=True)
    progress.best.consider(job.model, task.first_epoch, logs)
    return {name: [value] for name, value in logs.items()}


def _rows(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Features (M, F) and targets (M, C): every stored version of an image is a row of its own."""
    if task.job.correction.imbalance.features is not None:
        rows, targets = task.made_up
        return rows[0], targets
    stored = task.stored()[0]
    assert stored is not None
    targets = np.tile(task.job.train.targets, (task.views, 1))
    return stored.reshape(-1, stored.shape[-1]), targets


def _groups(task: Task) -> np.ndarray | None:
    """Which rows are of one group, or versions of one image; None if each is on its own."""
    source, views = task.job.train.source, task.views
    groups = getattr(source, "groups", None)
    if groups is None and views == 1:
        return None
    return np.tile(np.arange(len(source)) if groups is None else groups, views)


def check_stage(network: Network, stage: Stage) -> None:
    """Raise ValueError unless the head is one that a stage of `optimizer="lbfgs"` can solve."""
    if stage.optimizer != LBFGS:
        return
    dense = _dense(network)
    if dense is None:
        rule = f"one whose head is one dense layer with a bias, for {LBFGS!r} in {stage.name!r}"
        raise _checks.fail("model", rule, network.blocks[freezing.HEAD])
    if beyond := _beyond(dense):
        rule = (
            f"one that goes down the gradient in stage {stage.name!r}, such as 'adamw', for a "
            f"head with {beyond}; a solved one knows no penalty or limit but L2 of its kernel"
        )
        raise _checks.fail("optimizer", rule, stage.optimizer)


def linear_head(network: Network) -> Any | None:
    """The one dense layer of the head, if it can be solved for on stored features; or None."""
    dense = _dense(network)
    return None if dense is None or _beyond(dense) else dense


def l2_of(dense: Any) -> float:
    """The L2 penalty on the kernel of a `linear_head`, as Keras adds it to the loss."""
    penalty = dense.kernel_regularizer
    return 0.0 if penalty is None else float(penalty.l2)


def _beyond(dense: Any) -> str:
    """What a layer asks for besides an L2 penalty on its kernel, which cannot be solved for."""
    penalty = dense.kernel_regularizer
    plain = type(penalty) in (keras.regularizers.L2, keras.regularizers.L1L2)
    if penalty is not None and not (plain and not getattr(penalty, "l1", None)):
        return f"kernel_regularizer={type(penalty).__name__}"
    names = "kernel_constraint", "bias_constraint", "bias_regularizer", "activity_regularizer"
    given = {name: getattr(dense, name) for name in names}
    return ", ".join(f"{n}={type(v).__name__}" for n, v in given.items() if v is not None)


def _dense(network: Network) -> Any | None:
    """The one dense layer of the head, if all that the head does is its weighted sum; or None."""
    head, labels = set(network.blocks[freezing.HEAD]), graph.labels(network.model)
    layers = [layer for layer in network.model.layers if labels[id(layer)] in head]
    weighted = [layer for layer in layers if layer.weights]
    if network.output is None or len(weighted) != 1:
        return None
    dense = weighted[0]
    # A subclass may compute anything, and LoRA has other weights.
    plain = type(dense) is keras.layers.Dense and not dense.lora_enabled
    if not plain or not dense.use_bias:
        return None
    plan = freezing.freeze_plan(network.model, network.blocks, freezing.HEAD)
    cut = freezing.boundary(network.model, plan)
    return dense if cut is not None and makes_outputs(network, dense, cut) else None


def makes_outputs(network: Network, dense: Any, tensor: Any) -> bool:
    """Whether the outputs are `tensor` times the kernel plus the bias of `dense`, activated.

    Computed, since a layer that changes them may be of any kind and stand anywhere.
    """
    if tuple(tensor.shape) != (None, dense.kernel.shape[0]):
        return False
    rng, units = np.random.default_rng(0), dense.kernel.shape
    # Other weights than its own, since those of a new head may all be zero.
    kernel, bias = rng.normal(size=units) / np.sqrt(units[0]), rng.normal(size=units[1])
    given = {id(dense.kernel): kernel, id(dense.bias): bias}
    part = graph.part(network.model, tensor, network.output)
    rows = rng.normal(size=(PROBED, units[0]))
    weights, states = (
        [given.get(id(variable), variable.value) for variable in variables]
        for variables in (part.trainable_variables, part.non_trainable_variables)
    )
    made, _ = part.stateless_call(weights, states, rows.astype(np.float32), training=False)
    exact = outputs.TOLERANCES.get(dense.compute_dtype, outputs.TOLERANCE)
    expected = activated(network, rows @ kernel + bias)
    return np.allclose(expected, np.asarray(made, np.float32), atol=exact, rtol=exact)


def activated(network: Network, logits: np.ndarray) -> np.ndarray:
    """Logits (N, C) as `network.output` would hold them."""
    if network.from_logits:
        return logits
    several = network.activation == outputs.SIGMOID
    return probabilities(logits, several).astype(np.float32)
