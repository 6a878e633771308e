"""What one row of the table of backbones says, free of Keras so that it loads at once."""

import re
from collections.abc import Mapping
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
        next: name of the next larger backbone of the family, or None.
        scale: how raw pixels are preprocessed, a key of `preprocessing.SCALES`.
        architecture: name of the function in `keras.applications`, or None for the one
            that this package builds.
        file: name of the weights file that Keras fetches, or "" for its usual form.
        layers: block -> regular expression for names of its layers that do not begin with
            the name of the block.
        ends: the last layers of blocks that are followed by layers without a name of their
            own; of those, the n-th Conv2D from the input up is called conv2d_n.
        renamed: name that Keras numbers by itself -> the fixed names of its occurrences,
            from the input up. Others are called by their block.
    """

    name: str
    family: str
    blocks: tuple[str, ...]
    image_size: int = 224
    min_size: int = 32
    parameters: int
    next: str | None = None
    scale: str
    architecture: str | None = None
    file: str = ""
    layers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    ends: tuple[str, ...] = field(default=(), repr=False)
    renamed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        """Refuse a row that contradicts itself."""
        _checks.one_of("scale", self.scale, SCALES)
        _checks.integer("min_size", self.min_size, 1, self.image_size)
        _checks.integer("parameters", self.parameters, 1)
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

    @property
    def weights_file(self) -> str:
        """Name of the file with the ImageNet weights that Keras fetches."""
        return self.file or f"{self.name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
