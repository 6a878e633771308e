"""Reading a functional model as a graph: flatten it, find where it can be cut."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from tltoolkit.layers import private

# One call in a graph; made where Keras' records are read, and part of what is said here.
Node = private.Node


def is_functional(model: Any) -> bool:
    """Whether the model's graph is known, as it is for functional and built Sequential models."""
    return private.functional(model) is not None


def nodes(model: Any) -> list[Node]:
    """The calls of a functional model in an order in which they can run, inputs first."""
    return private.nodes(model)


def flat(model: Any) -> Any:
    """The same computation as one functional model without nested ones; layers are shared.

    A model that is flat already comes back as it is.
    """
    if any(is_functional(node.layer) for node in nodes(model)):
        # Its layers lie side by side, but blocks, plans and checkpoints know them by their paths.
        made = insert(model, {})
        made.tltoolkit_labels = _Labels(labels(model))
        return made
    return private.functional(model)


def part(model: Any, inputs: Any, outputs: Any) -> Any:
    """The functional model from some tensors of a flat model to others; layers are shared."""
    made = _connected(inputs, outputs)
    if (kept := getattr(model, "tltoolkit_labels", None)) is not None:
        made.tltoolkit_labels = kept
    return made


def layers_inside(layer: Any) -> Iterator[Any]:
    """A layer or model, then all layers that it holds under whatever name, however deep."""
    yield layer
    for _, inner in _inside(layer):
        if isinstance(inner, keras.layers.Layer):
            yield inner


def labels(model: Any) -> dict[int, str]:
    """id of each layer and operation in a model, however deep, -> a name that it has alone.

    That is its own name, or its path through the models and layers around it (`left/conv1`)
    where others have the same name. A flat model knows the paths of the one that it was made of.
    """
    if (kept := getattr(model, "tltoolkit_labels", None)) is not None:
        return dict(kept.by_id)
    found = {id(layer): path for path, layer in _inside(model)}
    count = Counter(path[-1] for path in found.values())
    alone = {key: path[-1] for key, path in found.items() if count[path[-1]] == 1}
    return _numbered({key: alone.get(key, "/".join(path)) for key, path in found.items()})


def paths(model: Any) -> dict[int, str]:
    """id of each variable of a model -> a path that it has alone.

    That is Keras' path, with the layer's label in it or a number after it where others have the
    same: layers that were built inside two models, or that nobody named, share paths.
    """
    count, known = Counter(v.path for v in model.variables), labels(model)
    found = {id(v): v.path for v in model.variables}
    # Of the layers that hold a variable the outermost comes first, whose name begins its path.
    placed: set[int] = set()
    for _, layer in _inside(model):
        # Those of a nested model are its layers', which have their turn.
        for v in () if is_functional(layer) else getattr(layer, "variables", ()):
            if count[v.path] > 1 and id(v) not in placed:
                placed.add(id(v))
                found[id(v)] = _path_within(v.path, layer.name, known.get(id(layer), layer.name))
    return _numbered(found)


@contextmanager
def distinct_names(operations: Iterable[Any]) -> Iterator[None]:
    """Within the block no two operations have one name.

    Keras refuses to connect them otherwise (`map_graph`, 3.15), although it needs the names for
    serialising alone.
    """
    different = list({id(operation): operation for operation in operations}.values())
    taken, renamed = {operation.name for operation in different}, []
    seen: set[str] = set()
    try:
        for i, operation in enumerate(different):
            if (name := operation.name) in seen:
                renamed.append((operation, name))
                operation.name = _free(f"{name}_{i}", taken)
                taken.add(operation.name)
            seen.add(operation.name)
        yield
    finally:
        for operation, name in renamed:
            operation.name = name


