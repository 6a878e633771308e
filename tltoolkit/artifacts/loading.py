"""Loading a classifier of any form; an exported file needs neither TensorFlow nor Keras."""

import os
from pathlib import Path

from tltoolkit import _checks
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.files import reading
from tltoolkit.runtimes import opening


def load(directory: str | Path) -> Predictor:
    """Read a classifier that `tl.save`, `tl.fine_tune(run_dir=...)` or `tl.export` wrote.

    A model is built again from its settings, then takes the weights; no code is read, no link
    followed, and what does not fit is refused before room is made for it. An exported file
    (`.onnx`, `.tflite`, the `.xml` of OpenVINO) is computed by the runtime of its format, without
    TensorFlow and Keras; a SavedModel, the folder, by TensorFlow.

    Args:
        directory: Of the classifier, or the path of an exported file.

    Raises:
        FileNotFoundError: There is no classifier, or a file of it is missing.
        ValueError: A file was changed or does not fit, or `directory` is a model of another
            origin; the message names the file.
        ImportError: The runtime of an exported file is not installed.
    """
    rule = "the path of a saved classifier or an exported file"
    _checks.instance("directory", directory, (str, os.PathLike), rule)
    source = reading.local(directory)
    if opening.format_of(source) is not None:
        return of_file(source)
    # Here: it builds the model, in Keras.
    from tltoolkit.artifacts import artifact

    return artifact.load(source)


def of_file(path: Path, threads: int | None = None) -> Predictor:
    """The predictor of an exported file; arguments and errors are those of `opening.opened`."""
    made = opening.opened(path, threads)
    card = made.settings
    return Predictor(model=made, class_names=card.class_names, decision=card.decision)
