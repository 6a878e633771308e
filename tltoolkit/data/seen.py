"""Which images a classifier was trained, validated and tested on, by their content."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tltoolkit.data.digests import digests
from tltoolkit.data.groups import as_bytes
from tltoolkit.data.images import ImageData
from tltoolkit.data.split import SPLITS, Split
from tltoolkit.files import reading

# Of the files; a reader refuses what it does not know.
FORMAT = 1
# How the data was made, and a row of 34 bytes for each image, and each group of images.
ORIGIN, IMAGES = "data.json", "images.npy"
# Beside the numbers of `SPLITS`.
NEW = -1
# NumPy drops zero bytes at the end of S32, but of both sides of a comparison.
_ROW = np.dtype([("digest", "S32"), ("split", "u1"), ("group", "?")])
# NumPy's header of these rows takes 192 bytes; a longer one is not ours.
_HEADER = 1024

Rows = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """The images of a run.

    Attributes:
        rows: (M,) sorted and different records of `digest` (the SHA-256 of an image's content, as
            `Source.digest` has it, or of the name of its group), `split` (0 train, 1 val, 2 test)
            and `group` (whether it is that of a group).
        files: whether all images were files, which can be recognised in another folder.
        origin: how the data was made, see `ImageData.origin`.
        on_bad, duplicates: as in `ImageData`.
        grouped: whether groups were kept together.
    """

    FILES: ClassVar[tuple[str, ...]] = (ORIGIN, IMAGES)

    rows: Rows
    files: bool
    origin: Mapping[str, Any] | None
    on_bad: str
    duplicates: str
    grouped: bool

    @classmethod
    def of(cls, data: ImageData) -> "Seen":
        """That of checked data, all of its splits.

        Raises:
            OSError: an image cannot be read any more.
        """
        parts = []
        for name, split in data.splits.items():
            number = SPLITS.index(name)
            parts.append(_rows(_image_digests(split), number, False))
            if split.groups is not None:
                parts.append(_rows(_group_digests(split), number, True))
        return cls(
            rows=_first_of_each(np.concatenate(parts)),
            files=all(path is not None for s in data.splits.values() for path in s.paths),
            origin=data.origin,
            on_bad=data.on_bad,
            duplicates=data.duplicates,
            grouped=data.train.groups is not None,
        )

    def after(self, earlier: "Seen | None") -> "Seen":
        """This and what was seen before; an image in two splits counts for train before val."""
        if earlier is None:
            return self
        rows = _first_of_each(np.concatenate([self.rows, earlier.rows]))
        # All else is said of the latest data.
        return replace(self, rows=rows, files=self.files and earlier.files)

    def with_trained(self, split: Split) -> "Seen":
        """This and further images that were trained on.

        Raises:
            OSError: an image cannot be read.
        """
        parts = [self.rows, _rows(_image_digests(split), 0, False)]
        if split.groups is not None:
            parts.append(_rows(_group_digests(split), 0, True))
        files = self.files and all(path is not None for path in split.paths)
        return replace(self, rows=_first_of_each(np.concatenate(parts)), files=files)

    def count(self, split: str) -> int:
        """How many different images of a split there were."""
        images = self.rows[~self.rows["group"]]
        return int((images["split"] == SPLITS.index(split)).sum())

    def split_of(self, split: Split) -> NDArray[np.int64]:
        """The number of the split in which each image was, (N,); `NEW` for one that was in none.

        Raises:
            OSError: an image cannot be read.
        """
        return self._look_up(_image_digests(split), False)

    def split_of_group(self, split: Split) -> NDArray[np.int64]:
        """The same of the group of each image; `NEW` where there are no groups."""
        if split.groups is None:
            return np.full(len(split), NEW)
        return self._look_up(_group_digests(split), True)

    def contents(self) -> dict[str, bytes]:
        """The content of each of `FILES`."""
        about = {
            "format": FORMAT,
            "images": {name: self.count(name) for name in SPLITS},
            "files": self.files,
            "origin": self.origin,
            "on_bad": self.on_bad,
            "duplicates": self.duplicates,
            "grouped": self.grouped,
        }
        table = io.BytesIO()
        np.lib.format.write_array(table, self.rows, allow_pickle=False)
        # Escaped, since a path may hold what UTF-8 cannot.
        text = json.dumps(about, indent=2) + "\n"
        return {ORIGIN: text.encode(), IMAGES: table.getvalue()}

    @classmethod
    def read(cls, directory: Path, hashes: Mapping[str, str] | None = None) -> "Seen":
        """What `contents` gave; checked against its hashes where `hashes` are given.

        Raises:
            FileNotFoundError, ValueError: a file is missing, was changed or is of another form.
        """
        contents = {name: reading.read(directory / name) for name in cls.FILES}
        for name, expected in (hashes or {}).items():
            if name not in contents or hashlib.sha256(contents[name]).hexdigest() != expected:
                raise ValueError(
                    f"{directory / name} is not the file that was saved: its hash differs"
                )
        path = directory / ORIGIN
        about = reading.parse_json(contents[ORIGIN], path)
        if about.get("format") != FORMAT:
            raise ValueError(f"{path}: format must be {FORMAT}, not {about.get('format')!r}")
        kinds = {"files": bool, "on_bad": str, "duplicates": str, "grouped": bool}
        for name, kind in kinds.items():
            if not isinstance(about.get(name), kind):
                raise ValueError(f"{path}: {name} must be a {kind.__name__}")
        return cls(
            rows=_parse(contents[IMAGES], directory / IMAGES),
            origin=_origin(about.get("origin"), path),
            **{name: about[name] for name in kinds},
        )

    def _look_up(self, keys: list[bytes], group: bool) -> NDArray[np.int64]:
        known = self.rows[self.rows["group"] == group]
        wanted = np.array(keys, "S32")
        places = np.searchsorted(known["digest"], wanted)
        # Behind the last row there is none to compare with.
        inside = places < len(known)
        found = np.full(len(wanted), NEW)
        hit = np.flatnonzero(inside)
        hit = hit[known["digest"][places[hit]] == wanted[hit]]
        found[hit] = known["split"][places[hit]]
        return found


def _rows(keys: list[bytes], split: int, group: bool) -> Rows:
    rows = np.zeros(len(keys), _ROW)
    rows["digest"], rows["split"], rows["group"] = keys, split, group
    return rows


def _first_of_each(rows: Rows) -> Rows:
    """The rows sorted, and of equal digests the one of the first split."""
    rows = rows[np.lexsort((rows["split"], rows["digest"], rows["group"]))]
    changed = (rows["digest"][1:] != rows["digest"][:-1]) | (
        rows["group"][1:] != rows["group"][:-1]
    )
    return rows[np.concatenate([[True], changed])] if len(rows) else rows


def _image_digests(split: Split) -> list[bytes]:
    found = digests(split.source, split.indices.tolist())
    if None in found:
        raise OSError(f"{split.name(found.index(None))} cannot be read any more")
    return [bytes.fromhex(text) for text in found if text]


def _group_digests(split: Split) -> list[bytes]:
    assert split.groups is not None
    return [hashlib.sha256(as_bytes(group)).digest() for group in split.groups.tolist()]


def _parse(content: bytes, path: Path) -> Rows:
    """The rows in a file, whose size must be what its header says before room is made for it."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version")
        shape, _, kind = np.lib.format.read_array_header_1_0(file, max_header_size=_HEADER)
        if (
            kind != _ROW
            or len(shape) != 1
            or len(content) != file.tell() + shape[0] * _ROW.itemsize
        ):
            raise ValueError("other rows")
    except ValueError as error:
        raise ValueError(f"{path} is no record of images: {error}") from error
    rows = np.frombuffer(content, _ROW, offset=file.tell())
    if (rows["split"] >= len(SPLITS)).any() or not np.array_equal(_first_of_each(rows), rows):
        raise ValueError(f"{path} is no record of images: its rows are not in order")
    return rows


def _origin(value: Any, path: Path) -> Mapping[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not (
        isinstance(value.get("kind"), str)
        and isinstance(value.get("settings"), dict)
        and isinstance(value.get("not_kept"), list)
    ):
        raise ValueError(f"{path}: origin must have kind, settings and not_kept")
    return value
