"""What a layer does besides computing, whichever of the layers inside it does it.

A layer may be a block of others: a wrapper, a custom composite, a body of a subclassed model. So
each question is asked of all layers that it holds, and where their code is not Keras' own, of
what they are seen to do.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tltoolkit.layers import graph, private

# Modules whose layers keep a `SeedGenerator` where they draw random numbers.
KNOWN = ("keras", "tltoolkit")
# Keras' layers that run code of the user's.
CODE = (keras.layers.Lambda, keras.layers.TFSMLayer)
# Operations of TensorFlow that draw random numbers, or call Python, which may.
_DRAWS = re.compile("Random|Rng|Multinomial|TruncatedNormal|SampleDistorted|PyFunc|PyCall")


def generators(layer: Any) -> list[Any]:
    """The seed generators of a layer or model, each once, under whatever name it keeps them."""
    found = [g for inner in graph.layers_inside(layer) for g in private.seed_generators(inner)]
    return list({id(generator): generator for generator in found}.values())


def is_random(layer: Any, node: graph.Node | None = None) -> bool:
    """Whether a layer draws random numbers in training, or may.

    Args:
        layer: The layer.
        node: One call of it. Code that is not Keras' own (a `Lambda`, a class of the user's)
            is then traced to see what it does; without, a `Lambda` counts as random.
    """
    if not isinstance(layer, keras.layers.Layer):
        return False  # an operation of `keras.ops`
    if generators(layer):
        return True
    if node is None:
        return any(isinstance(inner, CODE) for inner in graph.layers_inside(layer))
    return not is_known(layer) and _draws(node)


def is_known(layer: Any) -> bool:
    """Whether all code of a layer, and of the layers inside it, is Keras' own or ours."""
    return all(
        type(inner).__module__.split(".")[0] in KNOWN and not isinstance(inner, CODE)
        for inner in graph.layers_inside(layer)
    )


def batch_norms(layer: Any) -> Iterator[Any]:
    """Keras' BatchNormalization layers, and those of its subclasses, among a layer and its own."""
    kind = keras.layers.BatchNormalization
    return (inner for inner in graph.layers_inside(layer) if isinstance(inner, kind))


def self_changing(layer: Any) -> Iterator[Any]:
    """The layers, among a layer and its own, that may change their weights when they are called.

    SpectralNormalization does, and so may any layer with weights that do not train, such as
    averages. BatchNormalization, which stops where it is frozen, and layers that draw random
    numbers, whose state is their generator's, are not among them.
    """
    for inner in graph.layers_inside(layer):
        norm = isinstance(inner, keras.layers.BatchNormalization)
        if private.own_state(inner) and not norm and not private.seed_generators(inner):
            yield inner


def still_while_frozen(layer: Any) -> None:
    """Let a layer run in inference mode as long as it is frozen, as BatchNormalization does.

    `SpectralNormalization` (Keras 3.15) assigns its kernel in training mode though
    `trainable=False`, and so do layers that follow its example.
    """
    call = layer.call
    # Every stage freezes anew, and the wrappers would pile up.
    if getattr(call, "still_while_frozen", False):
        return

    def held(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("training") and not layer.trainable:
            kwargs["training"] = False
        return call(*args, **kwargs)

    held.still_while_frozen = True  # type: ignore[attr-defined]
    # On this one layer alone: its class is Keras' or the user's, and serves other models.
    layer.call = held


def _draws(node: graph.Node) -> bool:
    """Whether a call draws random numbers, by what it puts into a graph; if unknown, it does."""
    try:
        # What the layer assigns when it is called stays in the scope.
        with keras.StatelessScope():
            traced = tf.function(_training_call(node), autograph=False).get_concrete_function(
                *(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in node.inputs)
            )
    except Exception:  # whatever a user's code may raise
        return True
    told = traced.graph.as_graph_def()
    # A `tf.function` or a condition within the layer has its operations in the library alone.
    functions = [node for function in told.library.function for node in function.node_def]
    return any(_DRAWS.search(operation.op) for operation in (*told.node, *functions))


def _training_call(node: graph.Node) -> Callable[..., Any]:
    keys = [id(tensor) for tensor in node.inputs]

    def call(*values: Any) -> Any:
        args, kwargs = node.arguments(dict(zip(keys, values, strict=True)))
        return node.layer(*args, **{**kwargs, "training": True})

    return call
