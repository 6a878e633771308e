"""Blocks of a model that nobody described: found from its graph."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tltoolkit import graph


def find_blocks(model: Any) -> dict[str, tuple[str, ...]]:
    """Block name -> layer names of a flat functional image classifier, `"head"` last.

    A block ends where branches join again, or right before the feature map shrinks, if it holds
    weights by then. The head is what comes after the last feature map; where nothing there has
    weights it begins at the last layer that has.

    Raises:
        ValueError: No layer of the model has weights.
    """
    order = graph.nodes(model)
    head = _head_start(model, order)
    ends = [end for end in _ends(model, order) if end < head]
    blocks: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for start, end in pairwise([0, *ends, head, len(order)]):
        # A layer that is called twice belongs to the block of its first call.
        names = [n.layer.name for n in order[start:end] if not n.call.is_input]
        own = tuple(dict.fromkeys(name for name in names if name not in seen))
        seen.update(own)
        if own:
            blocks["head" if start == head else f"block{len(blocks) + 1}"] = own
    return blocks


def _head_start(model: Any, order: list[graph.Node]) -> int:
    weighted = [i for i, node in enumerate(order) if _has_weights(node)]
    if not weighted:
        raise ValueError("`model` must have a trainable head, and none of its layers has weights")
    maps = [position for position, tensor in graph.cuts(model) if len(tensor.shape) == 4]
    last_map = maps[-1] if maps else 0
    return last_map if last_map <= weighted[-1] else weighted[-1]


def _ends(model: Any, order: list[graph.Node]) -> Iterator[int]:
    since = 0
    for (here, tensor), (_, later) in pairwise(graph.cuts(model)):
        joins = len(order[here - 1].inputs) > 1
        if (joins or _area(later) < _area(tensor)) and any(map(_has_weights, order[since:here])):
            since = here
            yield here


def _area(tensor: Any) -> int:
    height, width = tensor.shape[1:3] if len(tensor.shape) == 4 else (1, 1)
    return (height or 1) * (width or 1)


def _has_weights(node: graph.Node) -> bool:
    return bool(getattr(node.layer, "weights", None))
