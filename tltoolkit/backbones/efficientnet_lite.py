"""EfficientNet-Lite0, 1 and 2 in Keras, and their ImageNet weights from installed packages.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", 2019, in the Lite variant: no squeeze-and-excitation, ReLU6 for swish.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from tltoolkit.backbones import origins, torch_file

# All sizes have the same stem and top.
_STEM, _TOP = 32, 1280
# In the order of a Keras BatchNormalization: gamma, beta, mean, variance.
_NORM = ("weight", "bias", "running_mean", "running_var")
# Channels are a multiple of it.
_DIVISOR = 8


class _Stage(NamedTuple):
    expand: int
    channels: int
    repeats: int
    stride: int
    kernel: int


# Those of EfficientNet-B0, which Lite0 has kept.
_STAGES = (
    _Stage(1, 16, 1, 1, 3),
    _Stage(6, 24, 2, 2, 3),
    _Stage(6, 40, 2, 2, 5),
    _Stage(6, 80, 3, 2, 3),
    _Stage(6, 112, 3, 1, 5),
    _Stage(6, 192, 4, 2, 5),
    _Stage(6, 320, 1, 1, 3),
)


class _Size(NamedTuple):
    """How Lite0 is scaled."""

    width: float
    depth: float


_SIZES = {
    "efficientnet_lite0": _Size(1.0, 1.0),
    "efficientnet_lite1": _Size(1.0, 1.1),
    "efficientnet_lite2": _Size(1.1, 1.2),
}


def _stages(name: str) -> tuple[_Stage, ...]:
    """Channels to the nearest multiple of 8; repeats rounded up, but for the two ends."""
    width, depth = _SIZES[name]
    ends = (_STAGES[0], _STAGES[-1])
    return tuple(
        stage._replace(
            channels=_channels(stage.channels * width),
            repeats=stage.repeats if stage in ends else math.ceil(stage.repeats * depth),
        )
        for stage in _STAGES
    )


def _channels(wanted: float) -> int:
    # EfficientNet also forbids losing more than a tenth, which no stage does at these widths.
    return int(wanted + _DIVISOR / 2) // _DIVISOR * _DIVISOR


def network(name: str) -> keras.Model:
    """The network without preprocessing, pooling and classification head.

    Args:
        name: its name in the table of backbones.

    Returns:
        A functional model from (B, H, W, 3) to (B, ceil(H / 32), ceil(W / 32), 1280).
    """
    inputs = keras.Input((None, None, 3))
    x = _conv(inputs, "stem", _STEM, kernel=3, stride=2)
    for number, stage in enumerate(_stages(name), start=1):
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            x = _bottleneck(x, f"block{number}_{repeat}", stage, stride)
    return keras.Model(inputs, _conv(x, "top", _TOP, kernel=1))


def _bottleneck(x: Any, name: str, stage: _Stage, stride: int) -> Any:
    shortcut, channels = x, x.shape[-1]
    if stage.expand > 1:
        x = _conv(x, f"{name}_expand", channels * stage.expand, kernel=1)
    x = keras.layers.DepthwiseConv2D(
        stage.kernel,
        strides=stride,
        # As TensorFlow pads, which trained it: with a stride, more at the end than before.
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _norm(x, f"{name}_depthwise")
    # No activation: a ReLU on few channels would lose what they say (MobileNetV2).
    x = _conv(x, f"{name}_project", stage.channels, kernel=1, activate=False)
    if stride == 1 and channels == stage.channels:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _conv(
    x: Any, name: str, filters: int, kernel: int, stride: int = 1, activate: bool = True
) -> Any:
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=f"{name}_conv",
    )(x)
    return _norm(x, name, activate)


def _norm(x: Any, name: str, activate: bool = True) -> Any:
    # TensorFlow's epsilon, which it was trained with; PyTorch's would be 1e-5.
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu")(x) if activate else x


def _initializer() -> Any:
    # As keras.applications initialises its EfficientNets; counts where training starts from it.
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def imagenet_weights(name: str) -> dict[str, list[np.ndarray]]:
    """The ImageNet weights: layer name -> arrays in the order of `layer.weights`.

    Raises:
        ImportError: the package that ships them is not installed.
        ValueError: its file is not the one that this was written for.
    """
    state = _state(name)
    weights = {}
    # ImageNet's classifier, in whose place a head comes.
    taken = {"_fc.weight", "_fc.bias"}
    for layer, convolution, norm in _counterparts(name):
        kernel = f"{convolution}.weight"
        parts = [f"{norm}.{part}" for part in _NORM]
        absent = {kernel, *parts} - set(state)
        if absent:
            raise ValueError(f"the weights of {name} lack {sorted(absent)}")
        # PyTorch keeps (out, in, H, W), for a depthwise kernel (channels, 1, H, W); Keras
        # keeps (H, W, in, out), for a depthwise kernel (H, W, channels, 1).
        axes = (2, 3, 0, 1) if layer.endswith("depthwise") else (2, 3, 1, 0)
        weights[f"{layer}_conv"] = [state[kernel].transpose(axes)]
        weights[f"{layer}_bn"] = [state[part] for part in parts]
        # The count of batches is PyTorch's own; Keras' layer has no such variable.
        taken |= {kernel, *parts, f"{norm}.num_batches_tracked"}
    # One left over would mean that the network here lacks a layer.
    unused = sorted(set(state) - taken)
    if unused:
        raise ValueError(f"the weights of {name} hold arrays that no layer takes: {unused}")
    return weights


def imagenet_classifier(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (1280, 1000) and bias (1000,) from average-pooled features to ImageNet logits."""
    state = _state(name)
    return state["_fc.weight"].T, state["_fc.bias"]


def _state(name: str) -> dict[str, np.ndarray]:
    return torch_file.read(origins.package_file(name), origins.PACKAGES[name].sha256)


def _counterparts(name: str) -> Iterator[tuple[str, str, str]]:
    """Layer prefix here, and the names of its convolution and its normalisation there."""
    yield "stem", "_conv_stem", "_bn0"
    # There blocks are numbered through all stages.
    index = 0
    for number, stage in enumerate(_stages(name), start=1):
        for repeat in range(stage.repeats):
            here, there = f"block{number}_{repeat}", f"_blocks.{index}"
            if stage.expand > 1:
                yield f"{here}_expand", f"{there}._expand_conv", f"{there}._bn0"
            yield f"{here}_depthwise", f"{there}._depthwise_conv", f"{there}._bn1"
            yield f"{here}_project", f"{there}._project_conv", f"{there}._bn2"
            index += 1
    yield "top", "_conv_head", "_bn1"
