"""Folders as they come from network disks, archives and other people's habits."""

import warnings
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tltoolkit.data import from_directory, from_table


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def folder(root: Path, *classes: str, count: int = 3) -> Path:
    for class_name in classes:
        (root / class_name).mkdir(parents=True)
        for i in range(count):
            colour = (i, len(str(root)) % 256, hash_of(class_name))
            Image.new("RGB", (4, 3), colour).save(root / class_name / f"{i}.png")
    return root


def hash_of(name: str) -> int:
    return sum(map(ord, name)) % 256


LITTER_FOLDERS = (
    "$RECYCLE.BIN",
    "#recycle",
    "@Recycle",
    "@eaDir",
    "#snapshot",
    "lost+found",
    "System Volume Information",
    "__MACOSX",
    ".Trash-1000",
    ".ipynb_checkpoints",
)
LITTER_FILES = ("Icon\r", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", "._0.png")


@pytest.mark.parametrize("name", LITTER_FOLDERS)
def test_folders_that_systems_leave_are_no_classes(name: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "x", "cat", "dog")
    folder(root, name)
    folder(root / "cat", name)
    data = from_directory(root, val=0)
    assert data.class_names == ("cat", "dog")
    assert data.train.class_counts.tolist() == [3, 3]
    assert sum(data.skipped.values()) == 2


@pytest.mark.parametrize("name", LITTER_FILES)
def test_files_that_systems_leave_are_no_images(name: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "x", "cat", "dog")
    for place in (root, root / "cat"):
        (place / name).write_bytes(b"x")
    data = from_directory(root, val=0)
    assert data.train.class_counts.tolist() == [3, 3]
    assert data.check() is data
    assert sum(data.skipped.values()) == 2


def test_litter_beside_the_splits_is_no_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder(tmp_path / "x" / split, "cat", "dog")
    folder(tmp_path / "x", "lost+found", "#recycle")
    assert list(from_directory(tmp_path / "x", val=0).splits) == ["train", "test"]


@pytest.mark.parametrize("name", ["dev", "Eval", "valid", "validation", "development"])
def test_other_names_of_val(name: str, tmp_path: Path) -> None:
    folder(tmp_path / "x" / "train", "cat", "dog")
    folder(tmp_path / "x" / name, "cat", "dog", count=2)
    data = from_directory(tmp_path / "x")
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 6, "val": 4}
    rows = [(str(path), "cd"[i % 2], name) for i, path in enumerate(data.val.paths)]
    rows += [(str(path), "cd"[i % 2], "train") for i, path in enumerate(data.train.paths)]
    table = pd.DataFrame(rows, columns=["path", "label", "part"])
    assert len(from_table(table, split="part").val) == 4


def test_one_folder_too_deep_is_said(tmp_path: Path) -> None:
    root = tmp_path / "x"
    folder(root / "photos", "cat", "dog")
    (root / "licence.txt").write_text("free")
    with pytest.raises(ValueError, match=r"x/photos, which holds the folders cat, dog; .*too deep"):
        from_directory(root)
    assert from_directory(root / "photos").class_names == ("cat", "dog")


def test_splits_and_classes_too_deep_are_said(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder(tmp_path / "x" / "archive" / split, "cat", "dog")
        folder(tmp_path / "y" / split / "images", "cat", "dog")
    with pytest.raises(ValueError, match=r"x/archive, which holds the folders train, val; "):
        from_directory(tmp_path / "x")
    with pytest.raises(ValueError, match=r"y/train/images, which holds the folders cat, dog; "):
        from_directory(tmp_path / "y")


def test_one_class_alone_is_still_one_class(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at least two classes are needed, found only \('cat',\)"):
        from_directory(folder(tmp_path / "x", "cat"))


def test_classes_that_differ_in_case_are_said(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", "Cat", "cat", "dog")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this file system knows no case")
    with pytest.warns(UserWarning, match="^Cat and cat differ only in case: are they one class"):
        data = from_directory(root, val=0)
    assert data.class_names == ("Cat", "cat", "dog")
    words = [("STOP", "Stop")[i % 2] for i in range(len(data.train))]
    table = pd.DataFrame({"path": data.train.paths, "label": words})
    with pytest.warns(UserWarning, match="STOP and Stop differ only in case"):
        from_table(table, val=0)


def test_a_class_of_val_in_another_case_is_said(tmp_path: Path) -> None:
    folder(tmp_path / "x" / "train", "Cat", "dog")
    folder(tmp_path / "x" / "val", "cat", "dog")
    with pytest.raises(ValueError, match="train split lacks: cat; Cat and cat differ only in case"):
        from_directory(tmp_path / "x")


def test_letters_in_two_cases_are_two_classes(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", "A", "a", "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_directory(root, val=0)
