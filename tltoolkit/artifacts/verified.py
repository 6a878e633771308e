"""The files of an artifact, believed only as far as they were checked."""

import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tltoolkit.augment import Preparation
from tltoolkit.data.seen import Seen
from tltoolkit.evaluation import Decision
from tltoolkit.files import reading
from tltoolkit.model.classifier import build
from tltoolkit.model.settings import Settings

# What a file of plain data can raise where a value is of another type than it should be.
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
DAMAGE = (OSError, ValueError, TypeError, LookupError, RuntimeError)
# Keras saves no random states; every load starts from the seeds of the settings.
UNSAVED = "seed_generator_state"
# The entry of a manifest with the hashes of the record of images, which not every artifact has.
SEEN = "seen_sha256"


def manifest(path: Path, version: int, parts: Sequence[str]) -> dict[str, str]:
    """Name -> SHA-256 of each of `parts`, as a manifest of this version says.

    Raises:
        ValueError: Another format, or other parts.
    """
    values = reading.parse_json(reading.read(path), path)
    if values.get("format") != version:
        raise ValueError(f"{path}: format must be {version}, not {values.get('format')!r}")
    hashes = values.get("sha256")
    if not isinstance(hashes, dict) or set(hashes) != set(parts):
        named = sorted(hashes) if isinstance(hashes, dict) else hashes
        raise ValueError(f"{path} must have hashes of {', '.join(parts)}, not of {named}")
    return hashes


def seen(path: Path) -> Seen | None:
    """The record of the images of a classifier, by its manifest; None where there is none.

    Raises:
        FileNotFoundError, ValueError: a file of it is missing, was changed or is of another form.
    """
    hashes = reading.parse_json(reading.read(path), path).get(SEEN)
    if hashes is None:
        return None
    if not isinstance(hashes, dict) or set(hashes) != set(Seen.FILES):
        raise ValueError(f"{path}: {SEEN} must have hashes of {', '.join(Seen.FILES)}")
    return Seen.read(path.parent, hashes)


def same(path: Path, expected: str) -> Path:
    """The path of a plain file of no absurd size, whose SHA-256 is the expected one.

    Raises:
        FileNotFoundError, ValueError: There is none, or it differs.
    """
    # A settings file of gigabytes is refused without hashing it.
    limit = reading.TEXT_LIMIT if path.suffix == ".json" else reading.LIMIT
    if sha256(reading.regular(path, limit)) != expected:
        raise ValueError(f"{path} is not the file that was saved: its hash differs")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings(path: Path) -> Settings:
    """The settings in a file; an unknown one or a wrong value is a ValueError that names it."""
    values = reading.parse_json(reading.read(path), path)
    try:
        return Settings.from_dict(values)
    except _MISFITS as error:
        raise ValueError(f"{path}: {error}") from error


def decision(path: Path, settings: Settings) -> Decision:
    """The decision in a file, which must be one for a classifier of these settings."""
    values = reading.parse_json(reading.read(path), path)
    try:
        found = Decision.from_dict(values)
    except _MISFITS as error:
        raise ValueError(f"{path} is not a decision: {type(error).__name__}: {error}") from error
    try:
        found.check(len(settings.class_names), settings.multi_label)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found


def write_preparation(path: Path, preparation: Preparation) -> None:
    """Let a `.keras` file say what images go through before its model takes them."""
    if (plain := preparation.to_dict()) is not None:
        # Appended: Keras passes over members that it does not know.
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(reading.BESIDE, json.dumps({"preparation": plain}))


def preparation(archive: zipfile.ZipFile) -> Preparation:
    """What a `.keras` file says of it; nothing where it is one of Keras' alone.

    Raises:
        ValueError: Other content than `write_preparation` writes.
    """
    if reading.BESIDE not in archive.namelist():
        return Preparation()
    values = reading.parse_json(archive.read(reading.BESIDE), reading.BESIDE)
    try:
        return Preparation.from_dict(values.get("preparation"))
    except _MISFITS as error:
        raise ValueError(f"{reading.BESIDE}: {error}") from error


def model(settings: Settings, weights: Path) -> Any:
    """The classifier of `settings` with the weights of a file, which must fit in every shape.

    Raises:
        ValueError: A damaged file, a variable too many, missing or of another shape; a class
            count or layer size that is not the settings'; NaN or infinite values.
    """
    try:
        with h5py.File(weights) as file:
            shapes = {name: array.shape for name, array in reading.arrays(file).items()}
            # Before `build`: sizes come from a file, and a layer of billions would be made.
            _check_units(settings, shapes)
            made = build(settings, weights=None)
            check_shapes(made.variables, shapes.values())
        made.load_weights(weights)
    except DAMAGE as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{weights} does not fit the settings beside it: {first}") from error
    check_finite(made, weights)
    return made


def check_shapes(variables: Sequence[Any], stored: Any) -> None:
    """Raise ValueError unless the shapes are those of the variables, each as often."""
    compare_shapes([v.shape for v in variables if v.name != UNSAVED], stored)


def compare_shapes(wanted: Iterable[Any], stored: Iterable[Any]) -> None:
    """Raise ValueError unless the same shapes are stored, each as often."""
    # As counts, since names differ where layers were named by Keras.
    needed, found = (Counter(map(tuple, shapes)) for shapes in (wanted, stored))
    if missing := list((needed - found).elements()):
        raise ValueError(f"{len(missing)} variables are missing, among them one of {missing[0]}")
    if extra := list((found - needed).elements()):
        raise ValueError(f"{len(extra)} variables are too many, among them one of {extra[0]}")


def check_finite(model: Any, path: Path) -> None:
    """Raise ValueError if a weight is NaN or infinite."""
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            raise ValueError(f"{path}: {variable.path} holds NaN or infinite values")


def _check_units(settings: Settings, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the sizes of dense layers before a model of the settings' sizes is built."""
    pattern = re.compile(r"layers/dense(?:_(\d+))?/vars/0")
    kernels = {
        int(found[1] or 0): shape
        for name, shape in shapes.items()
        if (found := pattern.fullmatch(name))
    }
    units = [kernels[number][-1] for number in sorted(kernels)]
    wanted = [*settings.head.hidden, len(settings.class_names)]
    if units != wanted:
        raise ValueError(f"its dense layers have {units} units, not {wanted}")
