"""Which variables train: a pure plan over the layers, applied once.

A plan is a dict of label -> trainable for every layer of a flat model (`layers.graph.flat`)
that has weights; what is inside a layer goes with it, but for each BatchNormalization that stays
frozen there, which has an entry of its own. Labels are `graph.labels`: names, or paths where
several layers have one name.
"""

import fnmatch
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit.layers import graph, traits
from tltoolkit.plans.terms import BATCH_NORMS, RECALIBRATE

HEAD = "head"
ALL = "all"
# Layers that may score each position of a map, all by themselves.
SINGLE = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D)
# Layers that an error names.
SHOWN = 3

Blocks = Mapping[str, tuple[str, ...]]
Unfreeze = str | int | float


def trained_layers(blocks: Blocks, unfreeze: Unfreeze) -> frozenset[str]:
    """Labels of the layers that `unfreeze` asks for; the head always trains.

    Args:
        blocks: Block name -> labels of layers, in the order of the model, the head last.
        unfreeze: `"head"`, `"all"`, a block name ("from this block up"), a pattern of layer
            names or paths with `*`, `?` or `[...]`, an int n (the last n blocks below the head)
            or a float in (0, 1] (that share of the blocks, rounded up).

    Raises:
        ValueError: A block that does not exist, a number out of range, a pattern that matches
            no layer.
    """
    names = list(blocks)
    head = frozenset(blocks[HEAD])
    # Before block names, of which none has such signs.
    if isinstance(unfreeze, str) and any(sign in unfreeze for sign in "*?["):
        return head | _matching(blocks, unfreeze)
    return head.union(*(blocks[name] for name in names[_first_block(names, unfreeze) :]))


def freeze_plan(
    model: Any, blocks: Blocks, unfreeze: Unfreeze, batch_norm: str = "frozen"
) -> dict[str, bool]:
    """Label -> trainable, for each layer of the flat `model` that has weights.

    Every BatchNormalization below the head stays frozen, also one inside another layer, which in
    Keras keeps it in inference mode too, unless `batch_norm="train"`: then those of unfrozen
    blocks train.

    Raises:
        ValueError: Something that the model does not have, or a head that cannot be told from
            the rest of the model, see `unclear_head`.
    """
    _checks.one_of("batch_norm", batch_norm, BATCH_NORMS)
    trained = trained_layers(blocks, unfreeze)
    # With everything unfrozen it does not matter where the head begins.
    if unfreeze != ALL and (found := unclear_head(model, blocks)):
        raise _checks.fail("unfreeze", f"'all' for this model: {found}", unfreeze)
    labels = graph.labels(model)
    plan = {}
    for layer in _weighted(model):
        label = labels[id(layer)]
        plan[label] = label in trained
        # The head's own BatchNorm is new and has no averages worth keeping.
        if label in trained and label not in blocks[HEAD] and batch_norm != "train":
            plan |= {labels[id(norm)]: False for norm in traits.batch_norms(layer)}
    return plan


def apply_freeze(model: Any, plan: Mapping[str, bool]) -> None:
    """Set `trainable` on every layer as the plan says. Compile afterwards.

    Frozen layers run in inference mode where they would change themselves otherwise.
    """
    labels = graph.labels(model)
    # Frozen as a whole, it would hide what its layers say.
    model.trainable = True
    for layer in model.layers:
        # Layers without weights are in no plan: there is nothing to freeze in them.
        layer.trainable = plan.get(labels[id(layer)], True)
        # Only then those within, as a layer's flag reaches all that it holds.
        for inner in graph.layers_inside(layer):
            if not plan.get(labels[id(inner)], True):
                inner.trainable = False
        for changing in traits.self_changing(layer):
            traits.still_while_frozen(changing)


def applied(model: Any) -> dict[str, bool]:
    """The plan that says what trains as the layers of a flat model are set now."""
    labels = graph.labels(model)
    return {labels[id(layer)]: bool(layer.trainable_variables) for layer in _weighted(model)}


def recalibrated(model: Any, blocks: Blocks, unfreeze: Unfreeze, batch_norm: str) -> dict[str, Any]:
    """Label -> each BatchNormalization whose averages the stage estimates anew when it is over."""
    if batch_norm != RECALIBRATE:
        return {}
    labels, trained = graph.labels(model), trained_layers(blocks, unfreeze)
    layers = (layer for layer in model.layers if labels[id(layer)] in trained)
    return {labels[id(norm)]: norm for layer in layers for norm in traits.batch_norms(layer)}


