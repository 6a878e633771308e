"""Opening an exported file: told by its name, its digest checked before it is parsed."""

from pathlib import Path

from tltoolkit.files import reading
from tltoolkit.runtimes import seal, sessions
from tltoolkit.runtimes.card import KEY, Card
from tltoolkit.runtimes.exported import Exported

# Format -> how the name of its file ends; a SavedModel is a folder.
SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml", "saved_model": ""}
# The weights beside an OpenVINO .xml.
BIN = ".bin"
GRAPH = "saved_model.pb"
# Where a SavedModel keeps what is not TensorFlow's.
CARD = Path("assets.extra", "tltoolkit.json")


def format_of(path: Path) -> str | None:
    """The format of an exported file, or of the file that a name is for; None for any other."""
    for format, suffix in SUFFIXES.items():
        if suffix and path.suffix.lower() == suffix:
            return format
    return "saved_model" if (path / GRAPH).is_file() else None


def opened(path: Path, threads: int | None = None) -> Exported:
    """The classifier in an exported file.

    Args:
        path: Of the file, or the folder of a SavedModel.
        threads: To compute with; None takes all cores. TensorFlow has its own settings.

    Raises:
        FileNotFoundError: There is none, or a part of it is missing.
        ValueError: Another tool's file, or one that was changed.
        ImportError: The package that runs it is not installed.
    """
    text, compute = _read(path, threads)
    if text is None:
        raise _foreign(path)
    try:
        return Exported(path=path, settings=Card.from_text(text), compute=compute)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: Path, threads: int | None) -> sessions.Opened:
    kind = format_of(path)
    if kind == "onnx":
        return sessions.onnx(_whole(path)[0], threads)
    if kind == "litert":
        return sessions.litert(_whole(path)[0], threads)
    if kind == "openvino":
        content, weights = _whole(path, path.with_suffix(BIN))
        return sessions.openvino(content, weights, threads)
    # The card first: nothing is read by TensorFlow before all files are known to be the same.
    return _folder(path), sessions.saved_model(path)


def _whole(path: Path, *beside: Path) -> list[bytes]:
    """The contents of a sealed file and of those that were sealed with it."""
    contents = [reading.regular(one).read_bytes() for one in (path, *beside)]
    _check(path, *contents)
    return contents


def _folder(path: Path) -> bytes:
    """The card of a SavedModel, all of whose files are as they were."""
    if not (path / CARD).is_file():
        raise _foreign(path)
    text = reading.read(path / CARD)
    _check(path, text, *parts(path))
    return text


def parts(folder: Path) -> list[bytes]:
    """Names and contents of all files of a SavedModel but its card, in one order."""
    found = sorted(
        (file.relative_to(folder).as_posix(), file)
        for file in folder.rglob("*")
        if not file.is_dir() or file.is_symlink()
    )
    return [
        part
        for name, file in found
        if name != CARD.as_posix()
        for part in (name.encode(), reading.regular(file).read_bytes())
    ]


def _check(path: Path, content: bytes, *others: bytes) -> None:
    try:
        same = seal.intact(content, *others)
    except LookupError as error:
        raise _foreign(path) from error
    if not same:
        raise ValueError(f"{path} is not the file that was exported: its hash differs")


def _foreign(path: Path) -> ValueError:
    return ValueError(
        f"{path} was not written by tl.export: it has no {KEY} entry with the names of its classes"
    )
