"""Which variables train: a pure plan over the layers, applied once.

A plan is a dict of layer name -> trainable for every layer that has weights. Only leaf layers
count: the model is flat (see `tltoolkit.graph.flat`).
"""

import fnmatch
import math
from collections.abc import Mapping
from typing import Any

import keras

from tltoolkit import _checks, graph
from tltoolkit.terms import BATCH_NORMS

HEAD = "head"

Blocks = Mapping[str, tuple[str, ...]]
Unfreeze = str | int | float


def trained_layers(blocks: Blocks, unfreeze: Unfreeze) -> frozenset[str]:
    """Names of the layers that `unfreeze` asks for; the head always trains.

    Args:
        blocks: Block name -> layer names, in the order of the model, the head last.
        unfreeze: `"head"`, `"all"`, a block name ("from this block up"), a pattern of layer
            names with `*`, `?` or `[...]`, an int n (the last n blocks below the head) or a
            float in (0, 1] (that share of the blocks, rounded up).

    Raises:
        ValueError: A block that does not exist, a number out of range, a pattern that matches
            no layer.
    """
    names = list(blocks)
    head = frozenset(blocks[HEAD])
    if isinstance(unfreeze, str) and any(sign in unfreeze for sign in "*?["):
        return head | _matching(blocks, unfreeze)
    return head.union(*(blocks[name] for name in names[_first_block(names, unfreeze) :]))


def freeze_plan(
    model: Any, blocks: Blocks, unfreeze: Unfreeze, batch_norm: str = "frozen"
) -> dict[str, bool]:
    """Layer name -> trainable, for each layer of the flat `model` that has weights.

    Every BatchNormalization below the head stays frozen, which in Keras also keeps it in
    inference mode, unless `batch_norm="train"`: then those of unfrozen blocks train.
    """
    _checks.one_of("batch_norm", batch_norm, BATCH_NORMS)
    trained = trained_layers(blocks, unfreeze)
    head = set(blocks[HEAD])

    def trains(layer: Any) -> bool:
        fixed = batch_norm != "train" and is_batch_norm(layer) and layer.name not in head
        return layer.name in trained and not fixed

    return {layer.name: trains(layer) for layer in model.layers if layer.weights}


def apply_freeze(model: Any, plan: Mapping[str, bool]) -> None:
    """Set `trainable` on every layer as the plan says. Compile afterwards."""
    model.trainable = True
    for layer in model.layers:
        layer.trainable = plan.get(layer.name, True)


def boundary(model: Any, plan: Mapping[str, bool]) -> Any | None:
    """The last tensor below which nothing trains and nothing is random, or None.

    Everything up to it gives the same values in every epoch, so it can be computed once. None
    where no layer with weights lies below: then there is nothing to save.
    """
    order = graph.nodes(model)
    varying = (i for i, n in enumerate(order) if plan.get(n.layer.name) or is_random(n.layer))
    end = next(varying, len(order))
    weighted = [i for i, node in enumerate(order) if getattr(node.layer, "weights", None)]
    candidates = [
        tensor
        for position, tensor in graph.cuts(model)
        if position <= end and weighted and position > weighted[0]
    ]
    return candidates[-1] if candidates else None


def is_batch_norm(layer: Any) -> bool:
    """Whether the layer is Keras' BatchNormalization or a subclass of it."""
    return isinstance(layer, keras.layers.BatchNormalization)


def is_random(layer: Any) -> bool:
    """Whether the layer draws random numbers in training; Keras keeps a generator in those."""
    return getattr(layer, "seed_generator", None) is not None


def _matching(blocks: Blocks, pattern: str) -> frozenset[str]:
    layers = [layer for block in blocks.values() for layer in block]
    found = frozenset(fnmatch.filter(layers, pattern))
    if not found:
        raise _checks.fail(
            "unfreeze", f"a pattern that matches a layer, such as {layers[-1][:4]}*", pattern
        )
    return found


def _first_block(names: list[str], unfreeze: Unfreeze) -> int:
    below = len(names) - 1
    if isinstance(unfreeze, str):
        _checks.one_of("unfreeze", unfreeze, [*names, "all"])
        return 0 if unfreeze == "all" else names.index(unfreeze)
    if isinstance(unfreeze, float):
        _checks.number("unfreeze", unfreeze, above=0, high=1)
        return below - math.ceil(unfreeze * below)
    _checks.integer("unfreeze", unfreeze, 1, below)
    return below - unfreeze
