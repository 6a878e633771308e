"""Take a backbone's weights out of a local file: arrays are read, nothing is run or built."""

import json
import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tltoolkit import _checks
from tltoolkit.backbones.table import Backbone
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


class _MisfitError(ValueError):
    """The file can be read, but it is not of this backbone."""


class _Stored(NamedTuple):
    """A layer in a file: its name there, the name of its class, its weights."""

    name: str
    kind: str
    arrays: list[h5py.Dataset]


def check(weights: str | PathLike[str] | None) -> Path | None:
    """The path of a weights file; None for "imagenet" and None, which need no file.

    Raises:
        TypeError: `weights` is neither None nor a string nor a path.
        ValueError: it is a path, but not of a local file that exists and has a known suffix.
    """
    rule = "'imagenet', None or the path of a .weights.h5, .h5 or .keras file that exists"
    if weights is None or weights == "imagenet":
        return None
    _checks.instance("weights", weights, (str, PathLike), rule)
    path = reading.local(weights)
    # Of `.weights.h5` this is the last part alone: it passes as `.h5`.
    if path.suffix not in (".h5", ".keras") or not path.is_file():
        raise _checks.fail("weights", rule, str(weights))
    return path


def read(path: Path, backbone: Backbone, layers: list[Any]) -> dict[str, list[np.ndarray]]:
    """Read the weights of every layer of a backbone, say how many were taken, and log which.

    Args:
        path: a `.keras` file of a model that has the backbone's layers among its own or
            inside one of them; or an `.h5` file of the backbone's weights alone.
        backbone: its row in the table.
        layers: its built layers, from the input up.

    Returns:
        Layer name -> arrays in the order of `layer.weights`.

    Raises:
        ValueError: the file is damaged, lacks a layer, has one too many, or a shape differs.
    """
    wanted = [layer for layer in layers if layer.weights]
    try:
        with _open(path) as (file, model):
            if model is not None:
                stored = _from_model(model, _variables(file), backbone, wanted)
            # The old format and the new one share a suffix; only these attributes tell them apart.
            elif "layer_names" in file.attrs or "model_config" in file.attrs:
                stored = _from_legacy(file, wanted)
            else:
                stored = _from_weights(_variables(file), wanted)
            # Within the block: what is stored are views of a file that is still open.
            arrays = {
                layer.name: _fitting(layer, part)
                for layer, part in zip(wanted, stored, strict=True)
            }
    # Before the damage, of which it is a case too, being a ValueError.
    except _MisfitError as error:
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
            raise _MisfitError(str(error)) from error
        model = json.loads(archive.read("config.json"))
        with archive.open("model.weights.h5") as member, h5py.File(member) as file:
            yield file, model


def _variables(file: h5py.File) -> dict[str, list[h5py.Dataset]]:
    """Path of each layer in a file of Keras 3 -> its weights in order."""
    found: dict[str, list[h5py.Dataset]] = {}
    for path, dataset in _datasets(file).items():  # HDF5 sorts them by name
        layer, _, _ = path.rpartition("/vars/")
        found.setdefault(layer, []).append(dataset)
    return found


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    try:
        return reading.arrays(file)
    except ValueError as error:
        raise _MisfitError(str(error)) from error


def _from_weights(variables: Mapping[str, list[h5py.Dataset]], wanted: list[Any]) -> list[_Stored]:
    """`model.save_weights` of Keras 3: a layer is known by its class and its turn."""
    paths = _paths([type(layer).__name__ for layer in wanted])
    for layer, path in zip(wanted, paths, strict=True):
        if path not in variables:
            raise _MisfitError(f"it has no {path}, which is the layer {layer.name}")
    # A compiled model also saves its optimizer, beside its layers.
    extra = sorted(p for p in set(variables) - set(paths) if p.startswith("layers/"))
    if extra:
        raise _MisfitError(
            f"it has {len(extra)} layers too many, among them {extra[0]}; if that is a head, "
            "save the backbone's weights alone or give the whole model as a .keras file"
        )
    return [_Stored(path, "", variables[path]) for path in paths]


def _paths(kinds: Iterable[str]) -> list[str]:
    """Where Keras 3 puts layers of these classes: layers/conv2d, layers/conv2d_1, ..."""
    counts: Counter[str] = Counter()
    paths = []
    for kind in kinds:
        # Keras' own rule, which has no public form: `to_snake_case` in keras.src.utils (3.15.1).
        snake = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
        snake = re.sub("([a-z])([A-Z])", r"\1_\2", snake).lower()
        paths.append(f"layers/{snake}_{counts[snake]}" if counts[snake] else f"layers/{snake}")
        counts[snake] += 1
    return paths


