"""The audit's findings, what check does about copies, and the memory of verdicts."""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tltoolkit.data import ImageData, decoding, from_arrays, from_directory, memory


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tltoolkit" / "verdicts"


def save(path: Path, value: int, width: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (6, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes and three splits without a fault."""
    root, value = tmp_path / "root", 0
    for split, count in (("train", 30), ("val", 4), ("test", 4)):
        for class_name in ("a", "b"):
            for i in range(count):
                save(root / split / class_name / f"{i:02}.png", value)
                value += 1
    return root


def kinds(data: ImageData) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for problem in data.audit().problems:
        found.setdefault(problem.kind, []).append(problem.where)
    return found


def test_sound_data_have_no_problems(root: Path) -> None:
    data = from_directory(root)
    assert kinds(data) == {}
    assert data.check() is data


def test_copies_are_told_apart(root: Path) -> None:
    save(root / "train/a/same.png", 0)
    save(root / "train/b/conflict.png", 1)
    save(root / "test/a/leak.png", 2)
    save(root / "val/b/both.png", 3)
    found = kinds(from_directory(root))
    assert found == {
        "duplicate": [(f"{root}/train/a/00.png", f"{root}/train/a/same.png")],
        "conflict": [
            (f"{root}/train/a/01.png", f"{root}/train/b/conflict.png"),
            (f"{root}/train/a/03.png", f"{root}/val/b/both.png"),
        ],
        "leak": [
            (f"{root}/train/a/02.png", f"{root}/test/a/leak.png"),
            (f"{root}/train/a/03.png", f"{root}/val/b/both.png"),
        ],
    }


def test_copies_across_splits_are_an_error_unless_allowed(root: Path) -> None:
    save(root / "test/a/leak.png", 2)
    with pytest.raises(ValueError, match="1 images? .*in more than one split") as caught:
        from_directory(root).check()
    for part in ("train/a/02.png (train, a) = ", 'duplicates="drop"', 'duplicates="allow"'):
        assert part in str(caught.value)
    allowing = from_directory(root, duplicates="allow")
    assert allowing.check() is allowing


def test_copies_are_kept_in_test_before_val_before_train(root: Path) -> None:
    save(root / "test/a/leak.png", 2)
    save(root / "val/a/leak.png", 2)
    save(root / "val/b/other.png", 5)
    save(root / "train/a/within.png", 7)
    data = from_directory(root, duplicates="drop")
    with pytest.warns(UserWarning, match="kept only in test before val before train: 2 images"):
        kept = data.check()
    gone = {p for n, s in data.splits.items() for p in s.paths if p not in kept.splits[n].paths}
    names = ("train/a/02.png", "val/a/leak.png", "train/a/05.png")
    assert gone == {str(root / name) for name in names}
    assert kept.skipped == {"copies in another split": 3}
    assert kept.check() is kept


def test_long_lists_are_cut(tmp_path: Path) -> None:
    for i in range(70):
        path = tmp_path / "x" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{i}" * 9)
    data = from_directory(tmp_path / "x", val=0)
    with pytest.raises(ValueError, match="70 of 70 .*") as caught:
        data.check()
    assert "and 20 more; see data.audit().problems" in str(caught.value)
    audit = data.audit()
    assert len(audit.problems) == 70
    assert (audit.heights, audit.widths, audit.aspect_ratios) == ((), (), ())
    assert "unreadable: and 50 more" in str(audit)


def test_splits_made_here_never_need_the_error(tmp_path: Path) -> None:
    for i in range(40):
        for copy in range(2):
            save(tmp_path / "x" / ("a" if i < 20 else "b") / f"{i}-{copy}.png", i)
    for seed in range(3):
        data = from_directory(tmp_path / "x", test=0.2, seed=seed)
        assert data.check() is data


def test_tiny_and_uneven_classes_and_advice(tmp_path: Path) -> None:
    for i in range(66):
        save(tmp_path / "x" / ("rare" if i < 6 else "usual") / f"{i}.png", i, width=4 + i % 5)
    audit = from_directory(tmp_path / "x", val=0).audit()
    assert [(p.kind, p.where) for p in audit.problems] == [("tiny class", ("rare",))]
    assert audit.imbalance_ratio == 10
    assert audit.heights == (6, 6, 6)
    assert audit.widths == (4, 6, 8)
    assert audit.aspect_ratios == (4 / 6, 1, 8 / 6)
    assert ["k-fold" in audit.advice[0], "regularise" in audit.advice[1]] == [True, True]
    text = str(audit)
    for part in (
        "rare                   6",
        "width: 4 to 8, median 6",
        "rare has 6 training",
        "k-fold",
    ):
        assert part in text


def test_an_uneven_data_set_is_a_problem() -> None:
    labels = [0] * 20 + [1] * 220
    images = np.random.default_rng(0).integers(0, 256, (240, 2, 2, 3), np.uint8)
    audit = from_arrays(images, labels, val=0).audit()
    assert [problem.kind for problem in audit.problems] == ["imbalance"]
    assert "11.0 times" in audit.problems[0].text
    assert "macro F1" in audit.advice[-1]


def test_arrays_are_audited_too() -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 5, 4, 3), np.uint8)
    images[59] = images[0]
    data = from_arrays(images, [0] * 30 + [1] * 30, val=0)
    assert kinds(data) == {"conflict": [("images[0]", "images[59]")]}


def test_images_that_look_alike(root: Path) -> None:
    pytest.importorskip("imagehash")
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    smooth.resize((200, 200), Image.Resampling.BICUBIC).save(root / "train/a/photo.png")
    smooth.resize((100, 100), Image.Resampling.BICUBIC).save(root / "test/b/smaller.jpg")
    problems = from_directory(root).audit(near_duplicates=True).problems
    assert [problem.where for problem in problems if problem.kind == "near duplicate"] == [
        (f"{root}/train/a/photo.png", f"{root}/test/b/smaller.jpg")
    ]
    assert "near duplicate" not in kinds(from_directory(root))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded from now on."""
    names: list[str] = []
    decode = decoding._decode

    def counting(file: object, size: int, name: str, *settings: object) -> object:
        names.append(name)
        return decode(file, size, name, *settings)

    monkeypatch.setattr(decoding, "_decode", counting)
    return names


def test_verdicts_are_remembered(root: Path, cache: Path, decoded: list[str]) -> None:
    (root / "train/a/bad.png").write_bytes(b"nothing")
    first = from_directory(root).audit()
    assert len(decoded) == 77
    decoded.clear()
    again = from_directory(root).audit()
    assert decoded == []
    assert again == first
    assert [path.suffix for path in cache.iterdir()] == [".json"]
    assert not list(root.rglob("*.json"))


def test_a_changed_file_is_decoded_again(root: Path, decoded: list[str]) -> None:
    data = from_directory(root)
    data.audit()
    decoded.clear()
    changed = root / "train/a/00.png"
    size, before = changed.stat().st_size, changed.stat().st_mtime_ns
    changed.write_bytes(bytes(size))
    os.utime(changed, ns=(before, before + 1))
    save(root / "train/a/new.png", 999)
    assert kinds(from_directory(root)) == {"unreadable": [(str(changed),)]}
    assert sorted(decoded) == [str(changed), str(root / "train/a/new.png")]


def test_another_pixel_limit_is_another_verdict(root: Path) -> None:
    assert from_directory(root).check()
    with pytest.raises(ValueError, match="8 x 6 pixels are more than max_pixels=47"):
        from_directory(root, max_pixels=47).check()
    assert from_directory(root).check()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\0", b'{"files": []}', b"[" * 99999])
def test_a_damaged_memory_is_no_obstacle(root: Path, cache: Path, content: bytes) -> None:
    expected = from_directory(root).audit()
    (file,) = cache.iterdir()
    file.write_bytes(content)
    assert from_directory(root).audit() == expected
    assert json.loads(file.read_text())["files"]


def test_damaged_entries_are_no_obstacle(root: Path, cache: Path) -> None:
    expected = from_directory(root).audit()
    (file,) = cache.iterdir()
    memory = json.loads(file.read_text())
    for path, wrong in zip(sorted(memory["files"]), (None, [], 3, ["x"] * 6, {}), strict=False):
        memory["files"][path] = wrong
    file.write_text(json.dumps(memory))
    assert from_directory(root).audit() == expected


def test_without_a_place_for_it_nothing_is_remembered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # where it goes if the place is no path
    for place in (str(tmp_path / "file" / "x"), "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        assert kinds(from_directory(root)) == {}
    assert not Path("relative").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders")
def test_the_cache_folder_is_the_one_of_before_platformdirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for place, folder in (("", tmp_path / ".cache"), (str(tmp_path / "c"), tmp_path / "c")):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        found = Path(memory._cache_file(["/data/a.png", "/data/b.png"]))
        key = hashlib.sha256(b"/data").hexdigest()[:16]
        assert found == folder / "tltoolkit" / "verdicts" / f"{key}.json"


def test_an_interrupted_audit_keeps_what_it_has(
    root: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = decoding._decode

    def interrupt(file: object, size: int, name: str, *settings: object) -> object:
        if name.endswith("test/b/03.png"):
            raise KeyboardInterrupt
        return counting(file, size, name, *settings)

    monkeypatch.setattr(decoding, "_decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        from_directory(root).audit()
    monkeypatch.setattr(decoding, "_decode", counting)
    decoded.clear()
    from_directory(root).audit()
    assert 1 <= len(decoded) < 20