def boundary(
    model: Any, plan: Mapping[str, bool], recalibrated: Mapping[str, Any] | None = None
) -> Any | None:
    """The last tensor below which nothing trains, is random or will be recalibrated, or None.

    Everything up to it gives the same values in every epoch, so it can be computed once. None
    where no layer with weights lies below: then there is nothing to save; and where more than
    the image would be stored of a part of what stays frozen, because taps read several blocks of
    it and no single tensor holds it all.
    """
    order, labels = graph.nodes(model), graph.labels(model)
    moving = {id(norm) for norm in (recalibrated or {}).values()}

    def varies(node: graph.Node) -> bool:
        layer = node.layer
        holds = moving and any(id(inner) in moving for inner in graph.layers_inside(layer))
        return plan.get(labels[id(layer)]) or holds or traits.is_random(layer, node)

    # Operations of `keras.ops` have no `weights` at all.
    weighted = [i for i, node in enumerate(order) if getattr(node.layer, "weights", None)]
    end = next((i for i, node in enumerate(order) if varies(node)), len(order))
    # With a weight below: up to a lower cut there is nothing worth storing.
    candidates = [
        (position, tensor)
        for position, tensor in graph.cuts(model)
        if position <= end and weighted and position > weighted[0]
    ]
    if not candidates:
        return None
    # The highest one, below which the most is computed once.
    last, tensor = candidates[-1]
    partly = any(last <= i < end for i in weighted)
    return None if partly and _numbers(tensor) > _numbers(model.inputs[0]) else tensor


def head_input(model: Any, blocks: Blocks) -> Any | None:
    """The tensor (B, F) of the features that the head reads; None where there is no such one.

    That is where there are maps or tokens at the boundary, as of a dropout within the backbone.
    """
    tensor = boundary(model, freeze_plan(model, blocks, HEAD))
    return None if tensor is None or len(tensor.shape) != 2 or None in tensor.shape[1:] else tensor


def unclear_head(model: Any, blocks: Blocks) -> str:
    """What was found where the head has most of a model's weights and is no head, or "".

    Dense layers on vectors are a head however large they are, as in VGG, and so is a single
    layer that scores each position of a map; other layers that work on maps or tokens are not. Of
    a model whose graph is not known, a kernel of more than two dimensions tells such a layer.
    """
    labels, head = graph.labels(model), set(blocks[HEAD])
    layers = [layer for layer in _weighted(model) if labels[id(layer)] in head]
    mine, whole = (sum(_size(v) for v in group) for group in (_of(layers), model.variables))
    found = _spatial(model, layers)
    spatial = [labels[id(layer)] for layer in layers if id(layer) in found]
    # Such as a 1x1 convolution before the pooling, as in SqueezeNet.
    single = len(layers) == 1 and isinstance(layers[0], SINGLE)
    if 2 * mine <= whole or not spatial or single:
        return ""
    return (
        f"what was found as its head has {mine:,} of {whole:,} weights, in layers such as "
        f"{', '.join(spatial[:SHOWN])}, which work on maps and belong to no head"
    )


def _matching(blocks: Blocks, pattern: str) -> frozenset[str]:
    layers = [layer for block in blocks.values() for layer in block]
    found = frozenset(
        layer
        for layer in layers
        if fnmatch.fnmatchcase(layer, pattern)
        # A path ends in the layer's own name.
        or fnmatch.fnmatchcase(layer.rpartition("/")[2], pattern)
    )
    if not found:
        raise _checks.fail(
            "unfreeze", f"a pattern that matches a layer, such as {layers[-1][:4]}*", pattern
        )
    return found


def _first_block(names: list[str], unfreeze: Unfreeze) -> int:
    below = len(names) - 1
    if isinstance(unfreeze, str):
        _checks.one_of("unfreeze", unfreeze, [*names, ALL])
        return 0 if unfreeze == ALL else names.index(unfreeze)
    if isinstance(unfreeze, float):
        _checks.number("unfreeze", unfreeze, above=0, high=1)
        return below - math.ceil(unfreeze * below)
    # Not below 1: 0 would be the head alone, which has a name.
    _checks.integer("unfreeze", unfreeze, 1, below)
    return below - unfreeze


def _weighted(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.weights]


def _of(layers: list[Any]) -> Iterator[Any]:
    # Layers may share a variable, as tied embeddings do.
    seen: set[int] = set()
    for v in (v for layer in layers for v in layer.variables):
        if id(v) not in seen:
            seen.add(id(v))
            yield v


def _size(variable: Any) -> int:
    return math.prod(variable.shape)


def _numbers(tensor: Any) -> int:
    """Values for one image, an unknown side as 1."""
    return graph.area(tensor) * int(tensor.shape[-1])


def _spatial(model: Any, layers: list[Any]) -> set[int]:
    """ids of those layers that read a map or tokens, more than one position of them."""
    if graph.is_functional(model):
        calls = [node for node in graph.nodes(model) if node.inputs]
        return {id(c.layer) for c in calls if any(graph.area(t) > 1 for t in c.inputs)}
    return {id(layer) for layer in layers if any(len(v.shape) > 2 for v in layer.variables)}