def _from_legacy(file: h5py.File, wanted: list[Any]) -> list[_Stored]:
    """Weights as older Keras saved them, and as it offers them for download: by turn."""
    if "model_config" in file.attrs:
        raise _MisfitError(
            "it holds a whole model in the old .h5 format; save that as a .keras file, or "
            "its weights as a .weights.h5 file"
        )
    datasets = _datasets(file)
    stored = []
    for layer in _texts(file.attrs["layer_names"]):
        names = _texts(file[layer].attrs["weight_names"])
        # This format lists layers without weights too, which `wanted` leaves out.
        if names:
            stored.append(_Stored(layer, "", [datasets[f"{layer}/{name}"] for name in names]))
    if len(stored) != len(wanted):
        raise _MisfitError(f"it has {len(stored)} layers with weights, not {len(wanted)}")
    return stored


def _texts(values: Iterable[str | bytes]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _from_model(
    model: Any,
    variables: Mapping[str, list[h5py.Dataset]],
    backbone: Backbone,
    wanted: list[Any],
) -> list[_Stored]:
    """A whole model: a layer is known by its name, within the part that fits best."""
    fits = [_fit(part, backbone, wanted) for part in _parts(model, variables)]
    # Of parts with as many matches the one with fewer layers too many: the smaller network.
    found, strangers = max(fits, key=lambda fit: (len(fit[0]), -len(fit[1])))
    missing = [layer.name for layer in wanted if layer.name not in found]
    if missing:
        raise _MisfitError(
            f"it has {len(found)} of the {len(wanted)} layers, the first without a match is "
            f"{missing[0]}"
        )
    # A deeper network of the family holds all layers of this one, and would lose its upper ones.
    if strangers:
        raise _MisfitError(f"it has a layer {strangers[0]}, which this backbone does not have")
    return [found[layer.name] for layer in wanted]


def _parts(
    model: Any, variables: Mapping[str, list[h5py.Dataset]], inside: str = ""
) -> Iterator[list[_Stored]]:
    """The layers with weights of a model, then those of each model nested in it."""
    # A layer that is no model has none, which ends the descent.
    layers = model["config"].get("layers", [])
    paths = [inside + path for path in _paths(layer["class_name"] for layer in layers)]
    pairs = list(zip(layers, paths, strict=True))
    yield [
        _Stored(layer["config"]["name"], layer["class_name"], variables[path])
        for layer, path in pairs
        if path in variables
    ]
    for layer, path in pairs:
        yield from _parts(layer, variables, f"{path}/")


def _fit(
    part: list[_Stored], backbone: Backbone, wanted: list[Any]
) -> tuple[dict[str, _Stored], list[str]]:
    """Layer name -> its counterpart in a model; and the model's layers too many in the blocks."""
    found = {}
    spare = {stored.name: stored for stored in part}
    for layer in wanted:
        stored = spare.get(layer.name) or _numbered(layer, backbone, spare.values())
        if stored:
            # Taken out, so that no two layers get the same arrays.
            found[layer.name] = spare.pop(stored.name)
    kinds = {type(layer).__name__ for layer in wanted}
    spares = spare.values()
    return found, [s.name for s in spares if s.kind in kinds and backbone.block_of(s.name)]


def _numbered(layer: Any, backbone: Backbone, spare: Iterable[_Stored]) -> _Stored | None:
    """The first layer that fits among those that Keras named by itself and we renamed."""
    for prefix, names in backbone.renamed.items():
        # In order and by shape: the numbers depend on what else its process had built.
        for stored in spare:
            same = re.fullmatch(rf"{prefix}(_\d+)?", stored.name)
            if layer.name in names and same and _shapes(stored.arrays) == _shapes(layer.weights):
                return stored
    return None


def _shapes(arrays: Iterable[Any]) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in arrays]


def _fitting(layer: Any, stored: _Stored) -> list[np.ndarray]:
    """The arrays of a layer, refused before they are read if their shapes differ."""
    if _shapes(stored.arrays) != _shapes(layer.weights):
        raise _MisfitError(
            f"the layer {layer.name} needs the shapes {_shapes(layer.weights)}, the file has "
            f"{_shapes(stored.arrays)} in {stored.name}"
        )
    for array in stored.arrays:
        if array.dtype.kind != "f":
            raise _MisfitError(f"the layer {stored.name} must hold plain arrays of floats")
    arrays = [np.asarray(array) for array in stored.arrays]
    # One NaN would make every output NaN, and nothing would point back to this file.
    if not all(np.isfinite(array).all() for array in arrays):
        raise _MisfitError(f"the layer {stored.name} holds NaN or infinite values")
    return arrays
