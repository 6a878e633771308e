"""Many damaged images at once: each is named, nothing hangs, and none takes the memory."""

import io
import itertools
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.data import ImageError, decode

FORMS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
EACH = 25


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(seed: int, form: str, size: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(width: int, height: int, *between: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    chunks = [chunk(b"IHDR", header), *between, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def broken(kind: int, i: int) -> bytes:
    """The i-th corrupt file of a kind; its bytes are no other's."""
    form, tail = FORMS[i % len(FORMS)], struct.pack(">I", i)
    png_data = encoded(i, "PNG")
    middle = len(png_data) // 2
    kinds = (
        b"",
        tail,
        b"<!DOCTYPE html><p>404</p>" + tail,
        b"no image " + tail,
        encoded(i, form)[: 8 + i],
        encoded(i, ("PNG", "WEBP", "BMP")[i % 3])[: 400 + 8 * i],
        bytes(1000 + i),
        b"\0\0\0\x20ftypisom" + tail * 500,
        png_data[:middle] + tail * 20 + png_data[middle + 80 :],
        png(60_000, 60_000 - i),
        b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + tail * 300,
        png(0, 5 + i),
    )
    return kinds[kind]


def test_300_corrupt_images_of_12_kinds_are_named_before_the_first_epoch(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for c in ("a", "b"):
        (folder / c).mkdir(parents=True)
        for i in range(4):
            (folder / c / f"good{i}.png").write_bytes(encoded(1000 + 10 * i + ord(c), "PNG"))
    bad = {
        str(folder / "ab"[i % 2] / f"bad_{kind:02}_{i}.jpg"): broken(kind, i)
        for kind, i in itertools.product(range(12), range(EACH))
    }
    for path, content in bad.items():
        Path(path).write_bytes(content)
    data = tl.data.from_directory(folder, val=0.2)
    model = tl.build_classifier(class_names=data.class_names, weights=None, image_size=32)
    weights = [w.copy() for w in model.get_weights()]
    with pytest.raises(ValueError, match="300 of 308 images cannot be read") as caught:
        tl.fine_tune(model, data, "linear_probe", verbose=0)
    assert "and 250 more; see data.audit().problems" in str(caught.value)
    reasons = {p.where[0]: p.text for p in data.audit().problems if p.kind == "unreadable"}
    assert set(reasons) == set(bad)
    for path, text in reasons.items():
        assert len(text) > len(path) + 5
    for before, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, now)


def test_1000_mutated_images_decode_or_are_refused() -> None:
    rng = np.random.default_rng(0)
    originals = {form: encoded(7, form) for form in FORMS}
    outcomes = {True: 0, False: 0}
    for i in range(1000):
        content = bytearray(originals[FORMS[i % len(FORMS)]])
        for place in rng.integers(0, len(content), 1 + i % 16):
            content[place] = rng.integers(0, 256)
        if i % 3 == 0:  # most meaning is at the start
            content[rng.integers(0, 40)] = rng.integers(0, 256)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = decode(bytes(content), max_pixels=1_000_000)
        except ImageError:
            outcomes[False] += 1
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            outcomes[True] += 1
    assert min(outcomes.values()) > 100


def tiff_bomb() -> bytes:
    data = bytearray(encoded(0, "TIFF"))
    first = struct.unpack("<I", data[4:8])[0] + 2
    for at in range(first, first + 12 * struct.unpack("<H", data[first - 2 : first])[0], 12):
        tag = struct.unpack("<H", data[at : at + 2])[0]
        if tag in (256, 257):  # width and height
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60_000)
    return bytes(data)


def zeros(megabytes: int) -> bytes:
    """Compressed zeros, made without holding them."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(2**20)) for _ in range(megabytes)]
    return b"".join((*parts, packer.flush()))


def bombs() -> dict[str, bytes]:
    gif = bytearray(encoded(0, "GIF"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    packed = zeros(300)
    text, profile = chunk(b"zTXt", b"a\0\0" + packed), chunk(b"iCCP", b"sRGB\0\0" + packed)
    return {
        "pixels.png": png(60_000, 60_000),
        "text.png": png(4, 4, text),
        "profile.png": png(4, 4, profile, text),
        "canvas.gif": bytes(gif),
        "tags.tif": tiff_bomb(),
    }


CHILD = """
import sys
from tltoolkit.data import ImageError, decode

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

decode(sys.argv[1])  # everything is loaded once
before = peak()
for path in sys.argv[2:]:
    try:
        decode(path)
    except ImageError as error:
        print("refused", error.reason)
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_5_bombs_are_refused_without_taking_memory(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded(0, "PNG"))
    paths = [tmp_path / "good.png"]
    for name, content in bombs().items():
        assert len(content) < 2_000_000
        (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name)
    child = [sys.executable, "-c", CHILD, *map(str, paths)]
    done = subprocess.run(child, capture_output=True, text=True, timeout=60)
    *refused, grown = done.stdout.splitlines()
    assert [line.split()[0] for line in refused] == ["refused"] * 5, done.stdout + done.stderr
    assert int(grown) * 1024 < 200e6
