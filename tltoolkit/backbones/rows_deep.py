"""Rows of the table: VGG, ResNet, DenseNet, Xception and EfficientNet-Lite."""

from dataclasses import replace

from tltoolkit.backbones.row import Backbone


def numbered(word: str, count: int) -> tuple[str, ...]:
    """word1, word2, ..., as blocks are called."""
    return tuple(f"{word}{i}" for i in range(1, count + 1))


# Parameters are counted on the built network, moving averages included, which a test repeats.
_VGG16 = Backbone(
    name="vgg16",
    family="vgg",
    blocks=numbered("block", 5),
    parameters=14_714_688,
    multiply_adds=15_346_630_656,
    top1=71.3,
    next="vgg19",
    scale="caffe",
    architecture="VGG16",
    # Each convolution holds its activation.
    taps=r"block[1-4]_conv\d|block5_pool",
)
_RESNET50 = Backbone(
    name="resnet50",
    family="resnet",
    blocks=numbered("conv", 5),
    parameters=23_587_712,
    multiply_adds=3_855_925_248,
    top1=74.9,
    next="resnet101",
    scale="caffe",
    architecture="ResNet50",
    # The first pooling, which Keras names after no block.
    layers={"conv1": r"pool1_.*"},
    taps=r"conv1_relu|conv\d_block\d+_out",
)
_RESNET50V2 = Backbone(
    name="resnet50v2",
    family="resnetv2",
    blocks=numbered("conv", 5),
    parameters=23_564_800,
    multiply_adds=3_480_207_360,
    top1=76.0,
    next="resnet101v2",
    scale="tf",
    architecture="ResNet50V2",
    # It normalises before it convolves, so that a norm and a ReLU, "post", are left for the end.
    layers={"conv1": r"pool1_.*", "conv5": r"post_.*"},
    # Shortcuts where a stage shrinks the map; Keras leaves these layers unnamed.
    renamed={"max_pooling2d": tuple(f"conv{i}_shortcut_pool" for i in (2, 3, 4))},
    # The last sum before the one that strides, which all that follows reads; it is activated only
    # in branches. Deeper networks have both numbers of some, of which the later one counts.
    taps=r"conv1_conv|conv2_block2_out|conv3_block(3|7)_out|conv4_block(5|22|35)_out|post_relu",
)
_DENSENET121 = Backbone(
    name="densenet121",
    family="densenet",
    blocks=numbered("conv", 5),
    parameters=7_037_504,
    multiply_adds=2_833_137_664,
    top1=75.0,
    next="densenet169",
    scale="torch",
    architecture="DenseNet121",
    # The pooling (transition) after a block ends that block.
    layers={f"conv{i}": rf"pool{i}(_.*)?" for i in range(1, 5)} | {"conv5": "bn|relu"},
    # Keras names neither of them, though all layers around.
    renamed={"zero_padding2d": ("conv1_pad", "pool1_pad")},
    # In a transition: what a block has put side by side is normalised and activated only there.
    taps=r"conv1_relu|pool\d_relu|relu",
    torch="densenet",
)
_XCEPTION = Backbone(
    name="xception",
    family="xception",
    blocks=numbered("block", 14),
    image_size=299,
    min_size=71,
    parameters=20_861_480,
    multiply_adds=8_355_355_496,
    top1=79.0,
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
    blocks=("stem", *numbered("block", 7), "top"),
    parameters=3_413_024,
    multiply_adds=383_907_552,
    top1=75.1,
    top1_source="github.com/tensorflow/tpu, efficientnet/lite",
    next="efficientnet_lite1",
    scale="lite",
    origin="package",
)
_VGG16_TORCH = replace(
    _VGG16,
    name="vgg16_torch",
    family="vgg_torch",
    next=None,
    scale="torch",
    origin="file",
    top1=None,
    torch="vgg",
)
_RESNET50_TORCH = Backbone(
    name="resnet50_torch",
    family="resnet_torch",
    blocks=("conv1", *numbered("layer", 4)),
    parameters=23_561_152,
    multiply_adds=4_087_136_256,
    scale="torch",
    origin="file",
    layers={"conv1": r"bn1|relu|maxpool(_pad)?"},
    taps=r"relu|layer\d_\d+_out",
    torch="resnet",
)


def _larger(
    row: Backbone,
    name: str,
    parameters: int,
    multiply_adds: int,
    top1: float,
    architecture: str,
    next_: str | None,
) -> Backbone:
    return replace(
        row,
        name=name,
        parameters=parameters,
        multiply_adds=multiply_adds,
        top1=top1,
        architecture=architecture,
        next=next_,
    )


ROWS = (
    _VGG16,
    _larger(_VGG16, "vgg19", 20_024_384, 19_508_428_800, 71.3, "VGG19", None),
    _VGG16_TORCH,
    _RESNET50,
    _larger(_RESNET50, "resnet101", 42_658_176, 7_568_146_432, 76.4, "ResNet101", "resnet152"),
    _larger(_RESNET50, "resnet152", 58_370_944, 11_280_367_616, 76.6, "ResNet152", None),
    _RESNET50_TORCH,
    _RESNET50V2,
    _larger(
        _RESNET50V2, "resnet101v2", 42_626_560, 7_192_428_544, 77.2, "ResNet101V2", "resnet152v2"
    ),
    _larger(_RESNET50V2, "resnet152v2", 58_331_648, 10_904_649_728, 78.0, "ResNet152V2", None),
    _DENSENET121,
    _larger(
        _DENSENET121, "densenet169", 12_642_880, 3_358_179_328, 76.2, "DenseNet169", "densenet201"
    ),
    _larger(_DENSENET121, "densenet201", 18_321_984, 4_289_445_888, 77.3, "DenseNet201", None),
    _XCEPTION,
    _EFFICIENTNET_LITE0,
    replace(
        _EFFICIENTNET_LITE0,
        name="efficientnet_lite1",
        image_size=240,
        parameters=4_189_344,
        multiply_adds=598_905_232,
        top1=76.7,
        next="efficientnet_lite2",
    ),
    replace(
        _EFFICIENTNET_LITE0,
        name="efficientnet_lite2",
        image_size=260,
        parameters=4_869_168,
        multiply_adds=858_456_272,
        top1=77.6,
        next=None,
    ),
)
