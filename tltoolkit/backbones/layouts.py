"""Where the layers of a backbone lie in each kind of file that Keras writes."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import h5py

from tltoolkit.backbones.row import Backbone
from tltoolkit.files import reading

# The layer inside EfficientNet that we replace; its figures are compared with ours.
NORMALISATION = "layers/normalization"


class MisfitError(ValueError):
    """The file can be read, but it is not of this backbone."""


class Stored(NamedTuple):
    """A layer in a file: its name there, the name of its class if known, its weights."""

    name: str
    kind: str
    arrays: list[h5py.Dataset]


def variables_in(file: h5py.File) -> dict[str, list[h5py.Dataset]]:
    """Path of each layer in a file of Keras 3 -> its weights in order."""
    found: dict[str, list[h5py.Dataset]] = {}
    for path, dataset in arrays_in(file).items():  # HDF5 sorts them by name
        layer, _, _ = path.rpartition("/vars/")
        found.setdefault(layer, []).append(dataset)
    return found


def arrays_in(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Path -> array, of a file that points at no other."""
    try:
        return reading.arrays(file)
    except ValueError as error:
        raise MisfitError(str(error)) from error


def from_weights(
    variables: Mapping[str, list[h5py.Dataset]], wanted: list[Any], paths: Mapping[str, str]
) -> list[Stored]:
    """`model.save_weights` of Keras 3: a layer is known by its class and its turn.

    The model may be a flat one of ours, or Keras' own, some of whose layers are in a Sequential.
    """
    own = dict(zip([x.name for x in wanted], _paths(type(x).__name__ for x in wanted), strict=True))
    theirs = any(path in variables and "/layers/" in path for path in paths.values())
    places = {layer.name: (paths if theirs else own)[layer.name] for layer in wanted}
    for layer, path in places.items():
        if path not in variables:
            raise MisfitError(f"it has no {path}, which is the layer {layer}")
    # A compiled model also saves its optimizer, beside its layers, and Dropout its seed.
    rest = {path for path in variables if not path.endswith("/seed_generator")}
    extra = sorted(p for p in rest - set(places.values()) if p.startswith("layers/"))
    extra = [path for path in extra if path != NORMALISATION]
    if extra:
        raise MisfitError(
            f"it has {len(extra)} layers too many, among them {extra[0]}; if that is a head, "
            "save the backbone's weights alone or give the whole model as a .keras file"
        )
    found = [Stored(path, "", variables[path]) for path in places.values()]
    return [*found, *_normalisations(variables)]


def _normalisations(variables: Mapping[str, list[h5py.Dataset]]) -> list[Stored]:
    if NORMALISATION not in variables:
        return []
    return [Stored(NORMALISATION, "Normalization", variables[NORMALISATION])]


def _paths(kinds: Iterable[str]) -> list[str]:
    """Where Keras 3 puts layers of these classes: layers/conv2d, layers/conv2d_1, ..."""
    counts: Counter[str] = Counter()
    paths = []
    for kind in map(snake, kinds):
        paths.append(f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}")
        counts[kind] += 1
    return paths


def snake(kind: str) -> str:
    """What Keras calls layers of a class that have no name: conv2d for Conv2D."""
    # Keras' own rule, which has no public form: `to_snake_case` in its utilities (3.15.1).
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()


def paths_of(model: Any, inside: str = "") -> dict[str, str]:
    """Name of each layer of a model -> where Keras 3 saves its weights, also in a Sequential."""
    found = {}
    paths = _paths(type(layer).__name__ for layer in model.layers)
    for layer, path in zip(model.layers, paths, strict=True):
        found[layer.name] = inside + path
        if hasattr(layer, "layers"):
            found |= paths_of(layer, f"{inside}{path}/")
    return found


