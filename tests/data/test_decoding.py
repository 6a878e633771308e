"""The decoder: a golden test for every colour mode, orientations, and refusals."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tltoolkit.data import ImageError, decode
from tltoolkit.data.modes import MODES, to_rgb

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def grey(*values: int) -> list[list[int]]:
    return [[value] * 3 for value in values]


def row(pixels: np.ndarray) -> list[list[int]]:
    """The pixels of an image of one row."""
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] == 1
    assert pixels.shape[2] == 3
    return pixels[0].tolist()


def from_values(values: list[list[object]], dtype: str, mode: str | None = None) -> Image.Image:
    array = np.array(values, dtype)
    image = Image.fromarray(array)
    assert mode is None or image.mode == mode
    return image


def palette(**info: object) -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLACK])
    image.putdata([0, 1, 2])
    image.info.update(info)
    return image


def with_transparency(image: Image.Image, value: object) -> Image.Image:
    image.info["transparency"] = value
    return image


RGBA = [[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]]
GOLDEN = {
    "RGB": (from_values([[RED, GREEN]], "uint8"), [[*RED], [*GREEN]]),
    "RGB, one colour transparent": (
        with_transparency(from_values([[RED, GREEN]], "uint8"), GREEN),
        [[*RED], [*WHITE]],
    ),
    "L": (from_values([[0, 7, 255]], "uint8", "L"), grey(0, 7, 255)),
    "L, one grey transparent": (
        with_transparency(from_values([[0, 7, 255]], "uint8", "L"), 7),
        grey(0, 255, 255),
    ),
    "1": (from_values([[False, True]], "bool", "1"), grey(0, 255)),
    "P": (palette(), [[*RED], [*GREEN], [*BLACK]]),
    "P, one entry transparent": (palette(transparency=1), [[*RED], [*WHITE], [*BLACK]]),
    "P, alpha for each entry": (
        palette(transparency=bytes([255, 0, 127])),
        [[*RED], [*WHITE], [128, 128, 128]],
    ),
    "RGBA": (from_values(RGBA, "uint8", "RGBA"), [[*RED], [*WHITE], [127, 127, 127]]),
    "LA": (from_values([[[9, 255], [9, 0]]], "uint8", "LA"), grey(9, 255)),
    "I;16": (from_values([[0, 255, 256, 32768, 65535]], "uint16"), grey(0, 0, 1, 128, 255)),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_every_mode_of_a_png_becomes_rgb(case: str) -> None:
    image, expected = GOLDEN[case]
    assert row(decode(encoded(image))) == expected


TIFFS = {
    "CMYK": (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [[*RED]]),
    "I": (from_values([[0, 256, 65535]], "int32", "I"), grey(0, 1, 255)),
    "F": (from_values([[0.0, 0.5, 1.0]], "float32", "F"), grey(0, 128, 255)),
    "YCbCr": (Image.new("YCbCr", (1, 1), (255, 128, 128)), [[*WHITE]]),
    "RGBA": (from_values(RGBA, "uint8", "RGBA"), [[*RED], [*WHITE], [127, 127, 127]]),
    "I;16B": (Image.frombytes("I;16B", (2, 1), b"\x80\x00\xff\xff"), grey(128, 255)),
}


@pytest.mark.parametrize("case", TIFFS)
def test_every_mode_of_a_tiff_becomes_rgb(case: str) -> None:
    image, expected = TIFFS[case]
    assert row(decode(encoded(image, "TIFF"))) == expected


# These modes exist in Pillow, but no writer of its own makes files of them.
IN_MEMORY = {
    "PA": (Image.new("PA", (1, 1), (0, 0)), [[*WHITE]]),
    "RGBa": (Image.new("RGBa", (1, 1), (128, 0, 0, 128)), [[255, 127, 127]]),
}


@pytest.mark.parametrize("case", IN_MEMORY)
def test_the_other_modes_become_rgb(case: str) -> None:
    image, expected = IN_MEMORY[case]
    assert row(np.asarray(to_rgb(image))) == expected


def test_no_mode_is_without_a_golden_test() -> None:
    tested = {image.mode for image, _ in [*GOLDEN.values(), *TIFFS.values(), *IN_MEMORY.values()]}
    assert set(MODES) <= tested


def test_16_bit_colour_keeps_the_high_byte() -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.array([[[65535, 256, 255]]], np.uint16)  # blue, green, red
    assert row(decode(cv2.imencode(".png", pixels)[1].tobytes())) == [[0, 1, 255]]


def test_a_mode_without_a_rule_is_refused() -> None:
    lab = encoded(Image.new("LAB", (1, 1)), "TIFF")
    with pytest.raises(ImageError, match="colour mode LAB is not supported"):
        decode(lab)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (from_values([[-1]], "int32"), "negative values"),
        (from_values([[70000]], "int32"), r"outside 0\.\.65535"),
        (from_values([[1.5]], "float32"), r"outside 0\.\.1"),
        (from_values([[float("nan")]], "float32"), "NaN"),
    ],
)
def test_values_without_a_range_are_refused(image: Image.Image, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(encoded(image, "TIFF"))


PHOTO = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14
# How a viewer turns the stored pixels upright, from the EXIF standard.
UPRIGHT = {
    1: PHOTO,
    2: PHOTO[:, ::-1],
    3: PHOTO[::-1, ::-1],
    4: PHOTO[::-1],
    5: PHOTO.transpose(1, 0, 2),
    6: np.rot90(PHOTO, -1),
    7: PHOTO.transpose(1, 0, 2)[::-1, ::-1],
    8: np.rot90(PHOTO, 1),
}


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_upright(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(Image.fromarray(PHOTO), form, exif=exif.tobytes(), **options)
    np.testing.assert_array_equal(decode(data), UPRIGHT[orientation])


def test_a_jpeg_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    big = Image.fromarray(np.kron(PHOTO, np.ones((16, 16, 1), np.uint8)))
    stored = decode(encoded(big, "JPEG"))
    turned = decode(encoded(big, "JPEG", exif=exif.tobytes()))
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))


def test_damaged_exif_does_not_make_an_image_unreadable() -> None:
    data = encoded(Image.new("RGB", (8, 8), RED), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(data).shape == (8, 8, 3)


def test_a_cmyk_jpeg_as_adobe_writes_it_is_right() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert np.abs(decode(data)[0, 0].astype(int) - RED).max() <= 3
    assert b"Adobe" in data


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    assert decode(data)[0, 0].tolist() == [*RED]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_formats_are_told_by_content(form: str, tmp_path: Path) -> None:
    path = tmp_path / "نام 文件 é.txt"
    path.write_bytes(encoded(Image.new("RGB", (5, 4), WHITE), form))
    np.testing.assert_array_equal(decode(path), np.full((4, 5, 3), 255, np.uint8))


def test_other_formats_are_refused() -> None:
    with pytest.raises(ImageError, match=r"not a JPEG, PNG.*begins with b'P6"):
        decode(encoded(Image.new("RGB", (1, 1)), "PPM"))


def test_the_pixel_cap_is_checked_before_decoding() -> None:
    data = encoded(Image.new("1", (9000, 9000)))
    with pytest.raises(ImageError, match="9000 x 9000 pixels are more than max_pixels=50000000"):
        decode(data)
    small = encoded(Image.new("1", (10, 10)))
    assert decode(small, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(ImageError, match="max_pixels=99"):
        decode(small, max_pixels=99)


def test_errors_name_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("RGB", (64, 64)))[:60])
    with pytest.raises(ImageError) as caught:
        decode(path)
    assert caught.value.path == str(path)
    assert str(caught.value) == f"cannot read {path}: {caught.value.reason}"
    with pytest.raises(ImageError, match="cannot read image bytes: the file is empty"):
        decode(b"")
    with pytest.raises(ImageError, match="cannot read mine: "):
        decode(b"x", name="mine")
    with pytest.raises(ImageError, match="No such file"):
        decode(tmp_path / "b.png")


def test_names_that_are_no_text_are_printed(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    with pytest.raises(ImageError, match=r"caf\\udce9\.png"):
        decode(path)


@pytest.mark.parametrize("image", [None, 3, np.zeros((2, 2, 3), np.uint8)])
def test_other_arguments_are_refused(image: object) -> None:
    with pytest.raises(TypeError, match="`image` must be a path or bytes"):
        decode(image)
    with pytest.raises(ValueError, match="`max_pixels` must be an integer >= 1"):
        decode(b"", max_pixels=0)


def test_threads_decode_alike() -> None:
    rng = np.random.default_rng(0)
    files = [
        encoded(Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)), form)
        for form in ("JPEG", "PNG", "WEBP", "TIFF") * 10
    ]
    alone = [decode(file) for file in files]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(decode, files), strict=True):
            np.testing.assert_array_equal(one, other)
