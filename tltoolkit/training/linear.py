"""The head as one dense layer: whether it is one, so that it can be solved, and what it makes."""

from typing import Any

import keras
import numpy as np

from tltoolkit import _checks
from tltoolkit.layers import graph
from tltoolkit.model import freezing, outputs
from tltoolkit.model.network import Network, probabilities
from tltoolkit.plans.stages import Stage
from tltoolkit.plans.terms import LBFGS

# Rows of features that tell whether a head is the linear one that it looks like.
PROBED = 8


def check_stage(network: Network, stage: Stage) -> None:
    """Raise ValueError unless the head is one that a stage which solves it can solve."""
    if not stage.solved:
        return
    dense = _dense(network)
    if dense is None:
        asked = f"{stage.optimizer!r} in {stage.name!r}"
        rule = f"one whose head is one dense layer with a bias, for {asked}"
        raise _checks.fail("model", rule, network.blocks[freezing.HEAD])
    if beyond := _beyond(dense):
        rule = (
            f"one that goes down the gradient in stage {stage.name!r}, such as 'adamw', for a "
            f"head with {beyond}; a solved one knows no penalty or limit but L2 of its kernel"
        )
        raise _checks.fail("optimizer", rule, stage.optimizer)
    if stage.optimizer != LBFGS and l2_of(dense):
        rule = f"'lbfgs' in stage {stage.name!r} for a head with l2={l2_of(dense):g}; "
        rule += "the others choose their own strength"
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
    # Of these kinds exactly: a subclass may add anything to the loss.
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
    # A map or tokens: a dense layer on these has no closed form here.
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
    # Without assigning, so that the model keeps its own weights.
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
