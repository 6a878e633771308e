"""Blocks of a model that nobody described: found from its graph."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tltoolkit.layers import graph
from tltoolkit.layers.spatial import SpatialStatistics

# Layers and operations that can make one position of all and keep the map's dimensions.
POOLS = re.compile("Global(Average|Max)Pooling[123]D|Mean|Max")


def find_blocks(model: Any) -> dict[str, tuple[str, ...]]:
    """Block name -> labels of the layers of a flat functional image classifier, `"head"` last.

    Maps are (B, H, W, C) and tokens (B, T, C). A block ends where branches join again, or right
    before the map shrinks, if it holds weights by then. The head begins with the pooling of the
    last map, or after a layer with weights that makes a vector of a map, or after the join of
    networks that stand side by side. Where nothing before that has weights, or nothing after, the
    head is the last layer that has. A head on taps (`SpatialStatistics`) is all above the highest.

    Raises:
        ValueError: No layer of the model has weights.
    """
    labels = graph.labels(model)
    found = _blocks(model).items()
    return {name: tuple(labels[id(layer)] for layer in layers) for name, (layers, _) in found}


def block_ends(model: Any) -> dict[str, Any]:
    """Name -> the tensor that a block below the head ends in, of the blocks of `find_blocks`."""
    return {name: end for name, (_, end) in _blocks(model).items() if name != "head"}


def _blocks(model: Any) -> dict[str, tuple[list[Any], Any]]:
    """Name -> layers and last tensor of each block, the head's too."""
    order, head, ends = _order(model)
    blocks: dict[str, tuple[list[Any], Any]] = {}
    seen: set[int] = set()
    # A block may not reach into the head, which comes first.
    for start, end in pairwise([0, *(end for end in ends if end < head), head, len(order)]):
        # A layer that is called twice belongs to the block of its first call.
        calls = [n.layer for n in order[start:end] if not n.is_input]
        own = {id(layer): layer for layer in calls if id(layer) not in seen}
        seen.update(own)
        # Empty where all its layers were called before.
        if own:
            name = "head" if start == head else f"block{len(blocks) + 1}"
            blocks[name] = list(own.values()), order[end - 1].outputs[0]
    return blocks


def _order(model: Any) -> tuple[list[graph.Node], int, list[int]]:
    """The calls of a model, where among them its head begins, and where blocks end."""
    order = graph.nodes(model)
    read = {
        id(tensor)
        for node in order
        if isinstance(node.layer, SpatialStatistics)
        for tensor in node.inputs
    }
    if not read:
        return order, _head_start(model, order), list(_ends(model, order))
    # Taps run beside the blocks: without them the blocks are what they were before.
    last = next(node.outputs[0] for node in reversed(order) if id(node.outputs[0]) in read)
    body = graph.part(model, model.inputs, last)
    below = graph.nodes(body)
    known = {id(node.call) for node in below}
    # The order of the graph mixes taps with blocks; here the taps come after all blocks.
    above = [node for node in order if id(node.call) not in known]
    return below + above, len(below), list(_ends(body, below))


def _head_start(model: Any, order: list[graph.Node]) -> int:
    weighted = [i for i, node in enumerate(order) if _has_weights(node)]
    if not weighted:
        raise ValueError("`model` must have a trainable head, and none of its layers has weights")
    first, last = weighted[0], weighted[-1]
    ends = [0, *(end for end in _feature_ends(model, order) if end <= last)]
    # There are weights below the cut, or the one layer that has some is the head.
    if ends[-1] > first or first == last:
        return ends[-1]
    # No weights lie below: the last layer with weights, unless others stand beside it.
    return max((here for here, _ in graph.cuts(model) if here <= last), default=0)


def _feature_ends(model: Any, order: list[graph.Node]) -> Iterator[int]:
    """Positions at which features are complete, so that a head may begin, in rising order."""
    pooled, weighted, before = False, False, 0
    for here, tensor in graph.cuts(model):
        node = order[here - 1]
        # While it is a map it may still shrink; a head begins where it becomes a vector.
        if _is_map(tensor):
            # A pooling that keeps dimensions: what follows on a single position is the head.
            pooled = graph.area(tensor) == 1 and (pooled or _pools(node))
            if not pooled:
                weighted |= any(map(_has_weights, order[before:here]))
                before = here
                yield here
        elif _has_weights(node) and any(map(_is_map, node.inputs)):
            yield here  # such as an LSTM, or a whole backbone that is one layer
        elif len(node.inputs) > 1 and not weighted:
            yield here  # networks side by side


def _ends(model: Any, order: list[graph.Node]) -> Iterator[int]:
    since = 0
    for (here, tensor), (_, later) in pairwise(graph.cuts(model)):
        # An addition or concatenation ends a residual or dense block.
        joins = len(order[here - 1].inputs) > 1
        shrinks = graph.area(later) < graph.area(tensor)
        if (joins or shrinks) and any(map(_has_weights, order[since:here])):
            since = here
            yield here


def _is_map(tensor: Any) -> bool:
    return len(tensor.shape) > 2


def _pools(node: graph.Node) -> bool:
    # By name: the classes of operations such as `Mean` are not exported (Keras 3.15.1).
    return POOLS.fullmatch(type(node.layer).__name__) is not None


def _has_weights(node: graph.Node) -> bool:
    return bool(getattr(node.layer, "weights", None))
