"""From a classifier to the files of a format, in a folder of their own."""

import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.files import writing
from tltoolkit.runtimes import opening, seal
from tltoolkit.runtimes.card import Card

# Format -> what makes its files and what runs them, and the extra with both.
PACKAGES = {
    "litert": ("litert", ("ai_edge_litert",)),
    "onnx": ("onnx", ("onnx", "tf2onnx", "onnxruntime")),
    "openvino": ("openvino", ("openvino",)),
}


def check_packages(format: str) -> None:
    """Raise ImportError, which names the extra, unless what a format needs is installed."""
    extra, needed = PACKAGES.get(format, ("", ()))
    for name in needed:
        with _checks.extra(f"exporting to {format} needs {name}", extra):
            importlib.import_module(name)


def convert(
    model: Any, format: str, folder: Path, card: Card, images: np.ndarray | None = None
) -> Path:
    """The file, or for a SavedModel the folder, that was made in `folder`.

    Args:
        model: From pixels to probabilities.
        format: A format of `terms.FORMATS`.
        folder: An empty one, in which other files may be left.
        card: What the file says of the classifier.
        images: To calibrate int8 on, (N, S, S, 3) uint8.

    Raises:
        ValueError: The model cannot be converted.
    """
    made = folder / f"model{opening.SUFFIXES[format]}"
    try:
        contents = _contents(model, format, folder / f"first{made.suffix}", card, images)
    except ValueError:
        raise
    except Exception as error:  # whatever a converter may raise
        reason = " ".join(str(error).split())
        raise ValueError(f"the model cannot be written as {format}: {reason[:600]}") from error
    if format == "saved_model":
        made = folder / "first"
        text = seal.sealed(card.to_text().encode(), *opening.parts(made))
        (made / opening.CARD).parent.mkdir()
        (made / opening.CARD).write_bytes(text)
        return made
    names = (made, made.with_suffix(opening.BIN))
    for name, content in zip(names, (seal.sealed(*contents), *contents[1:]), strict=False):
        name.write_bytes(content)
    return made


def _contents(
    model: Any, format: str, path: Path, card: Card, images: np.ndarray | None
) -> tuple[bytes, ...]:
    # Here: each needs its own packages.
    if format == "litert":
        from tltoolkit.deploy import litert

        return (litert.write(model, path, card, images),)
    if format == "onnx":
        from tltoolkit.deploy import onnx_file

        return (onnx_file.write(model, path, card),)
    if format == "openvino":
        from tltoolkit.deploy import openvino_file

        return openvino_file.write(model, path, card)
    model.export(str(path), format="tf_saved_model", verbose=False)
    return ()


def place(made: Path, target: Path) -> None:
    """Put what was made where it shall stand, whole or not at all, over nothing."""
    if made.is_dir():
        with writing.new_folder(target) as beside:
            shutil.copytree(made, beside, dirs_exist_ok=True)
        return
    # The file that is loaded comes last: the other alone is nothing.
    for ending in (opening.BIN, made.suffix):
        if (source := made.with_suffix(ending)).is_file():
            with writing.replacing(target.with_suffix(ending)) as beside:
                shutil.copyfile(source, beside)
