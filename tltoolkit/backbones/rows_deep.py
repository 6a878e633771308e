"""Rows of the table: VGG, ResNet, DenseNet, Xception and EfficientNet-Lite."""

from dataclasses import replace

from tltoolkit.backbones.row import Backbone


def numbered(word: str, count: int) -> tuple[str, ...]:
    """word1, word2, ..., as blocks are called."""
    return tuple(f"{word}{i}" for i in range(1, count + 1))


_VGG16 = Backbone(
    name="vgg16",
    family="vgg",
    blocks=numbered("block", 5),
    parameters=14_714_688,
    next="vgg19",
    scale="caffe",
    architecture="VGG16",
)
_RESNET50 = Backbone(
    name="resnet50",
    family="resnet",
    blocks=numbered("conv", 5),
    parameters=23_587_712,
    next="resnet101",
    scale="caffe",
    architecture="ResNet50",
    layers={"conv1": r"pool1_.*"},
)
_RESNET50V2 = Backbone(
    name="resnet50v2",
    family="resnetv2",
    blocks=numbered("conv", 5),
    parameters=23_564_800,
    next="resnet101v2",
    scale="tf",
    architecture="ResNet50V2",
    layers={"conv1": r"pool1_.*", "conv5": r"post_.*"},
    renamed={"max_pooling2d": tuple(f"conv{i}_shortcut_pool" for i in (2, 3, 4))},
)
_DENSENET121 = Backbone(
    name="densenet121",
    family="densenet",
    blocks=numbered("conv", 5),
    parameters=7_037_504,
    next="densenet169",
    scale="torch",
    architecture="DenseNet121",
    # The pooling (transition) after a block ends that block.
    layers={f"conv{i}": rf"pool{i}(_.*)?" for i in range(1, 5)} | {"conv5": "bn|relu"},
    renamed={"zero_padding2d": ("conv1_pad", "pool1_pad")},
)
_XCEPTION = Backbone(
    name="xception",
    family="xception",
    blocks=numbered("block", 14),
    image_size=299,
    min_size=71,
    parameters=20_861_480,
    scale="tf",
    architecture="Xception",
    renamed={
        "conv2d": tuple(f"block{i}_shortcut_conv" for i in (2, 3, 4, 13)),
        "batch_normalization": tuple(f"block{i}_shortcut_bn" for i in (2, 3, 4, 13)),
        "add": tuple(f"block{i}_add" for i in range(2, 14)),
    },
)
_EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    family="efficientnet_lite",
    blocks=("stem", *numbered("block", 7), "top"),
    parameters=3_413_024,
    next="efficientnet_lite1",
    scale="lite",
)


def _larger(
    row: Backbone, name: str, parameters: int, architecture: str, next_: str | None
) -> Backbone:
    return replace(row, name=name, parameters=parameters, architecture=architecture, next=next_)


ROWS = (
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
