"""Reading a functional model as a graph: flatten it, find where it can be cut.

Keras keeps the graph of a functional model in `_nodes_by_depth` and on its layers, which has no
public form; this is the one module that touches it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Node:
    """One call of one layer or operation: what it read and what it made."""

    layer: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    call: Any


def is_functional(model: Any) -> bool:
    """Whether the model's graph is known, as it is for functional and built Sequential models."""
    return getattr(_functional(model), "_nodes_by_depth", None) is not None


def nodes(model: Any) -> list[Node]:
    """The calls of a functional model in an order in which they can run, inputs first."""
    by_depth = _functional(model)._nodes_by_depth
    return [
        Node(node.operation, tuple(node.input_tensors), tuple(node.outputs), node)
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]


def flat(model: Any) -> Any:
    """The same computation as one functional model without nested ones; layers are shared.

    A model that is flat already comes back as it is.
    """
    if any(is_functional(node.layer) for node in nodes(model)):
        return insert(model, {})
    return _functional(model)


def insert(model: Any, after: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The flat model with more calls in it; layers are shared with `model`.

    Args:
        model: Functional; nested models are looked into.
        after: Layer name -> what to do with its output, such as a new Keras layer.
    """
    inner = _functional(model)
    outputs = _rerun(inner, inner.inputs, after)
    return keras.Model(
        inner.input, keras.tree.pack_sequence_as(inner.output, outputs), name=inner.name
    )


def output_of(model: Any, layer: str) -> Any:
    """The tensor that a layer makes in this model; the layer may belong to others too."""
    return next(node.outputs[0] for node in nodes(model) if node.layer.name == layer)


def nodes_below(model: Any, tensor: Any) -> list[Node]:
    """The calls up to the one that makes `tensor`, which must be a cut of the model."""
    order = nodes(model)
    end = next(i for i, node in enumerate(order) if any(t is tensor for t in node.outputs))
    return order[: end + 1]


@contextmanager
def nodes_forgotten(model: Any) -> Iterator[None]:
    """Take off the layers of a flat model what is built on them within, once that is not needed.

    Keras keeps every call of a layer on the layer itself: what many heads are put on, one after
    the other, would keep them all.
    """
    lists = [
        calls
        for layer in {id(node.layer): node.layer for node in nodes(model)}.values()
        for calls in (layer._inbound_nodes, layer._outbound_nodes)
    ]
    counts = [len(calls) for calls in lists]
    try:
        yield
    finally:
        for calls, count in zip(lists, counts, strict=True):
            del calls[count:]


def cuts(model: Any) -> Iterator[tuple[int, Any]]:
    """Each (position, tensor) at which the whole model passes through that one tensor.

    `position` counts the calls of `nodes(model)` that come before the cut or make its tensor.
    """
    order = nodes(model)
    last_use = {id(t): i for i, node in enumerate(order) for t in node.inputs}
    last_use |= {id(t): len(order) for t in model.outputs}
    alive: dict[int, Any] = {}
    for i, node in enumerate(order):
        alive |= {id(t): t for t in node.outputs}
        alive = {key: t for key, t in alive.items() if last_use.get(key, -1) > i}
        if len(alive) == 1:
            yield i + 1, next(iter(alive.values()))


def _functional(model: Any) -> Any:
    # A Sequential holds its graph in an inner functional model, made when it is built.
    return getattr(model, "_functional", None) or model


def _rerun(model: Any, inputs: list[Any], after: Mapping[str, Callable[[Any], Any]]) -> list[Any]:
    values = dict(zip(map(id, model.inputs), inputs, strict=True))
    for node in nodes(model):
        if node.call.is_input:
            continue
        args, kwargs = node.call.arguments.fill_in(values)
        if is_functional(node.layer):
            made = _rerun(_functional(node.layer), keras.tree.flatten(args), after)
        else:
            made = keras.tree.flatten(node.layer(*args, **kwargs))
        if node.layer.name in after:
            made = [after[node.layer.name](made[0])]
        values |= dict(zip(map(id, node.outputs), made, strict=True))
    return [values[id(t)] for t in model.outputs]
