"""Class activation maps: the evidence that a linear head sums up, position by position."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tltoolkit.explaining import evidence, found, graphs, parts
from tltoolkit.explaining.found import Choose, Found
from tltoolkit.explaining.parts import Part
from tltoolkit.layers import graph
from tltoolkit.model.network import Network


class Cam:
    """Finds the evidence of a linear head by one pass of the network.

    Args:
        network: With such a head.
        dense: Its dense layer.
        read: What that reads, see `parts.head_of`.
        multi_label: Whether an image may have several labels.
        by_block: Whether to keep the blocks apart as well.
    """

    def __init__(
        self,
        network: Network,
        dense: Any,
        read: Sequence[Part],
        multi_label: bool,
        by_block: bool,
    ) -> None:
        self.network = network
        self.kernel, self.bias = (v.numpy().astype(np.float32) for v in (dense.kernel, dense.bias))
        self.read = read
        self.multi_label = multi_label
        self.by_block = by_block
        # Each map once, however many statistics are taken of it.
        maps = list({id(part.tensor): part.tensor for part in read}.values())
        self._places = {id(tensor): i for i, tensor in enumerate(maps)}
        model = graph.part(network.model, network.model.input, [network.output, *maps])
        # Two graphs: which class is explained may be told by what the first one says.
        self._forward = graphs.traced(
            lambda images: model(graphs.as_input(network, images), training=False),
            graphs.images_of(network),
        )
        made = [tf.TensorSpec(one.shape, one.dtype) for one in maps]
        weights = tf.TensorSpec((None, len(self.kernel)), tf.float32)
        self._evidence = graphs.traced(self._added, weights, made)

    def __call__(self, images: np.ndarray, choose: Choose) -> Found:
        """The evidence for the class that `choose` picks for each image."""
        values, *maps = self._forward(tf.constant(images))
        probabilities = self.network.probabilities(np.asarray(values), self.multi_label)
        targets = choose(probabilities)
        outputs, sign = found.outputs_of(targets, self.network.one_for_two(self.multi_label))
        weights = (self.kernel[:, outputs] * sign).T
        whole, blocks = self._evidence(tf.constant(weights), maps)
        return Found(
            evidence=whole.numpy(),
            targets=targets,
            probabilities=found.of_targets(probabilities, targets),
            bias=self.bias[outputs] * sign,
            by_block={name: part.numpy() for name, part in blocks.items()},
        )

    def _added(self, weights: Any, maps: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
        """Evidence (B, S, S) in all and, if asked for, of each block."""
        # Summed up before it is enlarged, which takes longer than all the rest.
        on_maps: dict[tuple[str, tuple[int, int], int], Any] = {}
        for part in self.read:
            tensor = maps[self._places[id(part.tensor)]]
            here = _of_part(part, tensor, weights[:, part.rows])
            key = (part.block if self.by_block else "", part.grid, part.positions)
            on_maps[key] = on_maps[key] + here if key in on_maps else here
        blocks: dict[str, Any] = {}
        for (block, grid, _), here in on_maps.items():
            large = evidence.on_image(here, grid, self.network.image_size)
            blocks[block] = blocks[block] + large if block in blocks else large
        return tf.add_n(list(blocks.values())), blocks if self.by_block else {}


def _of_part(part: Part, tensor: Any, weights: Any) -> Any:
    """Evidence (B, P) of what a part reads of a map."""
    channels = tensor.shape[-1]
    # In float32 whatever the blocks compute in, as our heads read them.
    x = tf.reshape(tf.cast(tensor, tf.float32), (-1, part.positions, channels))
    if part.cells:
        weights = _over_cells(part, weights, channels)
    elif part.statistic == "each":
        weights = tf.reshape(weights, (-1, part.positions, channels))
    return evidence.OF[part.statistic](x, weights)


def _over_cells(part: Part, weights: Any, channels: int) -> Any:
    """Weights of means over cells as weights (B, P, C) of the positions in them."""
    n, (height, width) = part.cells, part.grid
    of_cells = tf.reshape(weights, (-1, n, n, channels))
    rows, columns = parts.spread(height, n), parts.spread(width, n)
    return tf.reshape(
        tf.einsum("bijc,ih,jw->bhwc", of_cells, rows, columns), (-1, part.positions, channels)
    )
