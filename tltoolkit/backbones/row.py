"""What one row of the table of backbones says, free of Keras so that it loads at once."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tltoolkit import _checks
from tltoolkit.backbones.preprocessing import SCALES


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One row of the table: a convolutional network without its classification head.

    Attributes:
        name: the key in the table.
        family: backbones of one family differ in depth, width and image size only.
        blocks: names of the blocks from the input up. A block is the unit for unfreezing
            and for layer-wise learning rates.
        image_size: height and width in pixels that the ImageNet weights were trained for.
        min_size: smallest height and width in pixels that the network accepts.
        parameters: number of weights, moving averages included.
        multiply_adds: of convolutions and dense layers for one image of `image_size`.
        top1: accuracy of its ImageNet weights on ImageNet's validation images in percent, as
            published, or None where the weights are the user's.
        top1_source: who published it.
        next: name of the next larger backbone of the family, or None.
        scale: how raw pixels are preprocessed, a key of `preprocessing.SCALES`.
        architecture: name of the function in `keras.applications`, or None for one that this
            package builds.
        origin: where its ImageNet weights come from: "keras" downloads them, a "package" that is
            installed has them, or a "file" of the user's.
        file: name of the weights file that Keras fetches, or "" for its usual form.
        torch: how PyTorch's state dict names its layers, a key of `tensors.TORCH_NAMES`, where
            the network computes what PyTorch's does.
        layers: block -> regular expression for names of its layers that do not begin with
            the name of the block.
        ends: the last layers of blocks that are followed by layers without a name of their
            own; of those, the n-th Conv2D from the input up is called conv2d_n.
        renamed: name that Keras numbers by itself -> the fixed names of its occurrences,
            from the input up. Others are called by their block.
        taps: regular expression for names of layers. The last such layer of a block is where a
            head on blocks reads it and its dropout acts: after the activation, if the family's
            blocks end in one, and before what only makes the map smaller for the next block. In
            the last block it is the last layer of all, which other heads read too.
    """

    name: str
    family: str
    blocks: tuple[str, ...]
    image_size: int = 224
    # Five halvings leave a single position of it.
    min_size: int = 32
    parameters: int
    multiply_adds: int
    top1: float | None = None
    top1_source: str = "keras.io/api/applications"
    next: str | None = None
    scale: str
    architecture: str | None = None
    origin: str = "keras"
    file: str = ""
    torch: str | None = None
    # No part of the hash: mappings have none, and the other fields tell rows apart.
    layers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    ends: tuple[str, ...] = field(default=(), repr=False)
    renamed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, hash=False)
    taps: str = field(default=".*", repr=False)

    def __post_init__(self) -> None:
        """Refuse a row that contradicts itself."""
        _checks.one_of("scale", self.scale, SCALES)
        _checks.one_of("origin", self.origin, ("keras", "package", "file"))
        _checks.integer("min_size", self.min_size, 1, self.image_size)
        _checks.integer("parameters", self.parameters, 1)
        _checks.integer("multiply_adds", self.multiply_adds, 1)
        for block in self.layers:
            _checks.one_of("layers", block, self.blocks)

    def block_of(self, layer_name: str) -> str | None:
        """The block of a layer, by its name; None if it is in no block."""
        if layer_name == "preprocessing":
            return self.blocks[0]
        for block, pattern in self.layers.items():
            if re.fullmatch(pattern, layer_name):
                return block
        begins = (block for block in self.blocks if f"{layer_name}_".startswith(f"{block}_"))
        return next(begins, None)

    def tap_of(self, layer_names: Sequence[str]) -> str:
        """The one of a block's layers, from the input up, that a head on blocks reads."""
        return next(name for name in reversed(layer_names) if re.fullmatch(self.taps, name))

    @property
    def weights_file(self) -> str:
        """Name of the file with the ImageNet weights that Keras fetches."""
        return self.file or f"{self.name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
