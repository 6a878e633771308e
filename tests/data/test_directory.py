"""from_directory: layouts, order, splits, and folders that are not as they should be."""

import os
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tltoolkit.data import from_directory


def picture(path: Path, value: int) -> Path:
    """A picture whose content is told by its value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (value % 256, value // 256, 7)).save(path, "PNG")
    return path


def folder(root: Path, start: int = 0, **counts: int) -> Path:
    for class_name, count in counts.items():
        for i in range(count):
            picture(root / class_name / f"{i:03}.png", start)
            start += 1
    return root


def names(split: object) -> list[str]:
    return [os.path.basename(os.path.dirname(p)) + "/" + os.path.basename(p) for p in split.paths]


def test_a_folder_per_class(tmp_path: Path) -> None:
    data = from_directory(folder(tmp_path, cat=10, dog=30), val=0.2, test=0.1, seed=1)
    assert data.class_names == ("cat", "dog")
    assert not data.multi_label
    assert sum(split.class_counts for split in data.splits.values()).tolist() == [10, 30]
    for split in data.splits.values():
        assert split.labels.dtype == np.int64
        for i in range(len(split)):
            assert names(split)[i].startswith(data.class_names[split.labels[i]])
            assert split.name(i) == split.paths[i]
            value = int(os.path.basename(split.paths[i])[:3]) + 10 * split.labels[i]
            expected = np.full((3, 4, 3), (value, 0, 7), np.uint8)
            np.testing.assert_array_equal(split.image(i), expected)
    everything = [path for split in data.splits.values() for path in split.paths]
    assert len(set(everything)) == len(everything) == 40


def test_nothing_is_decoded_or_read_for_splits_that_are_given(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for class_name in ("a", "b"):
            (tmp_path / split / class_name).mkdir(parents=True)
            for i in range(2):
                (tmp_path / split / class_name / f"{i}.jpg").write_bytes(b"no image")
    data = from_directory(tmp_path)
    assert [len(split) for split in data.splits.values()] == [4, 4, 4]


def test_splits_do_not_depend_on_the_order_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path, cat=20, dog=20)
    first = from_directory(tmp_path, test=0.2)
    list_folder = os.scandir
    for seed in range(3):

        def shuffled(path: str, seed: int = seed) -> list[os.DirEntry[str]]:
            entries = sorted(list_folder(path), key=lambda entry: entry.name)
            random.Random(seed).shuffle(entries)
            return entries

        monkeypatch.setattr(os, "scandir", shuffled)
        again = from_directory(tmp_path, test=0.2)
        for name, split in again.splits.items():
            assert split.paths == first.splits[name].paths
            np.testing.assert_array_equal(split.labels, first.splits[name].labels)


def test_given_splits_and_their_other_names(tmp_path: Path) -> None:
    folder(tmp_path / "Training", 0, a=8, b=8)
    folder(tmp_path / "valid", 100, b=3)
    folder(tmp_path / "TESTING", 200, a=1, b=2)
    data = from_directory(tmp_path)
    counts = {name: split.class_counts.tolist() for name, split in data.splits.items()}
    assert counts == {"train": [8, 8], "val": [0, 3], "test": [1, 2]}
    assert data.val.class_names == ("a", "b")
    assert data.val.labels.tolist() == [1, 1, 1]  # a split that lacks a class keeps the numbers


def test_a_missing_val_is_taken_from_train(tmp_path: Path) -> None:
    folder(tmp_path / "train", 0, a=10, b=10)
    folder(tmp_path / "test", 100, a=3, b=3)
    data = from_directory(tmp_path, val=0.3, test=0.5, seed=1)
    assert len(data.train) + len(data.val) == 20
    assert not any("/test/" in path for path in (*data.train.paths, *data.val.paths))
    assert len(data.test) == 6
    assert all("/test/" in path for path in data.test.paths)
    assert from_directory(tmp_path, val=0).val is None


def test_a_class_in_val_that_train_lacks_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "train", 0, a=3, b=3)
    folder(tmp_path / "val", 100, a=3, zebra=1)
    with pytest.raises(ValueError, match="the val split has classes that the train split lacks: z"):
        from_directory(tmp_path)


def test_a_class_named_train_is_a_class(tmp_path: Path) -> None:
    data = from_directory(folder(tmp_path, train=3, car=3))
    assert data.class_names == ("car", "train")


@pytest.mark.parametrize("names", [("train", "test"), ("val", "test"), ("Train",)])
def test_splits_without_classes_are_not_taken_for_classes(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    folder(tmp_path, **dict.fromkeys(names, 3))
    with pytest.raises(ValueError, match="but no train folder with classes"):
        from_directory(tmp_path)


def test_folders_beside_the_splits_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "train", 0, a=3, b=3)
    folder(tmp_path / "test", 10, a=3, b=3)
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match="folders that are no split: notes"):
        from_directory(tmp_path)
    (tmp_path / "notes").rename(tmp_path / "testing")
    with pytest.raises(ValueError, match="two folders for one split"):
        from_directory(tmp_path)


def test_images_may_lie_deeper(tmp_path: Path) -> None:
    folder(tmp_path, a=2, b=2)
    picture(tmp_path / "a" / "2020" / "may.v2" / "x.png", 99)
    data = from_directory(tmp_path, val=0)
    assert data.train.class_counts.tolist() == [3, 2]
    assert data.train.paths == tuple(sorted(data.train.paths))


def test_names_in_any_script(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    folder(tmp_path / "train", 0, **{"café": 2, "猫": 2, "قط مشمشي": 2})
    folder(tmp_path / "val", 50, **{decomposed: 1})
    data = from_directory(tmp_path)
    assert data.class_names == ("café", "قط مشمشي", "猫")
    assert data.val.class_counts.tolist() == [1, 0, 0]
    assert data.val.image(0).shape == (3, 4, 3)


def test_numbers_as_class_names_are_ordered_by_value(tmp_path: Path) -> None:
    data = from_directory(folder(tmp_path, **{"10": 2, "9": 2, "1": 2}))
    assert data.class_names == ("1", "9", "10")


def test_litter_and_dead_links_are_skipped_and_counted(tmp_path: Path) -> None:
    folder(tmp_path, a=3, b=3)
    for name in (".DS_Store", "._000.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / "a" / name).write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX" / "a").mkdir(parents=True)
    (tmp_path / "README.md").write_text("hello")
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "a" / "self.png").symlink_to(tmp_path / "a" / "self.png")
    (tmp_path / "b" / "up").symlink_to(tmp_path / "b")
    data = from_directory(tmp_path, val=0)
    assert len(data.train) == 6
    assert data.skipped == {
        "hidden": 3,
        "system file": 3,
        "outside the class folders": 1,
        "dangling link": 1,
        "link loop": 2,
    }
    assert "1 dangling link" in repr(data)


def test_links_to_images_and_folders_are_followed(tmp_path: Path) -> None:
    folder(tmp_path / "store", cats=2, dogs=2)
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "store" / "cats")
    (root / "dog").mkdir()
    for i in range(2):
        (root / "dog" / f"{i}.png").symlink_to(tmp_path / "store" / "dogs" / f"00{i}.png")
    data = from_directory(root, val=0)
    assert data.train.class_counts.tolist() == [2, 2]
    assert data.train.image(3)[0, 0].tolist() == [3, 0, 7]


def test_copies_go_to_the_same_split(tmp_path: Path) -> None:
    folder(tmp_path, a=20, b=20)
    for i in range(20):
        for k in range(2):
            picture(tmp_path / "a" / f"{i:03} copy {k}.png", i)
    for seed in range(5):
        data = from_directory(tmp_path, val=0.3, test=0.2, seed=seed)
        owners: dict[str, set[str]] = {}
        for name, split in data.splits.items():
            for path in split.paths:
                owners.setdefault(Path(path).read_bytes().hex(), set()).add(name)
        assert len(owners) == 40
        assert all(len(split_names) == 1 for split_names in owners.values())


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`root` must be a folder that exists"):
        from_directory(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no images in .*one folder per class"):
        from_directory(tmp_path)
    picture(tmp_path / "loose.png", 1)
    with pytest.raises(ValueError, match="no images in"):
        from_directory(tmp_path)
    folder(tmp_path, cat=3)
    with pytest.raises(ValueError, match=r"at least two classes are needed, found only \('cat',\)"):
        from_directory(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"the class folder .*dog has no images"):
        from_directory(tmp_path)
    picture(tmp_path / "dog" / "1.png", 1)
    with pytest.raises(ValueError, match=r"at least 2 images; too few: dog \(1\)"):
        from_directory(tmp_path)
    with pytest.raises(TypeError, match="`root` must be a path"):
        from_directory(3)


def test_a_class_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, a=2)
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    for i in range(2):
        picture(tmp_path / os.fsdecode(b"caf\xe9") / f"{i}.png", 10 + i)
    with pytest.raises(ValueError, match="`class_names` must be valid text"):
        from_directory(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val": 1}, "`val` must be a finite number >= 0 and < 1. Received: val=1"),
        ({"val": float("nan")}, "`val` must be a finite number"),
        ({"test": -0.1}, "`test` must be a finite number >= 0"),
        ({"val": 0.5, "test": 0.5}, r"`val \+ test` must be less than 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"on_bad": "ignore"}, "`on_bad` must be one of 'error', 'skip'"),
        ({"duplicates": "keep"}, "`duplicates` must be one of 'error', 'drop', 'allow'"),
        ({"max_pixels": 0}, "`max_pixels` must be an integer >= 1"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_directory(folder(tmp_path, a=2, b=2), **arguments)
