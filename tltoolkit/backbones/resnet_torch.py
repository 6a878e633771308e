"""ResNet50 as torchvision and timm have it: strides in the 3x3 convolutions, no biases.

Source: He et al., "Deep Residual Learning for Image Recognition", 2015, in the variant "v1.5" of
torchvision. Layers have the names of the state dict, with "_" for ".".
"""

from typing import Any

import keras

_WIDTH = 64
# Bottlenecks of each stage.
_REPEATS = {"resnet50_torch": (3, 4, 6, 3)}
# A bottleneck gives four times the channels that it works on.
_EXPANSION = 4


def network(name: str) -> keras.Model:
    """The network without preprocessing, pooling and classification head.

    Args:
        name: its name in the table of backbones.

    Returns:
        A functional model from (B, H, W, 3) to (B, ceil(H / 32), ceil(W / 32), 2048).
    """
    inputs = keras.Input((None, None, 3))
    x = _conv(inputs, "conv1", _WIDTH, kernel=7, stride=2)
    x = keras.layers.ReLU(name="relu")(_norm(x, "bn1"))
    # Zeros do no harm to a maximum of what is not negative.
    x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="maxpool")(x)
    for stage, repeats in enumerate(_REPEATS[name], start=1):
        for i in range(repeats):
            stride = 2 if stage > 1 and i == 0 else 1
            x = _bottleneck(x, f"layer{stage}_{i}", _WIDTH * 2 ** (stage - 1), stride)
    return keras.Model(inputs, x)


def _bottleneck(x: Any, name: str, width: int, stride: int) -> Any:
    shortcut, channels = x, x.shape[-1]
    for number, (size, kernel, step) in enumerate(
        ((width, 1, 1), (width, 3, stride), (_EXPANSION * width, 1, 1)), start=1
    ):
        if number > 1:
            x = keras.layers.ReLU(name=f"{name}_relu{number - 1}")(x)
        x = _conv(x, f"{name}_conv{number}", size, kernel, step)
        x = _norm(x, f"{name}_bn{number}")
    if stride > 1 or channels != _EXPANSION * width:
        shortcut = _conv(shortcut, f"{name}_downsample_0", _EXPANSION * width, 1, stride)
        shortcut = _norm(shortcut, f"{name}_downsample_1")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{name}_out")(x)


def _conv(x: Any, name: str, filters: int, kernel: int, stride: int = 1) -> Any:
    if kernel > 1:
        # Keras' own "same" leaves the upper and left side without where it strides.
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
        name=name,
    )(x)


def _norm(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(epsilon=1e-5, name=name)(x)
