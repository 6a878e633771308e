"""Take a backbone's weights out of a local file: arrays are read, nothing is run or built."""

import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tltoolkit import _checks
from tltoolkit.backbones import layouts, tensors
from tltoolkit.backbones.preprocessing import SCALES
from tltoolkit.backbones.row import Backbone
from tltoolkit.files import reading

_LOG = logging.getLogger(__name__)

# What a damaged file can raise on its way through zipfile, json and h5py.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def check(weights: str | PathLike[str] | None) -> Path | None:
    """The path of a weights file; None for "imagenet" and None, which need no file.

    Raises:
        TypeError: `weights` is neither None nor a string nor a path.
        ValueError: it is a path, but not of a local file that exists and has a known suffix.
        ImportError: the package that reads the file is not installed.
    """
    rule = (
        "'imagenet', None or the path of a .weights.h5, .h5, .keras or .safetensors file that "
        "exists"
    )
    if weights is None or weights == "imagenet":
        return None
    _checks.instance("weights", weights, (str, PathLike), rule)
    path = reading.local(weights)
    # Of `.weights.h5` this is the last part alone: it passes as `.h5`.
    if path.suffix not in (".h5", ".keras", tensors.SUFFIX) or not path.is_file():
        raise _checks.fail("weights", rule, str(weights))
    if path.suffix == tensors.SUFFIX:
        tensors.library()
    return path


def read(
    path: Path, backbone: Backbone, layers: list[Any], paths: Mapping[str, str] | None = None
) -> dict[str, list[np.ndarray]]:
    """Read the weights of every layer of a backbone, say how many were taken, and log which.

    Args:
        path: a `.keras` file of a model that has the backbone's layers among its own or
            inside one of them; an `.h5` file of the backbone's weights alone; or a
            `.safetensors` file, see `tensors.stored`.
        backbone: its row in the table.
        layers: its built layers, from the input up.
        paths: layer name -> where Keras 3 saves the layer in its own form of the network.

    Returns:
        Layer name -> arrays in the order of `layer.weights`.

    Raises:
        ValueError: the file is damaged, lacks a layer, has one too many, or a shape differs,
            or its images were normalised in another way.
    """
    wanted = [layer for layer in layers if layer.weights]
    try:
        with _stored(path, backbone, wanted, paths or {}) as stored:
            for extra in stored[len(wanted) :]:
                _check_normalisation(backbone, extra)
            del stored[len(wanted) :]
            # Within the block: what is stored are views of a file that is still open.
            arrays = {
                layer.name: _fitting(layer, part)
                for layer, part in zip(wanted, stored, strict=True)
            }
    # Before the damage, of which it is a case too, being a ValueError.
    except layouts.MisfitError as error:
        raise ValueError(f"`weights`: {backbone.name} cannot take {path}: {error}") from error
    except _DAMAGE as error:
        raise ValueError(
            f"`weights`: {backbone.name} cannot take {path}: it is damaged or of another kind "
            f"({type(error).__name__}: {error})"
        ) from error
    names = [part.name for part in stored]
    print(f"{backbone.name}: took {len(names)} layers from {path}, {names[0]} to {names[-1]}")
    # All names go to the log alone: a large network has hundreds.
    _LOG.info("taken from %s: %s", path, ", ".join(names))
    return arrays


@contextmanager
def _stored(
    path: Path, backbone: Backbone, wanted: list[Any], paths: Mapping[str, str]
) -> Iterator[list[layouts.Stored]]:
    """The wanted layers in a file, then what it says of the normalisation of images."""
    if path.suffix == tensors.SUFFIX:
        with tensors.opened(path) as arrays:
            yield tensors.stored(arrays, backbone, wanted)
        return
    with _open(path) as (file, model):
        if model is not None:
            yield layouts.from_model(model, layouts.variables_in(file), backbone, wanted)
        # The old format and the new one share a suffix; only these attributes tell them apart.
        elif "layer_names" in file.attrs or "model_config" in file.attrs:
            yield layouts.from_legacy(file, wanted)
        else:
            yield layouts.from_weights(layouts.variables_in(file), wanted, paths)


@contextmanager
def _open(path: Path) -> Iterator[tuple[h5py.File, Any]]:
    """The arrays in a file, and the configuration of the model if it holds a whole one."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            yield file, None
        return
    with zipfile.ZipFile(path) as archive:
        try:
            # Before any member is read, since one could unpack to more than the memory holds.
            reading.check_archive(archive)
        except ValueError as error:
            # As a misfit: a bare ValueError would be reported as damage.
            raise layouts.MisfitError(str(error)) from error
        model = json.loads(archive.read("config.json"))
        with archive.open("model.weights.h5") as member, h5py.File(member) as file:
            yield file, model


def _fitting(layer: Any, stored: layouts.Stored) -> list[np.ndarray]:
    """The arrays of a layer, refused before they are read if their shapes differ."""
    needed, given = layouts.shapes(layer.weights), layouts.shapes(stored.arrays)
    if needed != given:
        raise layouts.MisfitError(
            f"the layer {layer.name} needs the shapes {needed}, the file has {given} in "
            f"{stored.name}"
        )
    for array in stored.arrays:
        if array.dtype.kind != "f":
            raise layouts.MisfitError(f"the layer {stored.name} must hold plain arrays of floats")
    arrays = [np.asarray(array) for array in stored.arrays]
    # One NaN would make every output NaN, and nothing would point back to this file.
    if not all(np.isfinite(array).all() for array in arrays):
        raise layouts.MisfitError(f"the layer {stored.name} holds NaN or infinite values")
    return arrays


def _check_normalisation(backbone: Backbone, stored: layouts.Stored) -> None:
    """Refuse weights of a network whose images were not normalised as ours are.

    Keras' files hold the standard deviation where the variance belongs, and divide twice by its
    root; a network that somebody adapted holds the variance.
    """
    mean, variance = (np.asarray(array).ravel() for array in stored.arrays[:2])
    scale = SCALES[backbone.scale]
    deviation = 1 / (255 * np.asarray(scale.multiply))
    ours = -np.asarray(scale.add) * deviation
    spreads = (deviation, deviation**2)
    same = len(mean) == len(variance) == len(ours) and np.allclose(mean, ours, atol=1e-3)
    if not same or not any(np.allclose(variance, spread, atol=1e-3) for spread in spreads):
        raise layouts.MisfitError(
            f"the layer {stored.name} normalises by the mean {mean} and variance {variance}; "
            f"{backbone.name} is given images of mean {ours} and variance {deviation**2}"
        )