def insert(model: Any, after: Mapping[str, Callable[[Any], Any]]) -> Any:
    """The flat model with more calls in it; layers are shared with `model`.

    Args:
        model: Functional; nested models are looked into.
        after: Layer name -> what to do with its output, such as a new Keras layer.
    """
    # Not `keras.models.clone_model(call_function=)`: in Keras 3.15 it leaves nested models nested,
    # so that nothing could be cut or frozen in them, and never calls it within a Sequential.
    inner = private.functional(model)
    outputs = _rerun(inner, inner.inputs, after)
    return _connected(
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
        for calls in private.call_lists(layer)
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
    # Outputs are in use to the end, so that none is passed by beside a cut.
    last_use |= {id(t): len(order) for t in model.outputs}
    alive: dict[int, Any] = {}
    for i, node in enumerate(order):
        alive |= {id(t): t for t in node.outputs}
        alive = {key: t for key, t in alive.items() if last_use.get(key, -1) > i}
        if len(alive) == 1:
            yield i + 1, next(iter(alive.values()))


@dataclass(frozen=True)
class _Labels:
    # Keras and TensorFlow would wrap a plain dict, which has to have text as keys then.
    by_id: Mapping[int, str]


def _inside(
    layer: Any, path: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, layer or operation) of all that a layer or model holds, once, containers first."""
    seen = {id(layer)} if seen is None else seen
    calls = [node.layer for node in nodes(layer)] if is_functional(layer) else []
    for inner in (*calls, *private.layers_in(layer)):
        if id(inner) not in seen:
            seen.add(id(inner))
            yield (*path, inner.name), inner
            yield from _inside(inner, (*path, inner.name), seen)


def _connected(inputs: Any, outputs: Any, name: str | None = None) -> Any:
    # By the tensors, as Keras goes: layers inside others may share names and do no harm.
    with distinct_names(_made_by(keras.tree.flatten(outputs))):
        return keras.Model(inputs, outputs, name=name)


def _made_by(tensors: Iterable[Any]) -> Iterator[Any]:
    """The operations that some tensors come from."""
    left, seen = list(tensors), set()
    while left:
        node = private.node_of(left.pop())
        if id(node.call) not in seen:
            seen.add(id(node.call))
            left += node.inputs
            yield node.layer


def _path_within(path: str, name: str, known_as: str) -> str:
    parts = path.split("/")
    inner = parts[parts.index(name) + 1 :] if name in parts else parts
    return "/".join((known_as, *inner))


def _numbered(names: Mapping[int, str]) -> dict[int, str]:
    """The same names, with a number after each that came before."""
    taken: set[str] = set()
    found = {}
    for key, name in names.items():
        found[key] = _free(name, taken)
        taken.add(found[key])
    return found


def _free(name: str, taken: set[str]) -> str:
    number, tried = 1, name
    while tried in taken:
        number += 1
        tried = f"{name}#{number}"  # not "_", with which Keras numbers its own
    return tried


def area(tensor: Any) -> int:
    """Positions of a map (B, H, W, C) or of tokens (B, T, C), an unknown side as 1; else 1."""
    return math.prod(side or 1 for side in tensor.shape[1:-1])


def _rerun(model: Any, inputs: list[Any], after: Mapping[str, Callable[[Any], Any]]) -> list[Any]:
    values = dict(zip(map(id, model.inputs), inputs, strict=True))
    for node in nodes(model):
        if node.is_input:
            continue  # its tensor is among `inputs`
        args, kwargs = node.arguments(values)
        if (inner := private.functional(node.layer)) is not None:
            # Its `training=` is left out, which `fit` overrides anyway (Keras 3.15).
            made = _rerun(inner, keras.tree.flatten(args), after)
        else:
            made = keras.tree.flatten(node.layer(*args, **kwargs))
        if node.layer.name in after:
            made = [after[node.layer.name](made[0])]
        values |= dict(zip(map(id, node.outputs), made, strict=True))
    return [values[id(t)] for t in model.outputs]


def become(model: Any, other: Any) -> None:
    """Let a functional model take over the graph, layers and notes of another one.

    Whoever holds `model` then holds what `other` is, which nobody should use any more. Keras 3.15
    keeps all that a functional model is in its attributes, and none of them points back to it.
    """
    state = dict(other.__dict__)
    model.__dict__.clear()
    model.__dict__.update(state)
