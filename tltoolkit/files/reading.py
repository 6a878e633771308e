"""Reading files that somebody else may have made: form, size and links come before contents."""

import dataclasses
import functools
import json
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

DEEPEST = 40  # levels of YAML; a composition of transforms within another takes four
# Bytes of a file of weights, and of settings, that are read at all.
LIMIT, TEXT_LIMIT = 8 * 2**30, 64 * 2**20
# What tltoolkit knows of a user's own model, beside what Keras writes.
BESIDE = "tltoolkit.json"
MEMBERS = (BESIDE, "metadata.json", "config.json", "model.weights.h5")
# They are stored as they are; only its short JSON may shrink.
EXPANSION = 100
# Bytes that anything may claim in any case: what is small may shrink by a larger factor.
_ROOM = 2**20
# A number with an exponent but without a point or a sign, which PyYAML takes for text.
_EXPONENT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
# Two letters or more, since C:/ is a drive.
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local(path: str | os.PathLike[str]) -> Path:
    """The path, unless it names something on another machine.

    Raises:
        ValueError: A remote name, such as `s3://...`.
    """
    if _REMOTE.match(os.fspath(path)):
        raise ValueError(f"{os.fspath(path)} is a remote name; fetch it and give the local path")
    return Path(path)


def regular(path: Path, limit: int = LIMIT) -> Path:
    """The path of a plain file of at most `limit` bytes.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is a link, a folder, a device or larger.
    """
    try:
        # Not `stat`: a link must be seen as one.
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} does not exist") from error
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise ValueError(f"{path} is a symbolic link; a plain file must be in its place")
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ValueError(f"{path} is {kind}; a plain file must be in its place")
    if status.st_size > limit:
        raise ValueError(f"{path} has {status.st_size} bytes; at most {limit} are read")
    return path


def read(path: Path) -> bytes:
    """The content of a plain file of at most `TEXT_LIMIT` bytes; errors as those of `regular`."""
    return regular(path, TEXT_LIMIT).read_bytes()


def parse_json(content: bytes, name: str | Path) -> dict[str, Any]:
    """The mapping in JSON text.

    Raises:
        ValueError: Other content; it begins with `name`.
    """
    try:
        values = json.loads(content)
    # Python's parser calls itself for each level (3.11).
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} must hold a mapping, not a {type(values).__name__}")
    return values


def fields(cls: Any, values: Any, name: str) -> dict[str, Any]:
    """The values of a dataclass's fields: none unknown, and each there that has no default.

    Raises:
        ValueError: Something else; it names the field.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"`{name}` must be a mapping, not a {type(values).__name__}")
    known = {f.name: f for f in dataclasses.fields(cls)}
    needed = {
        name
        for name, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    for problem, found in (
        ("unknown", set(values) - set(known)),
        ("missing", needed - set(values)),
    ):
        if found:
            names = ", ".join(sorted(map(str, found)))
            raise ValueError(f"`{name}` has {problem} entries: {names}")
    return dict(values)


def plain_yaml(text: str, name: str | Path = "`text`") -> Any:
    """The plain data in YAML text: no tags that make objects, nothing that grows when read.

    Raises:
        ValueError: Other content; it begins with `name`.
    """
    import yaml

    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
                raise ValueError(
                    f"{name} must be YAML without references and at most {DEEPEST} levels deep"
                )
        return yaml.load(text, Loader=_dialect(yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{name} must be plain YAML: {' '.join(str(error).split())}") from error


def yaml_text(data: Any) -> str:
    """Plain data as the YAML text that `plain_yaml` reads as the same."""
    import yaml

    return str(yaml.dump(data, Dumper=_dialect(yaml.SafeDumper), sort_keys=False))


@functools.cache
def _dialect(base: Any) -> Any:
    """A YAML loader or dumper of PyYAML to which 1e-3 is a number.

    PyYAML 6 follows YAML 1.1, where a number must have a point before and a sign in its exponent.
    """
    own: Any = type("Own", (base,), {})
    own.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    return own


def check_archive(archive: zipfile.ZipFile) -> None:
    """Look at what the members of a `.keras` file would take, before any of them is read.

    Raises:
        ValueError: A member that neither Keras nor this package writes, a text larger than
            `TEXT_LIMIT`, or one that hardly takes any room in the file for what it says that it
            holds.
    """
    for member in archive.infolist():
        if member.filename not in MEMBERS:
            raise ValueError(f"it has a member {member.filename!r} besides {', '.join(MEMBERS)}")
        limit = EXPANSION * member.compress_size + _ROOM
        if member.filename != MEMBERS[-1]:
            limit = min(limit, TEXT_LIMIT)
        if member.file_size > limit:
            raise ValueError(
                f"{member.filename} takes {member.compress_size} bytes and says that it holds "
                f"{member.file_size}"
            )


def arrays(file: "h5py.File") -> dict[str, "h5py.Dataset"]:
    """Name -> array of every array of numbers in an HDF5 file; nothing is read yet.

    Raises:
        ValueError: A link, or an array that lies outside the file, is put together from others,
            holds something else than numbers or is smaller in the file than its shape says.
    """
    import h5py

    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: "h5py.Group | h5py.Dataset") -> None:
        if isinstance(item, h5py.Group):
            _refuse_links(item, name)
        elif isinstance(item, h5py.Dataset):
            _refuse_tricks(item, name)
            found[name] = item

    _refuse_links(file, "/")
    file.visititems(visit)
    return found


def _refuse_links(group: "h5py.Group", name: str) -> None:
    import h5py

    for key in group:
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{name}/{key} is a link, which is not followed")


def _refuse_tricks(array: "h5py.Dataset", name: str) -> None:
    if array.external or array.is_virtual:
        raise ValueError(f"{name} lies outside the file")
    if array.dtype.kind not in "fiu" or array.shape is None:
        raise ValueError(f"{name} holds {array.dtype}, not numbers")
    stored = array.id.get_storage_size()
    if array.nbytes > EXPANSION * stored + _ROOM:
        # Reading makes room for all that the shape says, stored or not.
        raise ValueError(f"{name} takes {stored} bytes and says that it holds {array.nbytes}")
