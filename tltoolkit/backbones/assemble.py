"""Build a backbone into the caller's graph, with its weights."""

import os
import random
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks
from tltoolkit.backbones import efficientnet_lite, weight_files
from tltoolkit.backbones.preprocessing import preprocess
from tltoolkit.backbones.table import Backbone, get

Arrays = Mapping[str, list[np.ndarray]]


def build(
    name: str, inputs: Any, weights: str | PathLike[str] | None = "imagenet", seed: int = 0
) -> Any:
    """Put preprocessing and a backbone after an input, as layers of one flat graph.

    Args:
        name: a name of the table, see `names`.
        inputs: Keras tensor (B, H, W, 3) of raw RGB pixels, 0..255. H and W may be None.
        weights: "imagenet"; None for random weights; or the path of a `.weights.h5` or
            `.h5` file of this backbone's weights, or of a `.keras` file of a model that
            contains this backbone. No code is taken from the file.
        seed: what random weights depend on, beside the names of the layers.

    Returns:
        Keras tensor (B, h, w, C): the last feature map.

    Raises:
        ValueError: an argument is not as said, or the file's weights do not fit.
        TypeError: `inputs` is not a Keras tensor.
        OSError: Keras could not fetch the ImageNet weights.
        ImportError: the package with the ImageNet weights is not installed.
    """
    backbone = get(name)
    _check_inputs(backbone, inputs)
    _checks.integer("seed", seed, 0)
    path = check_weights(name, weights)
    with _python_random_kept():
        source = _source(backbone, pretrained=weights == "imagenet")
        layers = _replant(backbone, source, preprocess(inputs, backbone.scale), seed)
    if path is not None:
        _assign(layers, weight_files.read(path, backbone, layers))
    elif weights == "imagenet":
        _assign(layers, _imagenet(backbone, source, layers))
    return layers[-1].output


def check_weights(name: str, weights: str | PathLike[str] | None) -> Path | None:
    """The path of a weights file, or None; what is known to be missing is refused before work.

    Raises:
        ValueError, TypeError: `weights` is not as `build` asks for.
        ImportError: the package with the ImageNet weights is not installed.
    """
    path = weight_files.check(weights)
    if weights == "imagenet" and get(name).architecture is None:
        efficientnet_lite.weights_path(name)
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


def _source(backbone: Backbone, pretrained: bool) -> keras.Model:
    """The network as its authors build it, on an input of its own, without preprocessing."""
    if backbone.architecture is None:
        return efficientnet_lite.network(backbone.name)
    construct = getattr(keras.applications, backbone.architecture)
    # Of any size, since the layers are copied onto the caller's input in any case.
    shape = (None, None, 3)
    if not pretrained:
        return construct(include_top=False, weights=None, input_shape=shape)
    try:
        return construct(include_top=False, weights="imagenet", input_shape=shape)
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        # As Keras names it for every row of the table that has an architecture (3.15.1).
        file = f"{backbone.name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        raise OSError(
            f"the ImageNet weights of {backbone.name} could not be fetched ({error}). Put the "
            f"file {file} into {_keras_home() / 'models'}, or give its path as weights=PATH, or "
            "use the backbone efficientnet_lite0, whose weights need no download"
        ) from error


def _keras_home() -> Path:
    # Keras' own answer, `keras_home`, is not public (3.15.1).
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()


def _replant(backbone: Backbone, source: keras.Model, pixels: Any, seed: int) -> list[Any]:
    """Copy the layers of `source`, freshly initialised, to grow from `pixels`."""
    names = _fixed_names(backbone, [layer.name for layer in source.layers])
    # By identity, as a Keras tensor has no value to look it up by.
    grown = {id(source.input): pixels}
    # Keras lists layers from the input up, so that what one reads has been copied before it.
    copies = []
    for layer in source.layers[1:]:  # the first is the input
        feeds = keras.tree.map_structure(lambda tensor: grown[id(tensor)], layer.input)
        # A copy: the layers themselves hang on an input of their own, without preprocessing.
        copy = _copy(layer, names[layer.name], seed)
        grown[id(layer.output)] = copy(feeds)
        copies.append(copy)
    return copies


def _fixed_names(backbone: Backbone, names: list[str]) -> dict[str, str]:
    """Layer name -> a name that does not depend on what else the process has built."""
    fixed = {name: name for name in names}
    for prefix, targets in backbone.renamed.items():
        numbered = [name for name in names if re.fullmatch(rf"{prefix}(_\d+)?", name)]
        fixed |= dict(zip(numbered, targets, strict=True))
    return fixed


def _copy(layer: Any, name: str, seed: int) -> Any:
    """An unbuilt copy whose initialisers have seeds made of `seed` and its name."""
    config = layer.get_config() | {"name": name}
    for key, initializer in config.items():
        # By CRC: Python's own hash of a text differs from process to process.
        if key.endswith("_initializer") and "seed" in (initializer or {}).get("config", {}):
            initializer["config"]["seed"] = zlib.crc32(f"{seed}/{name}/{key}".encode())
    return type(layer).from_config(config)


def _imagenet(backbone: Backbone, source: keras.Model, layers: list[Any]) -> Arrays:
    if backbone.architecture is None:
        return efficientnet_lite.imagenet_weights(backbone.name)
    pairs = zip(layers, source.layers[1:], strict=True)
    return {layer.name: original.get_weights() for layer, original in pairs}


def _assign(layers: list[Any], arrays: Arrays) -> None:
    """Set the weights of every layer; `arrays` has an entry for each that has weights."""
    for layer in layers:
        if layer.weights:
            layer.set_weights(arrays[layer.name])
