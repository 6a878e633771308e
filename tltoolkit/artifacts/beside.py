"""Arrays beside the weights of an artifact: how familiar images are, and sums to solve on again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tltoolkit.artifacts import verified
from tltoolkit.files import reading, writing
from tltoolkit.files.claiming import OURS
from tltoolkit.model import freezing
from tltoolkit.model.classifier import blocks, settings_of
from tltoolkit.solving.familiarity import Familiarity
from tltoolkit.solving.statistics import Statistics

FAMILIARITY, STATISTICS = "familiarity.h5", "statistics.h5"
# The entry of a manifest with the hashes of what not every artifact has.
ENTRY = "beside_sha256"
# File -> the attribute of a model in which training notes it.
NOTES = {FAMILIARITY: "tltoolkit_familiarity", STATISTICS: "tltoolkit_statistics"}


def copy(source: Any, target: Any) -> None:
    """Note on a model what is noted on another one with its weights."""
    for note in NOTES.values():
        setattr(target, note, getattr(source, note, None))


def size(model: Any) -> int:
    """Bytes of what is noted of a model."""
    noted = [found for note in NOTES.values() if (found := getattr(model, note, None)) is not None]
    return sum(array.nbytes for one in noted for array in one.arrays().values())


def write(model: Any, directory: Path, statistics: bool = True) -> dict[str, str]:
    """Write what is noted of a model; name -> SHA-256 of each file.

    Args:
        model: A classifier of ours.
        directory: Where to.
        statistics: Whether the sums are written, too.
    """
    names = NOTES if statistics else {FAMILIARITY: NOTES[FAMILIARITY]}
    found = {name: getattr(model, note, None) for name, note in names.items()}
    written = {name: noted for name, noted in found.items() if noted is not None}
    for name, noted in written.items():
        _write(directory / name, noted.arrays())
    return {name: verified.sha256(directory / name) for name in written}


def note(model: Any, manifest: Path) -> None:
    """Note on a model what lies beside its weights, as its manifest says.

    Raises:
        FileNotFoundError, ValueError: A file is missing, was changed or does not fit the model.
    """
    hashes = reading.parse_json(reading.read(manifest), manifest).get(ENTRY, {})
    if not isinstance(hashes, dict) or not set(hashes) <= set(NOTES):
        raise ValueError(f"{manifest}: {ENTRY} must have hashes of {', '.join(NOTES)} at most")
    # All hashes before any content is parsed.
    paths = {name: verified.same(manifest.parent / name, h) for name, h in hashes.items()}
    for name, path in paths.items():
        try:
            setattr(model, NOTES[name], _READ[name](_arrays(path), model))
        except verified.DAMAGE as error:
            raise ValueError(f"{path} does not fit the classifier beside it: {error}") from error


def _familiarity(arrays: Mapping[str, np.ndarray], model: Any) -> Familiarity:
    return Familiarity.of_arrays(arrays, _width(model))


def _statistics(arrays: Mapping[str, np.ndarray], model: Any) -> Statistics:
    classes = len(settings_of(model).class_names)
    return Statistics.of_arrays(arrays, _width(model), classes)


def _width(model: Any) -> int:
    tensor = freezing.head_input(model, blocks(model))
    if tensor is None:
        raise ValueError("its head reads no row of features")
    return int(tensor.shape[1])


_READ = {FAMILIARITY: _familiarity, STATISTICS: _statistics}


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with writing.replacing(path, OURS[path.name]) as beside, h5py.File(beside, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: np.asarray(array) for name, array in reading.arrays(file).items()}
