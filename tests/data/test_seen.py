"""The record of what a run has seen: what it holds, how it is kept, what is not believed."""

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tltoolkit.artifacts import artifact
from tltoolkit.data import ImageData, from_arrays, from_directory
from tltoolkit.data.seen import NEW, Seen
from tltoolkit.runs import directory


def folder(root: Path, count: int = 40, start: int = 0) -> Path:
    for i in range(start, start + count):
        path = root / "ab"[i % 2] / f"p{i // 4}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % i)
    return root


def made(root: Path, **options: object) -> ImageData:
    return from_directory(root, **{"val": 0.25, "test": 0.25, "groups": r"p\d+", **options})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_tells_in_which_split_an_image_and_a_group_was(tmp_path: Path) -> None:
    data = made(folder(tmp_path / "x"))
    seen = Seen.of(data)
    for number, (name, split) in enumerate(data.splits.items()):
        assert seen.split_of(split).tolist() == [number] * len(split)
        assert seen.split_of_group(split).tolist() == [number] * len(split)
        assert seen.count(name) == len(split)
    others = from_directory(folder(tmp_path / "y", 20, 100), val=0.0).train
    assert seen.split_of(others).tolist() == [NEW] * 20
    assert seen.split_of_group(others).tolist() == [NEW] * 20
    for row in seen.rows[~seen.rows["group"]]:
        digest = bytes(row["digest"]).ljust(32, b"\0")
        assert any(hashlib.sha256(b"%d" % i).digest() == digest for i in range(40))


def test_digests_that_end_in_zeros_are_told_apart() -> None:
    rows = np.zeros(3, Seen.of(tiny()).rows.dtype)
    rows["digest"] = [b"a" * 31 + b"\0", b"a" * 30 + b"\0\0", b"a" * 32]
    seen = replace(Seen.of(tiny()), rows=np.sort(rows))
    assert seen._look_up([b"a" * 31 + b"\0", b"a" * 29 + b"\0\0\0"], False).tolist() == [0, NEW]


def tiny() -> ImageData:
    images = np.arange(48, dtype=np.uint8).reshape(12, 2, 2)
    return from_arrays(images, np.arange(12) % 2, val=0.0)


def test_an_image_in_two_splits_counts_for_training(tmp_path: Path) -> None:
    data = made(folder(tmp_path / "x"))
    first = Seen.of(replace(data, train=data.train, val=data.val, test=None))
    moved = replace(data, train=data.train.joined(data.test), val=data.val, test=None)
    for both in (Seen.of(moved).after(Seen.of(data)), Seen.of(data).after(Seen.of(moved))):
        assert both.count("train") == len(data.train) + len(data.test)
        assert both.count("test") == 0
    assert first.after(None) is first
    mixed = Seen.of(tiny()).after(first)
    assert not mixed.files
    assert mixed.count("train") == 12 + len(data.train)


def test_it_comes_back_as_it_was_and_takes_34_bytes_an_image(tmp_path: Path) -> None:
    data = made(folder(tmp_path / "x"))
    seen = Seen.of(data)
    (tmp_path / "run").mkdir()
    artifact.write_seen(seen, tmp_path / "run")
    hashes = {name: artifact.sha256(tmp_path / "run" / name) for name in Seen.FILES}
    back = Seen.read(tmp_path / "run", hashes)
    np.testing.assert_array_equal(back.rows, seen.rows)
    for name in ("files", "origin", "on_bad", "duplicates", "grouped"):
        assert getattr(back, name) == getattr(seen, name)
    assert back.origin["settings"]["groups"] == r"p\d+"
    groups = 10
    assert (tmp_path / "run" / "images.npy").stat().st_size == 192 + 34 * (40 + groups)
    np.testing.assert_array_equal(np.load(tmp_path / "run" / "images.npy"), seen.rows)
    told = json.loads((tmp_path / "run" / "data.json").read_text())
    assert told["images"] == {name: len(split) for name, split in data.splits.items()}


def test_names_that_are_no_text_do_not_matter(tmp_path: Path) -> None:
    data = made(folder(tmp_path / "x"), groups=lambda path: path[:4] + os.fsdecode(b"\xe9"))
    seen = replace(
        Seen.of(data), origin={"kind": os.fsdecode(b"\xe9"), "settings": {}, "not_kept": []}
    )
    (tmp_path / "run").mkdir()
    artifact.write_seen(seen, tmp_path / "run")
    assert Seen.read(tmp_path / "run").origin == seen.origin


def test_a_run_that_goes_on_with_other_data_has_seen_both(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    old, new = (made(folder(tmp_path / name, 40, start)) for name, start in (("x", 0), ("y", 20)))
    directory.note_images(target, Seen.of(old))
    seen = directory.note_images(target, Seen.of(new))
    assert (seen.split_of(old.train) == 0).all()
    assert (seen.split_of(new.train) == 0).all()
    np.testing.assert_array_equal(Seen.read(target).rows, seen.rows)


def array(rows: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(rows)
    np.lib.format.write_array_header_1_0(file, {**header, "shape": shape or rows.shape})
    return file.getvalue() + rows.tobytes()


def bad_files(good: np.ndarray) -> dict[str, bytes]:
    high = good.copy()
    high["split"] = 7
    return {
        "larger than it is": array(good, (2**40,)),
        "negative": array(good, (-1,)),
        "cut off": array(good)[:-3],
        "not in order": array(good[::-1].copy()),
        "twice": array(np.repeat(good, 2)),
        "another split": array(high),
        "another kind": array(np.zeros(5)),
        "of two axes": array(good.reshape(1, -1)),
        "no array": b"hello",
        "empty": b"",
        "pickle": b"\x80\x04cos\nsystem\n",
    }


@pytest.mark.parametrize("kind", bad_files(np.zeros(1, Seen.of(tiny()).rows.dtype)))
def test_rows_that_are_not_as_they_should_be_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    seen = Seen.of(tiny())
    artifact.write_seen(seen, tmp_path / "run")
    (tmp_path / "run" / "images.npy").write_bytes(bad_files(seen.rows)[kind])
    with pytest.raises(ValueError, match=r"images\.npy is no record of images"):
        Seen.read(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format must be 1, not 2"),
        ({"files": 1}, "files must be a bool"),
        ({"on_bad": None}, "on_bad must be a str"),
        ({"origin": []}, "origin must have kind, settings and not_kept"),
        ({"origin": {"kind": "from_directory", "settings": 3, "not_kept": []}}, "origin must have"),
    ],
)
def test_what_is_said_of_the_data_is_checked(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    artifact.write_seen(Seen.of(tiny()), tmp_path)
    told = json.loads((tmp_path / "data.json").read_text())
    (tmp_path / "data.json").write_text(json.dumps({**told, **change}))
    with pytest.raises(ValueError, match=message):
        Seen.read(tmp_path)
