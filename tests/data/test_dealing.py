"""Splits by content: against a plain loop, and whether they stay when files come and go."""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from tltoolkit.data import ImageData, dealing, from_arrays, from_directory, from_table
from tltoolkit.data.sources import Files

SHARES = {"val": 0.2, "test": 0.3}
# Numbers of the first 24 files with seed 0; they hold on every machine and for good.
PINNED = {
    "train": [2, 4, 6, 10, 1, 3, 9, 11, 13, 19],
    "val": [0, 8, 14, 23],
    "test": [12, 16, 18, 20, 22, 5, 7, 15, 17, 21],
}


def write(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def folder(root: Path, count: int = 60, start: int = 0) -> Path:
    """Files of two classes, of 10 bytes and (every third) of more than is read of one."""
    for i in range(start, start + count):
        content = f"image {i:4}".encode() * (9000 if i % 3 == 0 else 1)
        write(root, f"{'ab'[i % 2]}/{i:04}.png", content)
    return root


def sides(data: ImageData) -> dict[bytes, str]:
    """The split of each content."""
    return {
        Path(path).read_bytes(): name for name, split in data.splits.items() for path in split.paths
    }


def expected(content: bytes, seed: int, val: float, test: float) -> str:
    """The rule as the documentation says it."""
    if len(content) > 65536:
        middle = (len(content) - 16384) // 2
        blocks = content[:16384] + content[middle : middle + 16384] + content[-16384:]
        content = len(content).to_bytes(8, "big") + blocks
    key = hashlib.sha256(content).digest()
    digest = hashlib.sha256(seed.to_bytes(4, "big") + key).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if place < test else "val" if place >= 1 - val else "train"


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_each_file_goes_where_the_rule_says(tmp_path: Path, seed: int) -> None:
    data = from_directory(folder(tmp_path, 200), seed=seed, **SHARES)
    for content, split in sides(data).items():
        assert split == expected(content, seed, **SHARES)


def test_the_split_of_a_seed_never_changes(tmp_path: Path) -> None:
    data = from_directory(folder(tmp_path, 24), seed=0, **SHARES)
    numbers = {
        name: [int(Path(path).stem) for path in split.paths] for name, split in data.splits.items()
    }
    assert numbers == PINNED


def test_files_that_come_go_and_are_renamed_move_no_other(tmp_path: Path) -> None:
    before = sides(from_directory(folder(tmp_path), **SHARES))
    assert set(before.values()) == {"train", "val", "test"}
    folder(tmp_path, 40, start=60)
    after = sides(from_directory(tmp_path, **SHARES))
    assert len(after) == 100
    assert {content: after[content] for content in before} == before
    for path in sorted(tmp_path.rglob("*.png"))[::4]:
        path.unlink()
    for number, path in enumerate(sorted(tmp_path.rglob("*.png"))):
        path.rename(path.with_name(f"{number * 7919 % 1000:03} renamed.png"))
    (tmp_path / "b").rename(tmp_path / "0 another name")
    left = sides(from_directory(tmp_path, **SHARES))
    assert len(left) == 75
    assert left == {content: after[content] for content in left}


def test_a_larger_share_only_takes_from_train(tmp_path: Path) -> None:
    folder(tmp_path, 200)
    small = sides(from_directory(tmp_path, val=0.1, test=0.1))
    for shares in ({"val": 0.3, "test": 0.1}, {"val": 0.1, "test": 0.4}, {"val": 0.3, "test": 0.3}):
        for content, split in sides(from_directory(tmp_path, **shares)).items():
            assert split == small[content] or small[content] == "train"


def test_shares_hold_on_average_in_every_class() -> None:
    images = np.arange(20000, dtype=np.uint32).view(np.uint8).reshape(20000, 2, 2)
    labels = np.arange(20000) % 4
    data = from_arrays(images, labels, val=0.2, test=0.1)
    for name, share in (("val", 0.2), ("test", 0.1)):
        # Five standard deviations of a binomial count of 5,000.
        tolerance = 5 * (5000 * share * (1 - share)) ** 0.5
        assert np.abs(data.splits[name].class_counts - 5000 * share).max() < tolerance


def test_a_table_and_a_folder_of_the_same_files_are_split_alike(tmp_path: Path) -> None:
    folder(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    rows = "\n".join(f"{file},{file[0]}" for file in files[::-1])
    write(tmp_path, "t.csv", f"path,label\n{rows}\n".encode())
    table = from_table(tmp_path / "t.csv", **SHARES)
    assert sides(table) == sides(from_directory(tmp_path, **SHARES))


def test_a_class_that_would_have_no_training_image_keeps_the_nearest(tmp_path: Path) -> None:
    folder(tmp_path, 40)
    rare = [f"rare {i}".encode() for i in range(200)]
    held = [c for c in rare if expected(c, 0, **SHARES) != "train"][:4]
    for i, content in enumerate(held):
        write(tmp_path, f"rare/{i}.png", content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # val or test may lack it now
        data = from_directory(tmp_path, **SHARES)
    found = {content: side for content, side in sides(data).items() if content in held}
    kept = [content for content in held if found[content] == "train"]
    assert len(kept) == 1

    def distance(content: bytes) -> float:
        """How much smaller the share must be for it to be in train."""
        for step in range(1, 301):
            shares = {"val": max(0.2 - step / 1000, 0), "test": 0.3 - step / 1000}
            if expected(content, 0, **shares) == "train":
                return step
        raise AssertionError

    assert distance(kept[0]) == min(map(distance, held))
    for content in held:
        if content != kept[0]:
            assert found[content] == expected(content, 0, **SHARES)


def test_a_class_that_val_lacks_is_named_where_the_data_is_made(tmp_path: Path) -> None:
    folder(tmp_path, 40)
    contents = (f"rare {i}".encode() for i in range(200))
    train = [c for c in contents if expected(c, 0, **SHARES) == "train"][:3]
    for i, content in enumerate(train):
        write(tmp_path, f"rare/{i}.png", content)
    with pytest.warns(UserWarning, match="no image of rare") as warned:
        data = from_directory(tmp_path, **SHARES)
    assert [str(w.message).split(" (")[0] for w in warned] == [
        "no image of rare came into the val split",
        "no image of rare came into the test split",
    ]
    assert {w.filename for w in warned} == {__file__}
    assert data.train.class_counts[2] == 3
    assert data.val.class_counts[2] == data.test.class_counts[2] == 0


def test_what_is_read_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones whole, of others three blocks; pipes are never opened."""
    big = b"".join(os.urandom(2**16) for _ in range(16))
    other = bytearray(big)
    other[2**19] ^= 1  # inside the block in the middle
    paths = [
        write(tmp_path, "big", big),
        write(tmp_path, "same", big),
        write(tmp_path, "middle", bytes(other)),
        write(tmp_path, "longer", big + b"x"),
        write(tmp_path, "small", big[: 2**16]),
        tmp_path / "gone",
        tmp_path / "pipe",
    ]
    os.mkfifo(tmp_path / "pipe")
    source = Files([str(path) for path in paths], 10**6)
    keys = dealing.content_keys(source, np.arange(len(paths)))
    assert keys[0] == keys[1]
    assert len(set(keys[:5])) == 4
    assert keys[4] == hashlib.sha256(big[: 2**16]).digest()
    assert keys[5] == keys[6] == b""
