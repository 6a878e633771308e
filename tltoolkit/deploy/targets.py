"""Where an export goes to, looked at before anything heavy is loaded."""

from pathlib import Path

from tltoolkit import _checks
from tltoolkit.deploy.terms import FORMATS
from tltoolkit.files import writing
from tltoolkit.runtimes import opening

# After the whole name of the file: what the comparison found.
BESIDE = ".json"


def checked(target: Path, format: str | None, quantize: str | None) -> str:
    """The format of a file that can be written, or of a folder.

    Args:
        target: Where to.
        format: As it was asked for; None tells by the end of the name.
        quantize: As it was asked for.

    Raises:
        ValueError: A name or a `quantize` that does not go with the format.
        FileNotFoundError: The folder is not there.
        FileExistsError: Something has one of the names.
        OSError: Nothing can be written there.
    """
    kind = _format(target, format)
    if quantize not in FORMATS[kind]:
        rule = f"one of {', '.join(map(repr, FORMATS[kind]))} for format={kind!r}"
        raise _checks.fail("quantize", rule, quantize)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist")
    weights = [target.with_suffix(opening.BIN)] if kind == "openvino" else []
    for one in (target, *weights, beside(target)):
        writing.free(one)
    writing.check_room(target.parent)
    return kind


def beside(target: Path) -> Path:
    """The file with what the comparison found."""
    return target.with_name(target.name + BESIDE)


def size_of(exported: Path) -> int:
    """Bytes of all files of an export."""
    if exported.is_dir():
        files = [file for file in exported.rglob("*") if file.is_file()]
    else:
        weights = exported.with_suffix(opening.BIN)
        files = [exported, weights] if opening.format_of(exported) == "openvino" else [exported]
    return sum(file.stat().st_size for file in files)


def _format(target: Path, format: str | None) -> str:
    found = next((f for f, s in opening.SUFFIXES.items() if s and s == target.suffix), None)
    kind = format or found or "litert"
    suffix = opening.SUFFIXES[kind]
    if target.suffix != suffix and (suffix or found):
        rule = f"a name that ends in {suffix}" if suffix else "the name of a new folder"
        raise _checks.fail("path", f"{rule} for format={kind!r}", str(target))
    return kind
