"""Folders with broken files: each is listed with path and reason, and nothing hangs."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tltoolkit.data import ImageData, from_directory


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def noise(seed: int, size: int = 48) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))


def encoded(seed: int, form: str) -> bytes:
    file = io.BytesIO()
    noise(seed).save(file, form)
    return file.getvalue()


def good_folder(root: Path) -> Path:
    for k, (class_name, form) in enumerate(
        (c, f) for c in ("a", "b") for f in ("PNG", "JPEG", "WEBP", "GIF")
    ):
        (root / class_name).mkdir(parents=True, exist_ok=True)
        (root / class_name / f"good{k}.{form.lower()}").write_bytes(encoded(k, form))
    return root


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width: int, height: int, content: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(content))
        + png_chunk(b"IEND", b"")
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, *[0] * 6)


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(0, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def damaged(data: bytes, start: float, length: int, fill: bytes = b"\0") -> bytes:
    place = int(len(data) * start)
    return data[:place] + fill * length + data[place + length :]


VIDEO = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(range(256)) * 20
HEIC = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(2000)
ZIP = b"PK\x03\x04" + bytes(100)
FILES: dict[str, dict[str, bytes]] = {
    "empty": {"e.jpg": b"", "e.png": b"", "e.webp": b""},
    "web page": {
        "w.jpg": b"<!DOCTYPE html><html></html>",
        "w.png": b"<html>404</html>",
        "w.gif": b'{"error": "not found"}',
    },
    "text": {"t.txt": b"hello", "t.jpg": "日本語".encode(), "noname": b"\n"},
    "video": {"v.mp4": VIDEO, "v.jpg": VIDEO, "h.png": HEIC},
    "truncated": {
        f"{form}{cut}": encoded(5, form)[: int(len(encoded(5, form)) * cut)]
        for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
        for cut in (0.1, 0.5, 0.9)
    },
    "NUL-filled": {
        "n.jpg": bytes(5000),
        "n.png": bytes(1),
        "n.tif": encoded(1, "TIFF")[:8] + bytes(500),
    },
    "cut PNG chunks": {
        "header.png": encoded(1, "PNG")[:20],
        "noend.png": encoded(1, "PNG")[:-400],
        "checksum.png": damaged(encoded(1, "PNG"), 0.5, 40),
        "nodata.png": png(4, 4),
        "headless.png": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IEND", b""),
    },
    "bomb": {
        "b.png": png(60_000, 60_000, bytes(10_000)),
        "c.png": png(10_000, 10_000, bytes(10_000)),
        "b.bmp": bmp(20_000, 20_000),
        "b.jpg": jpeg_of_size(65_000, 65_000),
    },
    "no pixels": {"z.png": png(0, 5), "z.bmp": bmp(0, 0), "z.jpg": jpeg_of_size(0, 0)},
    "other formats": {"x.zip": ZIP, "x.svg": b"<svg/>", "x.ppm": b"P6\n1 1\n255\n123"},
    "only the first bytes": {
        "f.jpg": b"\xff\xd8\xff\xe0",
        "f.gif": b"GIF89a",
        "f.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
        "f.tif": b"II*\0\x08\0\0\0",
        "f.bmp": b"BM",
    },
}


def make_folder(path: Path) -> None:
    path.mkdir()
    (path / "inside.png").write_bytes(encoded(9, "PNG"))


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def make_secret(path: Path) -> None:
    path.write_bytes(encoded(9, "PNG"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder.jpg": (make_folder, "it is a folder, not a file"),
    "pipe.jpg": (os.mkfifo, "it is a pipe, socket or device, not a file"),
    "socket.jpg": (make_socket, "it is a pipe, socket or device, not a file"),
    "device.jpg": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe, socket or device"),
    "secret.jpg": (make_secret, "Permission denied"),
}


def unreadable(data: ImageData) -> dict[str, str]:
    """The reason for each file that the audit lists as unreadable, by path."""
    found = [problem for problem in data.audit().problems if problem.kind == "unreadable"]
    assert all(problem.text.startswith(problem.where[0] + ": ") for problem in found)
    return {problem.where[0]: problem.text[len(problem.where[0]) + 2 :] for problem in found}


@pytest.mark.parametrize("kind", FILES)
def test_every_broken_file_is_listed_with_its_reason(kind: str, tmp_path: Path) -> None:
    root = good_folder(tmp_path / "root")
    for name, content in FILES[kind].items():
        (root / "a" / name).write_bytes(content)
    data = from_directory(root)
    expected = {str(root / "a" / name) for name in FILES[kind]}
    reasons = unreadable(data)
    assert set(reasons) == expected
    assert all(reason.strip() for reason in reasons.values())
    with pytest.raises(ValueError, match="images cannot be read") as caught:
        data.check()
    for path, reason in reasons.items():
        assert f"{path}: {reason}" in str(caught.value)
    assert 'on_bad="skip"' in str(caught.value)


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_file_is_listed_and_never_opened(name: str, tmp_path: Path) -> None:
    root = good_folder(tmp_path / "root")
    make, reason = SPECIAL[name]
    make(root / "a" / name)
    data = from_directory(root)
    assert unreadable(data)[str(root / "a" / name)].startswith(reason)
    with pytest.raises(ValueError, match=f"1 of 9 images cannot be read:\n  .*{name}: {reason}"):
        data.check()


def test_a_wrong_extension_is_no_fault(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "root")
    (root / "a" / "png.jpg").write_bytes(encoded(20, "PNG"))
    (root / "a" / "jpeg.txt").write_bytes(encoded(21, "JPEG"))
    (root / "a" / "webp").write_bytes(encoded(22, "WEBP"))
    data = from_directory(root)
    assert unreadable(data) == {}
    assert data.check() is data


def test_bad_files_can_be_skipped(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "root")
    for kind, files in FILES.items():
        for name, content in files.items():
            (root / "a" / f"{kind} {name}").write_bytes(content)
    count = sum(map(len, FILES.values()))
    data = from_directory(root, val=0.5, on_bad="skip")
    with pytest.warns(UserWarning, match=f"left out: {count} of {count + 8} images cannot be read"):
        checked = data.check()
    assert checked.skipped == {"unreadable": count}
    paths = [path for split in checked.splits.values() for path in split.paths]
    assert len(paths) == 8
    assert all("good" in path for path in paths)
    assert checked.class_names == data.class_names


def test_a_class_that_is_left_without_images_is_named(tmp_path: Path) -> None:
    root = good_folder(tmp_path / "root")
    (root / "c").mkdir()
    for i in range(3):
        (root / "c" / f"{i}.jpg").write_bytes(b"nothing" * (i + 1))
    data = from_directory(root, on_bad="skip")
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="the train split has no image of class c"),
    ):
        data.check()


def test_random_damage_is_found_or_decodes(tmp_path: Path) -> None:
    """Whatever is done to a file, the audit ends, and says of each file whether it is readable."""
    root = good_folder(tmp_path / "root")
    rng = np.random.default_rng(0)
    count = 0
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        for i in range(40):
            data = bytearray(encoded(i, form))
            for place in rng.integers(0, min(len(data), 400), 8):
                data[place] = rng.integers(0, 256)
            (root / "a" / f"{i}.{form}").write_bytes(data)
            count += 1
    reasons = unreadable(from_directory(root, val=0))
    assert 40 < len(reasons) <= count
    assert not any("good" in path for path in reasons)
