"""Build a backbone into the caller's graph, with its weights."""

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks
from tltoolkit.backbones import efficientnet_lite, origins, resnet_torch, weight_files
from tltoolkit.backbones.preprocessing import preprocess
from tltoolkit.backbones.replant import Planted, replant
from tltoolkit.backbones.row import Backbone
from tltoolkit.backbones.table import get
from tltoolkit.layers import private

Arrays = Mapping[str, list[np.ndarray]]
# By the family: the networks that this package builds itself.
_OWN = {"efficientnet_lite": efficientnet_lite.network, "resnet_torch": resnet_torch.network}


def build(
    name: str, inputs: Any, weights: str | PathLike[str] | None = "imagenet", seed: int = 0
) -> Any:
    """Put preprocessing and a backbone after an input, as layers of one flat graph.

    Args:
        name: a name of the table, see `names`.
        inputs: Keras tensor (B, H, W, 3) of raw RGB pixels, 0..255. H and W may be None.
        weights: "imagenet"; None for random weights; or the path of a `.weights.h5` or
            `.h5` file of this backbone's weights, of a `.keras` file of a model that
            contains this backbone, or of a `.safetensors` file. No code is taken from the file.
        seed: what random weights depend on, beside the names of the layers.

    Returns:
        Keras tensor (B, h, w, C): the last feature map.

    Raises:
        ValueError: an argument is not as said, or the file's weights do not fit.
        TypeError: `inputs` is not a Keras tensor.
        OSError: Keras could not fetch the ImageNet weights.
        ImportError: the package with the ImageNet weights is not installed, or the one that
            reads the file.
    """
    backbone = get(name)
    _check_inputs(backbone, inputs)
    _checks.integer("seed", seed, 0)
    path = check_weights(name, weights)
    with _python_random_kept():
        source = _source(backbone, inputs.shape[1:3], pretrained=weights == "imagenet")
        planted = replant(backbone, source, preprocess(inputs, backbone.scale), seed)
    layers = [one.layer for one in planted]
    if path is not None:
        paths = {one.layer.name: one.path for one in planted}
        _assign(layers, weight_files.read(path, backbone, layers, paths))
    elif weights == "imagenet":
        _assign(layers, _imagenet(backbone, planted))
    return layers[-1].output


def check_weights(name: str, weights: str | PathLike[str] | None) -> Path | None:
    """The path of a weights file, or None; what is known to be missing is refused before work.

    Raises:
        ValueError, TypeError: `weights` is not as `build` asks for.
        ImportError: as of `build`.
    """
    path = weight_files.check(weights)
    origin = get(name).origin
    if weights == "imagenet" and origin == "file":
        rule = f"None or the path of a .safetensors file of torchvision or timm for {name}"
        raise _checks.fail("weights", rule, weights)
    if weights == "imagenet" and origin == "package":
        origins.package_file(name)
    return path


def _check_inputs(backbone: Backbone, inputs: Any) -> None:
    _checks.instance("inputs", inputs, keras.KerasTensor, "a Keras tensor, as of keras.Input")
    # Preprocessing, taps and pooling take the last axis for the channels.
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("keras.config.image_data_format() must be 'channels_last'")
    shape = tuple(inputs.shape)
    low = backbone.min_size
    fits = len(shape) == 4 and shape[3] == 3
    # An unknown side passes: only an image will tell.
    if not fits or any(size is not None and size < low for size in shape[1:3]):
        rule = f"of shape (B, H, W, 3) with H and W >= {low} for {backbone.name}"
        raise _checks.fail("inputs", rule, shape)


@contextmanager
def _python_random_kept() -> Iterator[None]:
    """Keras draws default seeds from Python's generator: put its state back afterwards."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _source(
    backbone: Backbone, sides: tuple[int | None, int | None], pretrained: bool
) -> keras.Model:
    """The network as its authors build it, on an input of its own of these sides.

    Its variables have values only if it is pretrained, as those of the copy are other ones. Some
    pad by whether a map has an even number of rows, so that the sides matter.
    """
    if backbone.architecture is None:
        with private.without_values():
            return _OWN[backbone.family](backbone.name)
    construct = getattr(keras.applications, backbone.architecture)
    shape = (*(side or backbone.image_size for side in sides), 3)
    if not pretrained:
        with private.without_values():
            return construct(include_top=False, weights=None, input_shape=shape)
    try:
        with warnings.catch_warnings():
            # MobileNetV2 says of all but five sizes that its weights are those of 224 px.
            warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
            return construct(include_top=False, weights="imagenet", input_shape=shape)
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        raise OSError(
            f"the ImageNet weights of {backbone.name} could not be fetched ({error}). Put the "
            f"file {backbone.weights_file} into {origins.keras_models()}, or give its path as "
            "weights=PATH, or use the backbone efficientnet_lite0, whose weights need no download"
        ) from error


def _imagenet(backbone: Backbone, planted: list[Planted]) -> Arrays:
    if backbone.origin == "package":
        return efficientnet_lite.imagenet_weights(backbone.name)
    return {one.layer.name: one.original.get_weights() for one in planted if one.layer.weights}


def _assign(layers: list[Any], arrays: Arrays) -> None:
    """Set the weights of every layer; `arrays` has an entry for each that has weights."""
    for layer in layers:
        if layer.weights:
            layer.set_weights(arrays[layer.name])
