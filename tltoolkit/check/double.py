"""A copy of a layer, model or loss that computes in float64."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit import _checks
from tltoolkit.layers import graph

HOW = "make it with dtype='float64', or let get_config return all arguments of its constructor"


@contextmanager
def float64() -> Iterator[None]:
    """Keras' default precision is float64 within the block."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    try:
        # Both: constants of `keras.ops` go by the one, new layers by the other.
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


@contextmanager
def layer_copy(layer: Any, inputs: tuple[Any, ...]) -> Iterator[Any]:
    """The layer built anew from its config, with its weights, in float64; use it in `float64`.

    A layer that is not built yet gets weights of its own. One that cannot be built anew will do
    if it is in float64 already, or without weights: then its precision is another for a while.

    Raises:
        ValueError: None of these.
    """
    policy = layer.dtype_policy
    try:
        yield _copy(layer, inputs)
    finally:
        # `_copy` may have changed that of the layer itself, where it is its own copy.
        layer.dtype_policy = policy


def _copy(layer: Any, inputs: tuple[Any, ...]) -> Any:
    own = {type(part).__name__: type(part) for part in graph.layers_inside(layer)}
    # Under both names, as a config has one or the other by whether the class is registered.
    own |= {keras.saving.get_registered_name(kind): kind for kind in own.values()}
    try:
        with keras.saving.custom_object_scope(own):
            copy = type(layer).from_config(_accepted(type(layer), _in_float64(layer.get_config())))
    # What Keras raises for a config that it cannot write or read (3.15.1).
    except (NotImplementedError, TypeError, ValueError) as error:
        if all(part.dtype_policy.name == "float64" for part in graph.layers_inside(layer)):
            return layer
        if _is_formula(layer):
            layer.dtype_policy = "float64"
            return layer
        rule = f"a layer that can be built anew in float64; {HOW}"
        raise _checks.fail("target", rule, layer) from error
    # Called once, because only then it has variables to take the values.
    copy(*inputs)
    if layer.built:
        if len(copy.variables) != len(layer.variables):
            raise _checks.fail("target", f"a layer that its config describes; {HOW}", layer)
        for new, old in zip(copy.variables, layer.variables, strict=True):
            new.assign(tf.cast(old.value, new.dtype))
    return copy


def loss_function(loss: Any) -> Callable[[Any, Any], Any]:
    """Of a Keras loss the formula per sample of a copy in float64; of a function itself."""
    return _loss_copy(loss).call if isinstance(loss, keras.losses.Loss) else loss


def _loss_copy(loss: Any) -> Any:
    """The loss built anew, for those that cast to a precision of their own; or else itself."""
    try:
        copy = type(loss).from_config(loss.get_config())
    except (NotImplementedError, TypeError, ValueError):
        return loss
    for name, value in vars(loss).items():
        if isinstance(value, keras.Variable):
            # State that no config has, such as whether the class weights of LDAM count yet.
            getattr(copy, name).assign(value)
    return copy


def as_float64(value: Any) -> Any:
    """A tensor; floating point becomes float64, whole numbers stay."""
    array = np.asarray(value)
    return tf.constant(array.astype(np.float64) if array.dtype.kind == "f" else array)


def _in_float64(config: Any) -> Any:
    """The same config, with every floating precision in it float64."""
    if isinstance(config, list | tuple):
        return type(config)(_in_float64(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        # Nested layers carry a whole policy where others have the name of one.
        return {**config, "config": {**config["config"], "name": "float64"}}
    return {
        key: "float64" if _is_precision(key, value) else _in_float64(value)
        for key, value in config.items()
    }


def _is_formula(layer: Any) -> bool:
    """Whether the layer has, and will have, neither weights nor layers inside."""
    # The first that `layers_inside` gives is the layer itself.
    bare = len(list(graph.layers_inside(layer))) == 1 and not layer.variables
    return bare and (layer.built or type(layer).build is keras.layers.Layer.build)


def _accepted(kind: type, config: dict[str, Any]) -> dict[str, Any]:
    """The part of the config that the constructor takes; many take no name and no dtype."""
    takes = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return config
    return {key: value for key, value in config.items() if key in takes}


def _is_precision(key: str, value: Any) -> bool:
    return key == "dtype" and isinstance(value, str) and "float" in value
