"""What a linear head reads of which map, found by walking from its dense layer down to the maps."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tltoolkit.callbacks import ScheduledDropout, ScheduledSpatialDropout2D
from tltoolkit.layers import graph
from tltoolkit.layers.spatial import SpatialStatistics
from tltoolkit.model import freezing
from tltoolkit.model.network import Network
from tltoolkit.training import linear

layers = keras.layers
# Which leave what they are given as it is, but in training.
_SAME = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    ScheduledDropout,
    ScheduledSpatialDropout2D,
)
_POOLS = {
    layers.GlobalAveragePooling1D: "mean",
    layers.GlobalAveragePooling2D: "mean",
    layers.GlobalMaxPooling1D: "max",
    layers.GlobalMaxPooling2D: "max",
}


class UnreadableError(ValueError):
    """A head that is no weighted sum of statistics of maps; it says which layer is in the way."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Some rows of the dense layer's kernel, and what they are multiplied with.

    Attributes:
        block: The name of the block that the map belongs to.
        tensor: The map (B, H, W, C), tokens (B, T, C), or a vector (B, C).
        statistic: Of each channel: `"mean"`, `"std"` or `"max"`; `"each"` has a row for every
            position and channel.
        rows: Where in the kernel its rows begin and end.
        cells: n where a row stands for the mean over a cell of a grid of n x n, else 0.
    """

    block: str
    tensor: Any
    statistic: str
    rows: slice
    cells: int = 0

    @property
    def positions(self) -> int:
        """P, those of the map or the tokens; 1 of a vector."""
        return graph.area(self.tensor)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of what of the positions has a place in the image."""
        return grid_of(self.tensor)


def grid_of(tensor: Any) -> tuple[int, int]:
    """Height and width of a map; tokens are a square, maybe with a first one that has no place.

    (1, 1) for a vector, and for tokens that are neither.
    """
    if len(tensor.shape) == 4:
        return tensor.shape[1] or 1, tensor.shape[2] or 1
    side = math.isqrt(graph.area(tensor))
    return (side, side) if graph.area(tensor) - side**2 in (0, 1) else (1, 1)


def head_of(network: Network) -> tuple[Any, tuple[Part, ...]]:
    """The dense layer that makes the logits, and what it reads.

    Raises:
        UnreadableError: The head is another one.
    """
    if network.output is None:
        raise UnreadableError("no graph that shows its head")
    order = graph.nodes(network.model)
    last = next((n for n in reversed(order) if getattr(n.layer, "weights", None)), None)
    plain = last is not None and type(last.layer) is layers.Dense and not last.layer.lora_enabled
    if last is None or not plain or not last.layer.use_bias:
        raise UnreadableError(_in_the_way(last))
    # It traces the layers above, and Keras would keep those calls for ever.
    with graph.nodes_forgotten(network.model):
        exact = linear.makes_outputs(network, last.layer, last.inputs[0])
    if not exact:
        raise UnreadableError("a layer after the dense one that changes its outputs")
    walk = _Walk(
        makers={id(tensor): node for node in order for tensor in node.outputs},
        blocks=_blocks(network),
    )
    rows = slice(0, last.inputs[0].shape[-1])
    return last.layer, tuple(walk.parts(last.inputs[0], rows))


def ends(network: Network) -> dict[str, Any]:
    """Block -> the tensor that it ends in, of the blocks whose positions have a place."""
    if network.output is None:
        return {}
    blocks, last = _blocks(network), dict[str, Any]()
    # The input is of no block, and counts as the head's here.
    for node in graph.nodes(network.model):
        last[blocks.get(id(node.layer), freezing.HEAD)] = node.outputs[0]
    del last[freezing.HEAD]
    return {block: end for block, end in last.items() if grid_of(end) != (1, 1)}


def _blocks(network: Network) -> dict[int, str]:
    """id of each layer -> its block."""
    of = {label: block for block, labels in network.blocks.items() for label in labels}
    labels = graph.labels(network.model)
    return {key: of.get(label, freezing.HEAD) for key, label in labels.items()}


def _in_the_way(node: graph.Node | None) -> str:
    return "no dense layer with a bias at its end" if node is None else f"the layer {_told(node)}"


def _told(node: graph.Node) -> str:
    return f"{node.layer.name!r} ({type(node.layer).__name__})"