def from_legacy(file: h5py.File, wanted: list[Any]) -> list[Stored]:
    """Weights as older Keras saved them, and as it offers them for download: by turn.

    A Sequential has the weights of all its layers in a row.
    """
    if "model_config" in file.attrs:
        raise MisfitError(
            "it holds a whole model in the old .h5 format; save that as a .keras file, or "
            "its weights as a .weights.h5 file"
        )
    datasets = arrays_in(file)
    stored, extra = [], []
    turn = iter(wanted)
    for layer in _texts(file.attrs["layer_names"]):
        names = _texts(file[layer].attrs["weight_names"])
        rest = [datasets[f"{layer}/{name}"] for name in names]
        if re.fullmatch(r"normalization(_\d+)?", layer) and rest:
            extra.append(Stored(layer, "Normalization", rest))
            continue
        while rest:
            count = len(getattr(next(turn, None), "weights", rest))
            stored.append(Stored(layer, "", rest[:count]))
            rest = rest[count:]
    if len(stored) != len(wanted):
        raise MisfitError(f"it has {len(stored)} layers with weights, not {len(wanted)}")
    return [*stored, *extra]


def _texts(values: Iterable[str | bytes]) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def from_model(
    model: Any,
    variables: Mapping[str, list[h5py.Dataset]],
    backbone: Backbone,
    wanted: list[Any],
) -> list[Stored]:
    """A whole model: a layer is known by its name, within the part that fits best."""
    parts = list(_parts(model, variables))
    fits = [_fit(part, backbone, wanted) for part in parts]
    # Of parts with as many matches the one with fewer layers too many: the smaller network.
    best = max(range(len(fits)), key=lambda i: (len(fits[i][0]), -len(fits[i][1])))
    found, strangers = fits[best]
    missing = [layer.name for layer in wanted if layer.name not in found]
    if missing:
        raise MisfitError(
            f"it has {len(found)} of the {len(wanted)} layers, the first without a match is "
            f"{missing[0]}"
        )
    # A deeper network of the family holds all layers of this one, and would lose its upper ones.
    if strangers:
        raise MisfitError(f"it has a layer {strangers[0]}, which this backbone does not have")
    normalisations = [stored for stored in parts[best] if stored.kind == "Normalization"]
    return [*(found[layer.name] for layer in wanted), *normalisations]


def _parts(
    model: Any, variables: Mapping[str, list[h5py.Dataset]], inside: str = ""
) -> Iterator[list[Stored]]:
    """The layers with weights of a model, then those of each model nested in it."""
    yield list(_layers(model, variables, inside))
    for layer, path in _placed(model, inside):
        if "layers" in layer["config"]:
            yield from _parts(layer, variables, f"{path}/")


def _placed(model: Any, inside: str) -> list[tuple[Any, str]]:
    # A layer that is no model has none, which ends the descent.
    layers = model["config"].get("layers", [])
    paths = _paths(layer["class_name"] for layer in layers)
    return [(layer, inside + path) for layer, path in zip(layers, paths, strict=True)]


def _layers(
    model: Any, variables: Mapping[str, list[h5py.Dataset]], inside: str
) -> Iterator[Stored]:
    """The layers with weights of a model, and of each Sequential among them."""
    for layer, path in _placed(model, inside):
        if path in variables:
            yield Stored(layer["config"]["name"], layer["class_name"], variables[path])
        elif layer["class_name"] == "Sequential":
            yield from _layers(layer, variables, f"{path}/")


def _fit(
    part: list[Stored], backbone: Backbone, wanted: list[Any]
) -> tuple[dict[str, Stored], list[str]]:
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


def _numbered(layer: Any, backbone: Backbone, spare: Iterable[Stored]) -> Stored | None:
    """The first layer that fits among those that Keras named by itself and we renamed."""
    kind = snake(type(layer).__name__)
    ours = any(layer.name in names for names in backbone.renamed.values())
    if not ours and not re.fullmatch(rf"\w+_{kind}_\d+", layer.name):
        return None
    for stored in spare:
        # In order and by shape: the numbers depend on what else its process had built.
        same = re.fullmatch(rf"{kind}(_\d+)?", stored.name)
        if same and shapes(stored.arrays) == shapes(layer.weights):
            return stored
    return None


def shapes(arrays: Iterable[Any]) -> list[tuple[int, ...]]:
    """The shape of each array."""
    return [tuple(array.shape) for array in arrays]
