"""A `.keras` file of somebody else's, read on explicit request and only as data."""

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

from tltoolkit import _checks
from tltoolkit.artifacts import verified
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.terms import FOREIGN
from tltoolkit.augment import Preparation
from tltoolkit.augment.preparation import agreed
from tltoolkit.evaluation import Decision
from tltoolkit.files import reading
from tltoolkit.layers import private
from tltoolkit.model.classifier import note_preparation

# Keras layers that hold code or run a graph from elsewhere.
CODE = ("Lambda", "__lambda__", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper")
# Two low-rank arrays beside each stored one are not larger than that, if their rank is one.
UNSTORED = 3
# Numbers that random layers and counters hold besides.
ROOM = 2**20
# What Keras says, somewhere in a long text, of a name that it does not know.
_UNKNOWN = re.compile(r"Could not locate (class|function) '([^']+)'")
_DAMAGE = (*verified.DAMAGE, zipfile.BadZipFile, EOFError, AttributeError, RecursionError)


def load(
    path: str | Path,
    class_names: Sequence[str],
    multi_label: bool = False,
    *,
    from_logits: bool | str = "auto",
    fit: str | None = None,
    normalise: Any = None,
) -> Predictor:
    """Read a classifier that Keras saved, such as `model.keras` of a run with your own model.

    Its layers must be Keras' own, or registered by code that you have imported
    (`keras.saving.register_keras_serializable`). The sizes of all parts are compared with one
    another before anything is read, whatever `keras.config.enable_unsafe_deserialization` says.

    Args:
        path: A local `.keras` file.
        class_names: Names of the C classes in the order of the model's scores.
        multi_label: Whether an image may have several labels.
        from_logits: Whether the model's outputs are logits; `"auto"` tells as `tl.evaluate` does.
        fit: How the model's images become square, as in `build_classifier`; None is what
            `fine_tune` noted in the file, or else `"squash"`.
        normalise: What is done to their pixels before, as in `build_classifier`; None likewise.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A link, a layer with code in it or that nobody registered, sizes that do not
            fit, a model of another form than from one image to one row of scores, or another
            `fit` or `normalise` than it was trained with.
    """
    _checks.arguments(FOREIGN, locals())
    # Before the file is opened: wrong arguments need no reading.
    asked = Preparation(fit=fit, normalise=normalise)
    source = reading.local(path)
    if source.suffix != ".keras":
        raise _checks.fail("path", "a .keras file", str(path))
    # Keras would follow a link, and read a file of any size.
    reading.regular(source)
    try:
        with zipfile.ZipFile(source) as archive:
            reading.check_archive(archive)
            config = reading.parse_json(archive.read("config.json"), "config.json")
            _check_code(config)
            noted = verified.preparation(archive)
            with archive.open("model.weights.h5") as member, h5py.File(member) as file:
                stored = [array.shape for array in _model_arrays(file)]
        # Around both: the first look builds the model as well, though without values.
        with private.safe_mode():
            verified.compare_shapes(_stored_by(config), stored)
            model = keras.saving.load_model(source, compile=False, safe_mode=True)
    except _DAMAGE as error:
        raise ValueError(f"{source} is not loaded: {_reason(error)}") from error
    # Only now, as values exist only after loading.
    verified.check_finite(model, source)
    rule = "left out or {}={!r}, what it was trained with"
    note_preparation(model, agreed(noted, asked, "fit, normalise", rule))
    predictor = Predictor(
        model=model,
        class_names=tuple(class_names),
        decision=Decision(multi_label=multi_label),
        from_logits=from_logits,
    )
    # At once: a number of classes that does not fit is wrong for every image.
    _ = predictor.engine
    return predictor


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if unknown := _UNKNOWN.search(text):
        return (
            f"it needs the {unknown[1]} {unknown[2]!r}, which is not Keras' own and which no "
            "imported code has registered (keras.saving.register_keras_serializable)"
        )
    # Keras puts the reason last, behind all that it could not build for it.
    return text.split("Exception encountered: ")[-1].split("\n")[0]


def _check_code(config: Any) -> None:
    """Raise ValueError if a configuration names code that is neither Keras' nor registered."""
    for node in _mappings(config):
        name, module = node.get("class_name"), node.get("module")
        registered = node.get("registered_name")
        # Keras puts module and name together, so that either may hold a part of the other.
        called = {re.split(r"[.>]", str(part))[-1] for part in (name, registered)}
        if found := called.intersection(CODE):
            raise ValueError(f"it has a {found.pop()} layer, which is code")
        ours = registered is not None and keras.saving.get_registered_object(registered)
        if module is not None and not _of_keras(module) and not ours:
            raise ValueError(f"it names {module}.{name}, which is neither Keras' nor registered")


def _of_keras(module: Any) -> bool:
    return isinstance(module, str) and (
        module in ("keras", "builtins") or module.startswith("keras.")
    )


def _mappings(config: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in plain data, however deep."""
    # A list of our own: a file may nest deeper than Python can call.
    left = [config]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield item
            left += item.values()
        elif isinstance(item, list):
            left += item


def _model_arrays(file: h5py.File) -> Iterator[h5py.Dataset]:
    # A compiled model's optimizer lies beside its layers, and is not loaded.
    for name, array in reading.arrays(file).items():
        if not name.startswith("optimizer/"):
            yield array


def _stored_by(config: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes that Keras stores of the model of a configuration, which gets no values."""
    try:
        # Within a graph the values that a layer merges are symbols.
        with tf.Graph().as_default(), keras.StatelessScope(initialize_variables=False):
            model = keras.saving.deserialize_keras_object(
                {**config, "compile_config": None}, safe_mode=True
            )
            shapes = private.stored_shapes(model)
        held, stored = (
            sum(map(math.prod, of)) for of in ([v.shape for v in model.variables], shapes)
        )
        if held > UNSTORED * stored + ROOM:
            raise ValueError(f"its variables take {held} numbers, of which {stored} are stored")
        return shapes
    finally:
        private.forget_variables_without_values()
