"""Class activation maps: the evidence that a linear head sums up, position by position."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tltoolkit.explaining import evidence, found, parts
from tltoolkit.explaining.found import Choose, Found
from tltoolkit.explaining.parts import Part
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
        self.kernel, self.bias = dense.kernel.numpy(), dense.bias.numpy()
        self.read = read
        self.multi_label = multi_label
        self.by_block = by_block
        # Each map once, however many statistics are taken of it.
        maps = list({id(part.tensor): part.tensor for part in read}.values())
        self._places = {id(tensor): i for i, tensor in enumerate(maps)}
        self._blocks = tuple(dict.fromkeys(part.block for part in read))
        model = keras.Model(network.model.inputs, [network.output, *maps])
        # Two graphs: which class is explained may be told by what the first one says.
        self._forward = tf.function(
            lambda images: model(found.as_pixels(network, images), training=False),
            autograph=False,
            reduce_retracing=True,
        )
        self._evidence = tf.function(self._added, autograph=False, reduce_retracing=True)

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
        on_map: dict[int, Any] = {}
        for part in self.read:
            place = self._places[id(part.tensor)]
            here = _of_part(part, maps[place], weights[:, part.rows])
            on_map[place] = on_map[place] + here if place in on_map else here
        side = self.network.image_size
        grids = {self._places[id(part.tensor)]: (part.block, part.grid) for part in self.read}
        large = [
            (grids[place][0], evidence.on_image(here, grids[place][1], side))
            for place, here in on_map.items()
        ]
        whole = tf.add_n([here for _, here in large])
        if not self.by_block:
            return whole, {}
        names = self._blocks
        return whole, {n: tf.add_n([here for block, here in large if block == n]) for n in names}


def _of_part(part: Part, tensor: Any, weights: Any) -> Any:
    """Evidence (B, P) of what a part reads of a map."""
    channels = tensor.shape[-1]
    # In float32 whatever the blocks compute in, as our heads read them.
    x = tf.reshape(tf.cast(tensor, tf.float32), (-1, part.positions, channels))
    if part.statistic == "each":
        weights = (
            tf.reshape(weights, (-1, part.positions, channels))
            if not part.cells
            else (_over_cells(part, weights, channels))
        )
    return evidence.OF[part.statistic](x, weights)


def _over_cells(part: Part, weights: Any, channels: int) -> Any:
    """Weights of means over cells as weights (B, P, C) of the positions in them."""
    n, (height, width) = part.cells, part.grid
    of_cells = tf.reshape(weights, (-1, n, n, channels))
    rows, columns = parts.spread(height, n), parts.spread(width, n)
    return tf.reshape(
        tf.einsum("bijc,ih,jw->bhwc", of_cells, rows, columns), (-1, part.positions, channels)
    )
