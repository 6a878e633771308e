"""Grow a copy of a Keras network from a tensor of ours: flat, of layers alone, named for good."""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras

from tltoolkit.backbones import layouts
from tltoolkit.backbones.row import Backbone
from tltoolkit.layers import private

# Our own preprocessing stands for theirs. Stochastic depth draws random numbers in frozen
# layers too, so that nothing above them could be computed once.
_LEFT_OUT = (keras.layers.Rescaling, keras.layers.Normalization, keras.layers.Dropout)


class Planted(NamedTuple):
    """A layer of ours, its counterpart in Keras' network, and where Keras saves that one."""

    layer: Any
    original: Any
    path: str


def replant(backbone: Backbone, source: keras.Model, pixels: Any, seed: int) -> list[Planted]:
    """Copy the layers of `source`, freshly initialised, to grow from `pixels`."""
    names = _fixed_names(backbone, source)
    paths = layouts.paths_of(source)
    # By identity, as a Keras tensor has no value to look it up by.
    grown = {id(source.input): pixels}
    planted = []

    def plant(operation: Any, feeds: Any) -> Any:
        # A copy: the layers themselves hang on an input of their own, without preprocessing.
        layer = _copy(operation, names[operation.name], seed)
        planted.append(Planted(layer, operation, paths.get(operation.name, "")))
        grown_on = layer(feeds)
        _name_scale(layer)
        return grown_on

    for operation in source.operations:
        if isinstance(operation, keras.layers.InputLayer):
            continue
        node = private.last_call(operation)
        feeds = [grown[id(tensor)] for tensor in node.inputs]
        x = feeds[0] if len(feeds) == 1 else feeds
        for part in _parts(operation):
            x = plant(part, x)
        grown[id(node.outputs[0])] = x
    return planted


def _parts(operation: Any) -> list[Any]:
    """What of an operation is copied: of a Sequential its layers, of some layers nothing."""
    parts = operation.layers if isinstance(operation, keras.Sequential) else [operation]
    return [part for part in parts if not isinstance(part, _LEFT_OUT)]


def _fixed_names(backbone: Backbone, source: keras.Model) -> dict[str, str]:
    """Name of an operation -> one that does not depend on what else the process has built."""
    parts = [part for operation in source.operations[1:] for part in _parts(operation)]
    fixed: dict[str, str] = {}
    for prefix, targets in backbone.renamed.items():
        numbered = [p.name for p in parts if re.fullmatch(rf"{prefix}(_\d+)?", p.name)]
        fixed |= dict(zip(numbered, targets, strict=True))
    return fixed | dict(_by_block(backbone, (part for part in parts if part.name not in fixed)))


def _by_block(backbone: Backbone, parts: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Call each layer that Keras numbers by its block, its class and its turn in the block."""
    block = 0
    turns: Counter[str] = Counter()
    for part in parts:
        kind = layouts.snake(_class_of(part).__name__)
        name = end = part.name
        if _is_numbered(part, kind):
            turns[kind] += 1
            turns[f"{block}/{kind}"] += 1
            end = f"{kind}_{turns[kind]}"
            name = f"{backbone.blocks[block]}_{kind}_{turns[f'{block}/{kind}']}"
        elif (known := backbone.block_of(name)) is not None:
            block = backbone.blocks.index(known)
        yield part.name, name
        block += end in backbone.ends


def _is_numbered(part: Any, kind: str) -> bool:
    is_layer = isinstance(part, keras.layers.Layer)
    return not is_layer or re.fullmatch(rf"{kind}(_\d+)?", part.name) is not None


def _class_of(operation: Any) -> Any:
    """The class of layers that does what an operation does, such as `x + 3.0`."""
    if isinstance(operation, keras.layers.Layer):
        return type(operation)
    joins = len(private.last_call(operation).inputs) > 1
    return keras.layers.Add if joins else keras.layers.Rescaling


def _copy(operation: Any, name: str, seed: int) -> Any:
    """An unbuilt copy whose initialisers have seeds made of `seed` and its name."""
    if not isinstance(operation, keras.layers.Layer):
        return _arithmetic(operation, name)
    config = operation.get_config() | {"name": name}
    for key, initializer in config.items():
        # By CRC: Python's own hash of a text differs from process to process.
        if key.endswith("_initializer") and "seed" in (initializer or {}).get("config", {}):
            initializer["config"]["seed"] = zlib.crc32(f"{seed}/{name}/{key}".encode())
    return type(operation).from_config(config)


def _name_scale(layer: Any) -> None:
    """Name the one variable that Keras numbers: by its number a checkpoint would not be found."""
    if isinstance(layer, private.layer_scale()):
        private.name_variable(layer.gamma, "gamma", layer)


def _arithmetic(operation: Any, name: str) -> Any:
    """A layer for a sum of two tensors, or a sum or product of a tensor and a number."""
    if _class_of(operation) is keras.layers.Add:
        return keras.layers.Add(name=name)
    (number,) = (a for a in private.last_call(operation).call.arguments.args if _is_number(a))
    if type(operation).__name__ == "Add":
        return keras.layers.Rescaling(1.0, offset=number, name=name)
    return keras.layers.Rescaling(number, name=name)


def _is_number(argument: Any) -> bool:
    return isinstance(argument, (int, float))
