"""Rows of the table: MobileNet, EfficientNet, EfficientNetV2 and ConvNeXt."""

from dataclasses import replace

from tltoolkit.backbones.row import Backbone
from tltoolkit.backbones.rows_deep import numbered

_MOBILENET_V2 = Backbone(
    name="mobilenet_v2",
    family="mobilenet_v2",
    blocks=("stem", *numbered("stage", 7), "top"),
    parameters=2_257_984,
    multiply_adds=299_494_272,
    top1=71.3,
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
    multiply_adds=54_896_576,
    top1=68.1,
    top1_source="keras.applications.MobileNetV3Large's documentation",
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
    multiply_adds=214_080_960,
    top1=75.6,
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
    multiply_adds=384_534_752,
    top1=77.1,
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
    multiply_adds=716_806_176,
    top1=78.7,
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
    multiply_adds=4_454_763_264,
    top1=81.3,
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


def _b(number: int, image_size: int, parameters: int, multiply_adds: int, top1: float) -> Backbone:
    return replace(
        _EFFICIENTNET_B0,
        name=f"efficientnet_b{number}",
        image_size=image_size,
        parameters=parameters,
        multiply_adds=multiply_adds,
        top1=top1,
        next=None if number == 3 else f"efficientnet_b{number + 1}",
        architecture=f"EfficientNetB{number}",
        file=f"efficientnetb{number}_notop.h5",
    )


def _v2_b(
    number: int, image_size: int, parameters: int, multiply_adds: int, top1: float
) -> Backbone:
    return replace(
        _EFFICIENTNET_V2_B0,
        name=f"efficientnet_v2_b{number}",
        image_size=image_size,
        parameters=parameters,
        multiply_adds=multiply_adds,
        top1=top1,
        next="efficientnet_v2_s" if number == 3 else f"efficientnet_v2_b{number + 1}",
        architecture=f"EfficientNetV2B{number}",
        file=f"efficientnetv2-b{number}_notop.h5",
    )


ROWS = (
    _MOBILENET_V2,
    _MOBILENET_V3_SMALL,
    _MOBILENET_V3_LARGE,
    _EFFICIENTNET_B0,
    _b(1, 240, 6_575_232, 685_522_832, 79.1),
    _b(2, 260, 7_768_562, 992_153_872, 80.1),
    _b(3, 300, 10_783_528, 1_825_605_392, 81.6),
    _EFFICIENTNET_V2_B0,
    _v2_b(1, 240, 6_931_124, 1_195_539_360, 79.8),
    _v2_b(2, 260, 8_769_374, 1_696_134_832, 80.5),
    _v2_b(3, 300, 12_930_622, 3_009_922_816, 82.0),
    replace(
        _EFFICIENTNET_V2_B0,
        name="efficientnet_v2_s",
        image_size=384,
        parameters=20_331_360,
        multiply_adds=8_364_337_152,
        top1=83.9,
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
        multiply_adds=8_682_944_256,
        top1=82.3,
        next=None,
        architecture="ConvNeXtSmall",
        file="convnext_small_notop.h5",
    ),
)
