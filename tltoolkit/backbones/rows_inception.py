"""Rows of the table: Inception, Inception-ResNet and NASNet, most of whose layers have no name."""

from tltoolkit.backbones.row import Backbone

_MIXED = tuple(f"mixed{i}" for i in range(11))
# All but the pooling after the stem.
_TAPS = r"(?!stem_max_pooling2d_2).*"

ROWS = (
    Backbone(
        name="inception_v3",
        family="inception",
        blocks=("stem", *_MIXED),
        image_size=299,
        min_size=75,
        parameters=21_802_784,
        multiply_adds=5_711_168_096,
        top1=77.9,
        scale="tf",
        architecture="InceptionV3",
        # Joins inside of the last two modules.
        layers={"mixed10": "mixed9_1"},
        ends=("max_pooling2d_2", *_MIXED[:-1]),
        taps=_TAPS,
    ),
    Backbone(
        name="inception_resnet_v2",
        family="inception_resnet",
        blocks=(
            "stem",
            "mixed_5b",
            "block35",
            "mixed_6a",
            "block17",
            "mixed_7a",
            "block8",
            "conv_7b",
        ),
        image_size=299,
        min_size=75,
        parameters=54_336_736,
        multiply_adds=13_154_258_016,
        top1=80.3,
        scale="tf",
        architecture="InceptionResNetV2",
        ends=(
            "max_pooling2d_2",
            "mixed_5b",
            "block35_10_ac",
            "mixed_6a",
            "block17_20_ac",
            "mixed_7a",
        ),
        taps=_TAPS,
    ),
    Backbone(
        name="nasnet_mobile",
        family="nasnet",
        # A cell reads the two before it, so that they are parted only where the map shrinks.
        blocks=("stem", "stage1", "stage2", "stage3"),
        parameters=4_269_716,
        multiply_adds=562_582_816,
        top1=74.4,
        scale="tf",
        architecture="NASNetMobile",
        file="nasnet_mobile_no_top.h5",
        layers={
            "stem": r"stem_(conv|bn)1",
            "stage1": r"(adjust|normal|reduction|separable)_.*_(stem_[12]|(?<!reduce_)[0-3])",
            "stage2": r"(adjust|normal|reduction|separable)_.*_(reduce_4|(?<!reduce_)[5-8])",
            "stage3": r"(adjust|normal|reduction|separable)_.*_(reduce_8|9|1[0-2])",
        },
        ends=("stem_bn1", "normal_concat_3", "normal_concat_8"),
    ),
)
