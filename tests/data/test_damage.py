"""What an error says of a file: what it is by its content, and what is wrong with it."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tltoolkit.data import ImageError, decode, from_directory, kinds

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(file, form, **options)
    return file.getvalue()


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data)
    return caught.value.reason


def with_wrong_sum(name: bytes) -> bytes:
    """A PNG with a flipped bit in the content of a chunk."""
    data = bytearray(encoded("PNG"))
    data[data.index(name) + 5] ^= 1
    return bytes(data)


def float_tiff(bits: int, samples: int) -> bytes:
    data = bytearray(encoded("TIFF", Image.new("F", (4, 4)) if samples == 1 else None))
    start = struct.unpack("<I", data[4:8])[0]
    for at in range(
        start + 2, start + 2 + 12 * struct.unpack("<H", data[start : start + 2])[0], 12
    ):
        tag = struct.unpack("<H", data[at : at + 2])[0]
        if tag == 258:
            data[at : at + 12] = struct.pack("<HHI", tag, 3, samples) + (
                struct.pack("<HH", bits, 0) if samples == 1 else data[at + 8 : at + 12]
            )
            if samples > 1:
                place = struct.unpack("<I", data[at + 8 : at + 12])[0]
                data[place : place + 6] = struct.pack("<3H", *(bits,) * 3)
        if tag in (339, 284):  # colours have no tag 339: 284 gives its place to it
            data[at : at + 12] = struct.pack("<HHIHH", 339, 3, 1, 3, 0)
    return bytes(data)


PNG, JPEG = encoded("PNG"), encoded("JPEG")
DAMAGED = {
    "a wrong CRC": (with_wrong_sum(b"IDAT"), "a PNG, but its CRC is wrong in its chunk IDAT"),
    "a wrong CRC at the head": (
        with_wrong_sum(b"IHDR"),
        "a PNG, but its CRC is wrong in its chunk IHDR",
    ),
    "a cut PNG": (PNG[:1000], "a PNG, but it is cut off in its chunk IDAT"),
    "a PNG that is cut between chunks": (PNG[:33], "a PNG, but it is cut off"),
    "a PNG of its first bytes": (PNG[:8], "a PNG, but it is cut off"),
    "a cut JPEG": (JPEG[: len(JPEG) // 2], "a JPEG, but image file is truncated"),
    "a JPEG of its first bytes": (JPEG[:4], "a JPEG, but its header is damaged"),
    "a cut WebP": (encoded("WEBP")[:200], "a WebP, but "),
    "a cut GIF": (encoded("GIF")[:900], "a GIF, but image file is truncated"),
    "a cut TIFF": (encoded("TIFF")[:200], "a TIFF, but "),
    "doubles": (
        float_tiff(64, 1),
        "a TIFF, but float samples of 64 bits, 1 a pixel, are not supported",
    ),
    "halves": (
        float_tiff(16, 1),
        "a TIFF, but float samples of 16 bits, 1 a pixel, are not supported",
    ),
    "float colours": (
        float_tiff(32, 3),
        "a TIFF, but float samples of 32 bits, 3 a pixel, are not supported",
    ),
    "floats beyond 1": (
        encoded("TIFF", Image.fromarray(np.full((2, 2), 7, np.float32))),
        "a TIFF, but float values that are NaN or outside 0..1",
    ),
    "many pixels": (
        encoded("PNG", Image.new("1", (9000, 9000))),
        "a PNG, but 9000 x 9000 pixels are more",
    ),
    "too many for Pillow": (
        encoded("PNG", Image.new("1", (20000, 20000))),
        "a PNG, but it has more than the 178956970 pixels that Pillow opens",
    ),
    "nothing": (b"", "the file is empty"),
    "zero bytes": (bytes(9000), "but nothing but zero bytes"),
    "a web page": (b"\n<!DOCTYPE html><html>", "but a web page"),
    "a drawing": (b'<?xml version="1.0"?>\n<svg xmlns="...">', "but an SVG drawing"),
    "an answer": (b'{"error": "not found"}', "but JSON"),
    "a document": (b"%PDF-1.7", "but a PDF"),
    "an archive": (b"PK\x03\x04" + bytes(20), "but a ZIP archive"),
    "a video": (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(99), "but a video"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "but a pointer of Git LFS"),
    "text": (b"hello", "but something else (it begins with b'hello')"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_the_reason_says_what_the_file_is(case: str) -> None:
    data, expected = DAMAGED[case]
    assert expected in reason(data)
    if " but " in expected and not expected.startswith("a"):
        assert reason(data).startswith(f"not a {kinds.READ} image")


def test_the_name_has_no_say(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(ImageError, match=r"page\.jpg: not a JPEG, PNG.* image but a web page"):
        decode(tmp_path / "page.jpg")
    (tmp_path / "page.jpg").write_bytes(with_wrong_sum(b"IDAT"))
    with pytest.raises(ImageError, match=r"page\.jpg: a PNG, but its CRC is wrong"):
        decode(tmp_path / "page.jpg")


def test_the_first_page_counts() -> None:
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded("TIFF", pages[0], save_all=True, append_images=pages[1:])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


def test_a_sound_file_with_bytes_behind_its_end_is_read() -> None:
    for form in ("PNG", "JPEG"):
        np.testing.assert_array_equal(decode(encoded(form) + b"more"), decode(encoded(form)))


def test_avif_is_read_or_its_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded("AVIF", quality=95)
    assert decode(data).shape == PIXELS.shape
    monkeypatch.setattr(features, "check", lambda name: False)
    assert reason(data) == "it is an AVIF image, which needs another Pillow: " + kinds.EXTRA


def test_heic_is_read_upright() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = Image.fromarray(PIXELS[:4, :5]).resize((64, 48), Image.Resampling.BICUBIC)
    data = encoded("HEIF", smooth, quality=95, exif=exif.tobytes())
    found, expected = decode(data), np.rot90(np.asarray(smooth), -1)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6
    assert reason(data[:300]).startswith("a HEIC, but ")


HEIC = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(2000)


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def test_heic_without_its_extra_names_it(without_heif: None) -> None:
    assert reason(HEIC) == f"it is a HEIC image, which needs pillow-heif: {kinds.EXTRA}"


def test_what_an_extra_would_read_is_not_remembered_as_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(2):
        for name in "ab":
            (tmp_path / "x" / name).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.roll(PIXELS, 2 * i + ord(name), 0))
            (tmp_path / "x" / name / f"{i}.heic").write_bytes(encoded("HEIF", picture))
    data = from_directory(tmp_path / "x", val=0)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(ValueError, match=r"4 of 4 images(.|\n)*tltoolkit\[heif\]"):
            data.check()
    assert data.check() is data
