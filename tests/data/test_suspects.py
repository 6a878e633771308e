"""What the audit finds on readable images: look-alikes in groups, and black, blurred, odd ones."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tltoolkit.data import ImageData, Problem, digests, from_arrays, from_directory, lookalikes
from tltoolkit.data.sources import Files

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def flipped(value: int, bits: int, rng: np.random.Generator) -> int:
    for bit in rng.choice(64, bits, replace=False).tolist():
        value ^= 1 << bit
    return value


def by_all_pairs(hashes: list[int]) -> list[list[int]]:
    """Groups by merging over every pair."""
    group = list(range(len(hashes)))
    for a, b in itertools.combinations(range(len(hashes)), 2):
        if (hashes[a] ^ hashes[b]).bit_count() <= lookalikes.ALIKE and group[a] != group[b]:
            old, new = group[b], group[a]
            group = [new if g == old else g for g in group]
    members: dict[int, list[int]] = {}
    for place, number in enumerate(group):
        members.setdefault(number, []).append(place)
    return sorted(m for m in members.values() if len(m) > 1)


def family(rng: np.random.Generator, size: int, bits: int) -> list[int]:
    """Hashes of which each differs from one before it in so many bits."""
    found = [int(rng.integers(2**64, dtype=np.uint64))]
    while len(found) < size:
        found.append(flipped(found[rng.integers(len(found))], bits, rng))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_those_of_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = [h for bits in (0, 1, 3, 4, 5, 6) for h in family(rng, 15, bits)]
    hashes += [int(h) for h in rng.integers(2**64, size=100, dtype=np.uint64)]
    shuffled = [hashes[k] for k in rng.permutation(len(hashes))]
    found = lookalikes.groups(np.array(shuffled, np.uint64))
    assert [places.tolist() for places in found] == by_all_pairs(shuffled)


def test_no_hash_and_one_hash_are_no_group() -> None:
    assert lookalikes.groups(np.array([], np.uint64)) == []
    assert lookalikes.groups(np.array([2**64 - 1], np.uint64)) == []
    (both,) = lookalikes.groups(np.array([2**64 - 1, 2**64 - 1], np.uint64))
    assert both.tolist() == [0, 1]


def smooth(seed: int, width: int = 96, height: int = 72) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def with_noise(image: Image.Image, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 3, (image.height, image.width, 1))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def problems(data: ImageData, *kinds: str, **options: bool) -> list[Problem]:
    return [p for p in data.audit(**options).problems if p.kind in kinds]


def test_frames_of_a_video_are_one_problem() -> None:
    pytest.importorskip("imagehash")
    frames = [with_noise(smooth(0), i) for i in range(60)]
    others = [with_noise(smooth(i + 1), i) for i in range(20)]
    data = from_arrays([*frames, *others], [0, 1] * 40, val=0.25)
    (problem,) = problems(data, "near duplicate", near_duplicates=True)
    assert set(problem.where) == {f"images[{i}]" for i in range(60)}
    assert problem.text.count(" = ") == 10
    assert problem.text.endswith("in val)")
    assert len(problem.text) < 500


def test_a_chain_is_one_group_and_copies_count_once() -> None:
    pytest.importorskip("imagehash")
    pictures = [with_noise(smooth(i), i) for i in range(8)]
    same = [pictures[0], pictures[0].copy(), with_noise(smooth(0), 99)]
    data = from_arrays([*pictures[1:], *same], [0, 1] * 5, val=0)
    (problem,) = problems(data, "near duplicate", near_duplicates=True)
    assert problem.where == ("images[7]", "images[9]")
    (copies,) = problems(data, "duplicate", "conflict")
    assert copies.where == ("images[7]", "images[8]")


def sharp(seed: int, side: int = 200) -> np.ndarray:
    """Spots of all sizes, as natural pictures have: amplitude falls with frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    waves = np.fft.fft2(rng.normal(size=(side, side))) / frequency
    waves[0, 0] = 0
    values = np.fft.ifft2(waves).real
    levels = np.clip(128 + 50 * values / values.std(), 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


def blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


SUSPECT: dict[str, tuple[str | None, Callable[[], np.ndarray]]] = {
    "12 bits in 16": ("black", lambda: sharp(1) // 16),
    "black": ("black", lambda: np.zeros((200, 200, 3), np.uint8)),
    "black but for a lamp": (
        "black",
        lambda: np.pad(np.full((5, 5, 3), 255, np.uint8), ((0, 195), (0, 195), (0, 0))),
    ),
    "dark": (None, lambda: sharp(1) // 6),
    "white": ("uniform", lambda: np.full((200, 200, 3), 255, np.uint8)),
    "one colour": ("uniform", lambda: np.full((200, 200, 3), (9, 200, 40), np.uint8)),
    "hazy": (None, lambda: 120 + sharp(2) // 8),
    "blurred": ("blurred", lambda: blurred(sharp(3), 4)),
    "soft": (None, lambda: blurred(sharp(3), 0.7)),
    "blurred and hazy": ("blurred", lambda: 120 + blurred(sharp(3), 6) // 8),
    "a thumbnail": ("tiny", lambda: sharp(4, 40)),
    "half the size": (None, lambda: sharp(4, 100)),
    "a strip": ("odd shape", lambda: sharp(5)[:64]),
    "a column": ("odd shape", lambda: sharp(5)[:, :64]),
    "wide": (None, lambda: sharp(5)[:100]),
    "sharp": (None, lambda: sharp(6)),
}


@pytest.mark.parametrize("name", SUSPECT)
def test_an_image_that_is_hardly_meant_is_found(name: str) -> None:
    kind, make = SUSPECT[name]
    images = [sharp(10 + i) for i in range(5)] + [make()]
    kinds = ("black", "uniform", "blurred", "tiny", "odd shape")
    found = problems(from_arrays(images, [0, 1] * 3, val=0), *kinds)
    assert [(p.kind, p.where) for p in found] == ([(kind, ("images[5]",))] if kind else [])
    assert all(p.text.startswith("images[5] (train, 1): ") for p in found)


def test_a_data_set_of_small_images_has_no_tiny_ones() -> None:
    images = RNG.integers(0, 256, (40, 8, 8, 3), np.uint8)
    assert problems(from_arrays(images, [0, 1] * 20, val=0), "tiny", "odd shape", "blurred") == []


def test_large_photographs_are_told_at_their_whole_size(tmp_path: Path) -> None:
    for i in range(4):
        folder = tmp_path / "x" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 3 else 1
        Image.fromarray(sharp(i, 1100)[:1050]).save(folder / f"{i}.jpg", exif=exif.tobytes())
    data = from_directory(tmp_path / "x", val=0)
    for _ in range(2):  # anew, and as it is remembered
        audit = data.audit()
        assert audit.heights == (1050, 1050, 1100)
        assert audit.widths == (1050, 1100, 1100)


def folder_of_twins(root: Path, count: int = 12) -> Path:
    """Files of equal size, of which each has a copy."""
    for i in range(count):
        path = root / "ab"[i % 2] / f"{i}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i // 4).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content is read for a digest from now on."""
    seen: list[str] = []
    digest = Files.digest

    def counting(self: Files, index: int) -> str:
        seen.append(self.path(index))
        return digest(self, index)

    monkeypatch.setattr(Files, "digest", counting)
    return seen


def test_what_is_read_once_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    root = folder_of_twins(tmp_path / "x")
    first = from_directory(root, duplicates="drop")
    assert len(reads) == 12
    again = from_directory(root, duplicates="drop")
    again.check()
    assert len(reads) == 12
    assert again.train.paths == first.train.paths
    changed = root / "a" / "0.bmp"
    pixels = RNG.integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(changed)
    from_directory(root)
    assert reads[12:] == [str(changed)]


def test_digests_of_check_are_used(tmp_path: Path, reads: list[str]) -> None:
    root = folder_of_twins(tmp_path / "x")
    for split in ("val", "test"):
        folder_of_twins(tmp_path / "y" / split, 4)
    folder_of_twins(tmp_path / "y" / "train", 12)
    from_directory(root, val=0).audit()
    assert len(reads) == 12
    from_directory(root)
    assert len(reads) == 12
    from_directory(tmp_path / "y").audit()
    assert len(reads) == 12 + 20
    digests.same_content(from_directory(tmp_path / "y").val.source, np.arange(20))
    assert len(reads) == 12 + 20


def test_a_digest_does_not_replace_a_verdict(tmp_path: Path) -> None:
    root = folder_of_twins(tmp_path / "x")
    bad = root / "a" / "bad.bmp"
    bad.write_bytes(bytes((root / "a" / "0.bmp").stat().st_size))
    reasons = [p.text for p in problems(from_directory(root, val=0), "unreadable")]
    assert len(reasons) == 1
    data = from_directory(root)
    assert [p.text for p in problems(data, "unreadable")] == reasons


def test_files_that_cannot_be_read_are_groups_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder_of_twins(tmp_path / "x", 8)
    source = Files(sorted(map(str, root.rglob("*.bmp"))), 10**6)
    expected: dict[bytes, int] = {}
    contents = [Path(source.path(i)).read_bytes() for i in range(8)]
    numbers = [expected.setdefault(content, len(expected)) for content in contents]
    assert digests.same_content(source, np.arange(8)).tolist() == numbers
    digest = Files.digest

    def refusing(self: Files, index: int) -> str:
        if index in (2, 5):
            raise PermissionError(13, "no")
        return digest(self, index)

    monkeypatch.setattr(Files, "digest", refusing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other cache"))
    alone = digests.same_content(source, np.arange(8))
    assert (alone == alone[2]).sum() == (alone == alone[5]).sum() == 1