@dataclass(frozen=True, kw_only=True)
class _Walk:
    """Down the graph, from the features of a dense layer to the maps that they are taken of."""

    makers: Mapping[int, graph.Node]
    blocks: Mapping[int, str]

    def parts(self, tensor: Any, rows: slice) -> Iterator[Part]:
        """What makes the values of `tensor`, which belong to these rows of the kernel."""
        node = self.makers[id(tensor)]
        layer, kind = node.layer, type(node.layer)
        below = node.inputs[0] if node.inputs else None
        if getattr(layer, "data_format", None) == "channels_first":
            raise UnreadableError(f"the layer {_told(node)} with channels before positions")
        if kind in _SAME or _is_linear(layer):
            yield from self.parts(below, rows)
        elif kind is layers.Concatenate and layer.axis in (-1, len(tensor.shape) - 1):
            yield from self._side_by_side(node.inputs, rows)
        elif kind is SpatialStatistics:
            yield from self._each(below, layer.statistics, rows)
        elif statistic := _pooled(layer, below):
            yield from self._each(below, (statistic,), rows)
        elif kind is layers.Flatten:
            yield from self._flat(below, rows)
        else:
            raise UnreadableError(f"the layer {_told(node)} between its maps and its dense layer")

    def _side_by_side(self, tensors: tuple[Any, ...], rows: slice) -> Iterator[Part]:
        start = rows.start
        for tensor in tensors:
            # Of what is flattened later each position would have rows of several inputs.
            if len(tensor.shape) > 2 and graph.area(tensor) > 1:
                raise UnreadableError("a concatenation of maps between them and its dense layer")
            stop = start + tensor.shape[-1]
            yield from self.parts(tensor, slice(start, stop))
            start = stop

    def _each(self, tensor: Any, statistics: tuple[str, ...], rows: slice) -> Iterator[Part]:
        width = tensor.shape[-1]
        for i, statistic in enumerate(statistics):
            start = rows.start + i * width
            yield self._part(tensor, statistic, slice(start, start + width))

    def _flat(self, tensor: Any, rows: slice) -> Iterator[Part]:
        node = self.makers[id(tensor)]
        if type(node.layer) is layers.AdaptiveAveragePooling2D:
            height, width = tensor.shape[1:3]
            if height != width:
                raise UnreadableError(f"the layer {_told(node)} with cells that are no square")
            yield self._part(node.inputs[0], "each", rows, height)
        elif graph.area(tensor) == 1:
            yield from self.parts(tensor, rows)
        else:
            yield self._part(tensor, "each", rows)

    def _part(self, tensor: Any, statistic: str, rows: slice, cells: int = 0) -> Part:
        if None in tensor.shape[1:]:
            raise UnreadableError(f"maps of no fixed size, {tuple(tensor.shape)}")
        maker = self.makers[id(tensor)]
        # A dropout that comes with the head does not make the map the head's.
        while type(maker.layer) in _SAME:
            maker = self.makers[id(maker.inputs[0])]
        block = self.blocks.get(id(maker.layer), freezing.HEAD)
        return Part(block=block, tensor=tensor, statistic=statistic, rows=rows, cells=cells)


def _pooled(layer: Any, below: Any) -> str:
    """Which statistic of all positions a layer or operation takes; "" for any other."""
    if type(layer) in _POOLS:
        return _POOLS[type(layer)]
    # `keras.ops.mean` and `max`, by name: their classes are exported nowhere (Keras 3.15.1).
    axes = np.atleast_1d(getattr(layer, "axis", ())).tolist()
    statistic = {"Mean": "mean", "Max": "max"}.get(type(layer).__name__, "")
    return statistic if axes == list(range(1, len(below.shape) - 1)) else ""


def _is_linear(layer: Any) -> bool:
    return type(layer) is layers.Activation and layer.activation is keras.activations.linear


def spread(size: int, cells: int) -> np.ndarray:
    """(cells, size): which share of a cell's mean each of the positions along a side is."""
    starts = [i * size // cells for i in range(cells)]
    stops = [-(-(i + 1) * size // cells) for i in range(cells)]  # rounded up: cells may overlap
    share = np.zeros((cells, size), np.float32)
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        share[i, start:stop] = 1 / (stop - start)
    return share
