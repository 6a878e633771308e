"""The table of backbones: what each is made of, free of Keras so that it loads at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

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
        prefixes: first word of a layer name -> block, for layers whose name does not
            begin with the name of their block.
        renamed: name that Keras numbers by itself -> the fixed names of its occurrences,
            from the input up.
    """

    name: str
    family: str
    blocks: tuple[str, ...]
    image_size: int = 224
    # Five halvings leave a single position of it.
    min_size: int = 32
    parameters: int
    next: str | None = None
    scale: str
    architecture: str | None = None
    # No part of the hash: mappings have none, and the other fields tell rows apart.
    prefixes: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    renamed: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        """Refuse a row that contradicts itself."""
        _checks.one_of("scale", self.scale, SCALES)
        _checks.integer("min_size", self.min_size, 1, self.image_size)
        _checks.integer("parameters", self.parameters, 1)
        for block in self.prefixes.values():
            _checks.one_of("prefixes", block, self.blocks)

    def block_of(self, layer_name: str) -> str | None:
        """The block of a layer, by the first word of its name; None if it is in no block."""
        word = layer_name.split("_")[0]
        if word == "preprocessing":
            return self.blocks[0]
        return word if word in self.blocks else self.prefixes.get(word)


def _numbered(word: str, count: int) -> tuple[str, ...]:
    return tuple(f"{word}{i}" for i in range(1, count + 1))


# Parameters are counted on the built network, moving averages included, which a test repeats.
_VGG16 = Backbone(
    name="vgg16",
    family="vgg",
    blocks=_numbered("block", 5),
    parameters=14_714_688,
    next="vgg19",
    scale="caffe",
    architecture="VGG16",
)
_RESNET50 = Backbone(
    name="resnet50",
    family="resnet",
    blocks=_numbered("conv", 5),
    parameters=23_587_712,
    next="resnet101",
    scale="caffe",
    architecture="ResNet50",
    # The first pooling, which Keras names after no block.
    prefixes={"pool1": "conv1"},
)
_RESNET50V2 = Backbone(
    name="resnet50v2",
    family="resnetv2",
    blocks=_numbered("conv", 5),
    parameters=23_564_800,
    next="resnet101v2",
    scale="tf",
    architecture="ResNet50V2",
    # It normalises before it convolves, so that a norm and a ReLU, "post", are left for the end.
    prefixes={"pool1": "conv1", "post": "conv5"},
    # Shortcuts where a stage shrinks the map; Keras leaves these layers unnamed.
    renamed={"max_pooling2d": tuple(f"conv{i}_shortcut_pool" for i in (2, 3, 4))},
)
_DENSENET121 = Backbone(
    name="densenet121",
    family="densenet",
    blocks=_numbered("conv", 5),
    parameters=7_037_504,
    next="densenet169",
    scale="torch",
    architecture="DenseNet121",
    # The pooling (transition) after a block ends that block.
    prefixes={f"pool{i}": f"conv{i}" for i in range(1, 5)} | {"bn": "conv5", "relu": "conv5"},
    # Keras names neither of them, though all layers around.
    renamed={"zero_padding2d": ("conv1_pad", "pool1_pad")},
)
_XCEPTION = Backbone(
    name="xception",
    family="xception",
    blocks=_numbered("block", 14),
    image_size=299,
    min_size=71,
    parameters=20_861_480,
    scale="tf",
    architecture="Xception",
    # Keras names nothing on the shortcuts of Xception; four blocks shrink the map.
    renamed={
        "conv2d": tuple(f"block{i}_shortcut_conv" for i in (2, 3, 4, 13)),
        "batch_normalization": tuple(f"block{i}_shortcut_bn" for i in (2, 3, 4, 13)),
        "add": tuple(f"block{i}_add" for i in range(2, 14)),
    },
)
_EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    family="efficientnet_lite",
    blocks=("stem", *_numbered("block", 7), "top"),
    parameters=3_413_024,
    next="efficientnet_lite1",
    scale="lite",
)


def _larger(
    row: Backbone, name: str, parameters: int, architecture: str, next_: str | None
) -> Backbone:
    return replace(row, name=name, parameters=parameters, architecture=architecture, next=next_)


_ROWS = (
    _VGG16,
    _larger(_VGG16, "vgg19", 20_024_384, "VGG19", None),
    _RESNET50,
    _larger(_RESNET50, "resnet101", 42_658_176, "ResNet101", "resnet152"),
    _larger(_RESNET50, "resnet152", 58_370_944, "ResNet152", None),
    _RESNET50V2,
    _larger(_RESNET50V2, "resnet101v2", 42_626_560, "ResNet101V2", "resnet152v2"),
    _larger(_RESNET50V2, "resnet152v2", 58_331_648, "ResNet152V2", None),
    _DENSENET121,
    _larger(_DENSENET121, "densenet169", 12_642_880, "DenseNet169", "densenet201"),
    _larger(_DENSENET121, "densenet201", 18_321_984, "DenseNet201", None),
    _XCEPTION,
    _EFFICIENTNET_LITE0,
    replace(
        _EFFICIENTNET_LITE0,
        name="efficientnet_lite1",
        image_size=240,
        parameters=4_189_344,
        next="efficientnet_lite2",
    ),
    replace(
        _EFFICIENTNET_LITE0,
        name="efficientnet_lite2",
        image_size=260,
        parameters=4_869_168,
        next=None,
    ),
)
_TABLE = {row.name: row for row in _ROWS}


def names() -> tuple[str, ...]:
    """The names of all backbones, families together, small before large."""
    return tuple(_TABLE)


def get(name: str) -> Backbone:
    """The row of the table for a name.

    Raises:
        ValueError: there is no backbone of that name.
    """
    _checks.one_of("backbone", name, _TABLE)
    return _TABLE[name]


def blocks_of(name: str, layer_names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Sort the layers of a model into the blocks of its backbone.

    Args:
        name: name of the backbone that the model was built with.
        layer_names: names of the model's layers, in the model's order.

    Returns:
        Block -> names of its layers, both from the input up. The preprocessing belongs to
        the first block. Layers of no block, the input and the head, are left out.

    Raises:
        ValueError: there is no backbone of that name.
    """
    backbone = get(name)
    found: dict[str, list[str]] = {block: [] for block in backbone.blocks}
    for layer_name in layer_names:
        block = backbone.block_of(layer_name)
        if block is not None:
            found[block].append(layer_name)
    return {block: tuple(members) for block, members in found.items()}
