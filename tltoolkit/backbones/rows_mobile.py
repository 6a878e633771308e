"""Rows of the table: MobileNet, EfficientNet, EfficientNetV2 and ConvNeXt."""

from dataclasses import replace

from tltoolkit.backbones.row import Backbone
from tltoolkit.backbones.rows_deep import numbered

_MOBILENET_V2 = Backbone(
    name="mobilenet_v2",
    family="mobilenet_v2",
    blocks=("stem", *numbered("stage", 7), "top"),
    parameters=2_257_984,
    scale="tf",
    architecture="MobileNetV2",
    file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
    layers={
        "stem": r"(bn_)?Conv1(_relu)?",
        "stage1": r"expanded_conv_.*",
        "stage2": r"block_[12]_.*",
        "stage3": r"block_[3-5]_.*",
        "stage4": r"block_[6-9]_.*",
        "stage5": r"block_1[0-2]_.*",
        "stage6": r"block_1[3-5]_.*",
        "stage7": r"block_16_.*",
        "top": r"Conv_1(_bn)?|out_relu",
    },
)
_MOBILENET_V3_SMALL = Backbone(
    name="mobilenet_v3_small",
    family="mobilenet_v3",
    blocks=("stem", *numbered("stage", 5), "top"),
    parameters=939_120,
    next="mobilenet_v3_large",
    scale="tf",
    architecture="MobileNetV3Small",
    file="weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    layers={
        "stem": r"conv(_bn)?",
        "stage1": r"expanded_conv_[a-z].*",
        "stage2": r"expanded_conv_[12]_.*",
        "stage3": r"expanded_conv_[3-5]_.*",
        "stage4": r"expanded_conv_[67]_.*",
        "stage5": r"expanded_conv_([89]|10)_.*",
        "top": r"conv_1(_bn)?",
    },
)
_MOBILENET_V3_LARGE = replace(
    _MOBILENET_V3_SMALL,
    name="mobilenet_v3_large",
    blocks=("stem", *numbered("stage", 6), "top"),
    parameters=2_996_352,
    next=None,
    architecture="MobileNetV3Large",
    file="weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
    layers={
        "stem": r"conv(_bn)?",
        "stage1": r"expanded_conv_[a-z].*",
        "stage2": r"expanded_conv_[12]_.*",
        "stage3": r"expanded_conv_[3-5]_.*",
        "stage4": r"expanded_conv_[6-9]_.*",
        "stage5": r"expanded_conv_1[01]_.*",
        "stage6": r"expanded_conv_1[2-4]_.*",
        "top": r"conv_1(_bn)?",
    },
)
_EFFICIENTNET_B0 = Backbone(
    name="efficientnet_b0",
    family="efficientnet",
    blocks=("stem", *numbered("block", 7), "top"),
    parameters=4_049_564,
    next="efficientnet_b1",
    scale="torch",
    architecture="EfficientNetB0",
    file="efficientnetb0_notop.h5",
    layers={block: rf"{block}[a-z]_.*" for block in numbered("block", 7)},
)
_EFFICIENTNET_V2_B0 = replace(
    _EFFICIENTNET_B0,
    name="efficientnet_v2_b0",
    family="efficientnet_v2",
    blocks=("stem", *numbered("block", 6), "top"),
    parameters=5_919_312,
    next="efficientnet_v2_b1",
    architecture="EfficientNetV2B0",
    file="efficientnetv2-b0_notop.h5",
    layers={block: rf"{block}[a-z]_.*" for block in numbered("block", 6)},
)
_CONVNEXT_TINY = Backbone(
    name="convnext_tiny",
    family="convnext",
    blocks=("stem", *numbered("stage", 4)),
    parameters=27_820_128,
    next="convnext_small",
    scale="torch",
    architecture="ConvNeXtTiny",
    file="convnext_tiny_notop.h5",
    layers={
        "stem": r"convnext_[a-z]+_stem_.*",
        **{
            f"stage{i + 1}": rf"convnext_[a-z]+_(stage_{i}_.*|downsampling_[a-z]+_{i - 1})"
            for i in range(4)
        },
    },
)


def _b(number: int, image_size: int, parameters: int) -> Backbone:
    return replace(
        _EFFICIENTNET_B0,
        name=f"efficientnet_b{number}",
        image_size=image_size,
        parameters=parameters,
        next=None if number == 3 else f"efficientnet_b{number + 1}",
        architecture=f"EfficientNetB{number}",
        file=f"efficientnetb{number}_notop.h5",
    )


def _v2_b(number: int, image_size: int, parameters: int) -> Backbone:
    return replace(
        _EFFICIENTNET_V2_B0,
        name=f"efficientnet_v2_b{number}",
        image_size=image_size,
        parameters=parameters,
        next="efficientnet_v2_s" if number == 3 else f"efficientnet_v2_b{number + 1}",
        architecture=f"EfficientNetV2B{number}",
        file=f"efficientnetv2-b{number}_notop.h5",
    )


ROWS = (
    _MOBILENET_V2,
    _MOBILENET_V3_SMALL,
    _MOBILENET_V3_LARGE,
    _EFFICIENTNET_B0,
    _b(1, 240, 6_575_232),
    _b(2, 260, 7_768_562),
    _b(3, 300, 10_783_528),
    _EFFICIENTNET_V2_B0,
    _v2_b(1, 240, 6_931_124),
    _v2_b(2, 260, 8_769_374),
    _v2_b(3, 300, 12_930_622),
    replace(
        _EFFICIENTNET_V2_B0,
        name="efficientnet_v2_s",
        image_size=384,
        parameters=20_331_360,
        next=None,
        scale="v2s",
        architecture="EfficientNetV2S",
        file="efficientnetv2-s_notop.h5",
    ),
    _CONVNEXT_TINY,
    replace(
        _CONVNEXT_TINY,
        name="convnext_small",
        parameters=49_454_688,
        next=None,
        architecture="ConvNeXtSmall",
        file="convnext_small_notop.h5",
    ),
)
