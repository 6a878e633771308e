"""Values of more than 8 bits and colour profiles, against closed forms."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from tltoolkit.data import ImageError, decode, profiles

WHITE, RNG = [255, 255, 255], np.random.default_rng(0)
TWELVE = RNG.integers(0, 4096, (6, 7)).astype(np.uint16)
TWELVE[0, :2] = 0, 4095


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}


def png16(values: np.ndarray, *extra: bytes) -> bytes:
    """A PNG of 16 bits: (H, W) grey or (H, W, 2, 3 or 4)."""
    height, width = values.shape[:2]
    kind = COLOUR_TYPE[1 if values.ndim == 2 else values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def sbit(bits: int, channels: int = 1) -> bytes:
    return chunk(b"sBIT", bytes([bits] * channels))


def trns(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def tiff(values: np.ndarray, order: str = "<", **tags: object) -> bytes:
    """An uncompressed TIFF of one strip; `tags` by number, as t281=4095, replace what is usual."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    bits = values.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    given = {int(name[1:]): value for name, value in tags.items()}
    content = given.pop(0, content)
    entries = {
        256: width,
        257: height,
        258: (bits,) * channels,
        259: 1,
        262: 1 if channels == 1 else 2,
        273: 8,
        277: channels,
        278: height,
        279: len(content),
        339: (kind,) * channels,
        **given,
    }
    table, beyond = b"", b""
    start = 8 + len(content)
    for tag in sorted(entries):
        value = entries[tag] if isinstance(entries[tag], tuple) else (entries[tag],)
        packed = struct.pack(f"{order}{len(value)}I", *value)
        if len(packed) > 4:
            at = start + 2 + 12 * len(entries) + 4 + len(beyond)
            beyond += packed
            packed = struct.pack(f"{order}I", at)
        table += struct.pack(f"{order}HHI", tag, 4, len(value)) + packed
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", start)
    count = struct.pack(f"{order}H", len(entries))
    return head + content + count + table + bytes(4) + beyond


def grey(data: bytes) -> np.ndarray:
    pixels = decode(data)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def packed12(values: np.ndarray) -> bytes:
    """Rows of 12-bit values, two in three bytes, the first in the high bits."""
    text = "".join("".join(f"{v:012b}" for v in row) + "0" * (-12 * len(row) % 8) for row in values)
    return int(text, 2).to_bytes(len(text) // 8, "big")


@pytest.mark.parametrize("order", "<>")
def test_12_bits_in_a_16_bit_tiff_are_scaled_by_what_it_says(order: str) -> None:
    expected = TWELVE >> 4
    np.testing.assert_array_equal(grey(tiff(TWELVE, order, t281=4095)), expected)
    np.testing.assert_array_equal(grey(tiff(TWELVE, order)), TWELVE >> 8)  # nothing is said
    colours = np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1]], axis=-1)
    found = decode(tiff(colours, order, t281=(4095,) * 3))
    np.testing.assert_array_equal(found, colours >> 4)
    np.testing.assert_array_equal(decode(tiff(colours, order)), colours >> 8)


def test_a_tiff_of_packed_12_bits_is_scaled() -> None:
    content = packed12(TWELVE)
    data = tiff(TWELVE, t258=12, t0=content, t279=len(content))
    np.testing.assert_array_equal(grey(data), TWELVE >> 4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("shape", [(6, 7), (2, 7, 3)])
def test_compressed_tiffs_are_scaled_alike(order: str, shape: tuple[int, ...]) -> None:
    values = TWELVE.reshape(shape)
    content = zlib.compress(values.astype(f"{order}u2").tobytes())
    data = tiff(values, order, t259=8, t0=content, t279=len(content), t281=4095)
    found = decode(data)
    np.testing.assert_array_equal(found if values.ndim == 3 else found[..., 0], values >> 4)


def test_a_largest_value_that_is_a_statistic_is_none_of_a_depth() -> None:
    np.testing.assert_array_equal(grey(tiff(TWELVE, t281=4000)), TWELVE >> 8)
    sixteen = TWELVE * 16  # and one that the values contradict is none either
    np.testing.assert_array_equal(grey(tiff(sixteen, t281=4095)), sixteen >> 8)


def test_a_png_says_by_sbit() -> None:
    np.testing.assert_array_equal(grey(png16(TWELVE, sbit(12))), TWELVE >> 4)
    np.testing.assert_array_equal(grey(png16(TWELVE)), TWELVE >> 8)
    # As the standard has it, the values are moved to the high end, and filled up or not.
    for moved in (TWELVE * 16, TWELVE * 16 + (TWELVE >> 8)):
        np.testing.assert_array_equal(grey(png16(moved, sbit(12))), moved >> 8)
    dark = TWELVE >> 5 << 4
    np.testing.assert_array_equal(grey(png16(dark, sbit(12))), dark >> 8)


@pytest.mark.parametrize("channels", [3, 4, 2])
def test_colours_and_alpha_of_a_png_are_scaled_by_sbit(channels: int) -> None:
    values = np.stack([np.roll(TWELVE, c) for c in range(channels)], axis=-1)
    if channels != 3:
        values[..., -1] = 4095
    colours = values[..., :1] if channels == 2 else values[..., :3]
    found = decode(png16(values, sbit(12, channels)))
    np.testing.assert_array_equal(found, np.broadcast_to(colours >> 4, found.shape))


def test_a_transparent_value_of_16_bits_is_white() -> None:
    values = np.array([[1000, 1001, 60000]], np.uint16)
    assert grey(png16(values, trns(1000))).tolist() == [[255, 1001 >> 8, 60000 >> 8]]
    colours = np.array([[[1000, 2000, 3000], [1000, 2000, 3001]]], np.uint16)
    found = decode(png16(colours, trns(1000, 2000, 3000)))
    assert found.tolist() == [[WHITE, [3, 7, 11]]]


def test_signed_values_are_scaled_by_their_bits() -> None:
    values = np.array([[0, 128, 16384, 32767]], np.int16)
    for order in "<>":
        assert grey(tiff(values, order)).tolist() == [[0, 1, 128, 255]]
    assert grey(tiff(np.array([[0, 1, 127]], np.int8))).tolist() == [[0, 2, 254]]
    for kind in (np.int8, np.int16, np.int32):
        with pytest.raises(ImageError, match="a TIFF, but negative values"):
            decode(tiff(np.array([[-1, 5]], kind)))


def test_colours_that_would_come_out_wrong_are_refused() -> None:
    four = np.stack([TWELVE] * 4, axis=-1)
    for tags in ({"t262": 5}, {"t338": 1}):  # inks, premultiplied alpha
        assert decode(tiff(four, **tags)).shape == (6, 7, 3)
        with pytest.raises(ImageError, match="fewer than 16 bits in .* are not supported"):
            decode(tiff(four, t281=4095, **tags))
    colours = np.stack([TWELVE * 16, TWELVE * 8, TWELVE * 4], axis=-1)
    planes = [colours[..., c].astype("<u2").tobytes() for c in range(3)]
    packed = [zlib.compress(plane) for plane in planes]
    for parts, compression in ((planes, 1), (packed, 8)):
        sizes = tuple(map(len, parts))
        starts = tuple(8 + sum(sizes[:c]) for c in range(3))
        tags = {"t284": 2, "t259": compression, "t273": starts, "t279": sizes}
        data = tiff(colours, t0=b"".join(parts), **tags)
        if compression == 8:
            np.testing.assert_array_equal(decode(data), colours >> 8)
        else:
            with pytest.raises(ImageError, match="16 bits in uncompressed planes are not"):
                decode(data)


def test_where_0_is_white_it_is_so_in_16_bits_too() -> None:
    assert grey(tiff(np.array([[0, 255]], np.uint8), t262=0)).tolist() == [[255, 0]]
    assert grey(tiff(np.array([[0, 65535]], np.uint16), t262=0)).tolist() == [[255, 0]]
    assert grey(tiff(np.array([[0, 4095]], np.uint16), t262=0, t281=4095)).tolist() == [[255, 0]]
    assert grey(tiff(np.array([[0, 1]], np.float32), t262=0)).tolist() == [[255, 0]]


# Colour profiles: primaries adapted to D50, as the profiles of these spaces have them.
P3 = [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
ADOBE = [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
SRGB = [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
D50 = [0.9642, 1.0, 0.8249]


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


def profile(kind: bytes, space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {b"desc": text + b"\0" * (-len(text) % 4), b"wtpt": xyz(*D50), **tags}
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(content), len(tag))
        content += tag
    head = struct.pack(">I4sI", start + len(content), b"\0\0\0\0", 0x02400000)
    head += kind + space + pcs + bytes(12) + b"acsp" + bytes(28) + xyz(*D50)[8:] + bytes(48)
    return head + table + content


def matrix_profile(matrix: list[list[float]], power: float) -> bytes:
    columns = np.array(matrix).T
    tags = {
        name + b"XYZ": xyz(*column)
        for name, column in zip((b"r", b"g", b"b"), columns, strict=True)
    }
    curves = {name + b"TRC": gamma(power) for name in (b"r", b"g", b"b")}
    return profile(b"mntr", b"RGB ", b"XYZ ", tags | curves)


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    low = linear <= 0.0031308
    return 255 * np.where(low, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def as_srgb(pixels: np.ndarray, matrix: list[list[float]], power: float) -> np.ndarray:
    linear = (pixels / 255) ** power @ np.array(matrix).T @ np.linalg.inv(np.array(SRGB)).T
    return encode_srgb(linear)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


PIXELS = RNG.integers(0, 256, (20, 20, 3), np.uint8)
SPACES = {"Display P3": (P3, 2.2), "Adobe RGB": (ADOBE, 2.19921875)}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("space", SPACES)
def test_wide_colours_are_converted_to_srgb(space: str, form: str) -> None:
    matrix, power = SPACES[space]
    expected = as_srgb(PIXELS, matrix, power)
    options = {"lossless": True} if form == "WEBP" else {}
    icc = matrix_profile(matrix, power)
    found = decode(encoded(Image.fromarray(PIXELS), form, icc_profile=icc, **options)).astype(int)
    assert np.abs(found - expected).max() <= 2
    assert np.abs(PIXELS - expected).mean() > 5


def test_a_jpeg_is_converted_at_every_scale() -> None:
    big = Image.fromarray(np.full((400, 400, 3), (200, 80, 60), np.uint8))
    data = encoded(big, "JPEG", quality=98, icc_profile=matrix_profile(P3, 2.2))
    expected = as_srgb(np.array([200, 80, 60]), P3, 2.2)
    for side in (None, 50):
        assert np.abs(decode(data, side=side)[5, 5] - expected).max() <= 4


def test_transparent_pixels_are_converted_before_they_meet_white() -> None:
    icc = matrix_profile(P3, 2.2)
    pixels = np.array([[[200, 80, 60, 255], [200, 80, 60, 0], [200, 80, 60, 128]]], np.uint8)
    colour = as_srgb(np.array([200, 80, 60]), P3, 2.2)
    expected = [colour, WHITE, colour * 128 / 255 + 127]
    found = decode(encoded(Image.fromarray(pixels), icc_profile=icc))[0]
    assert np.abs(found - np.array(expected)).max() <= 2
    palette = Image.fromarray(pixels[..., :3]).quantize(2)
    assert np.abs(decode(encoded(palette, icc_profile=icc))[0, 0] - colour).max() <= 2


def test_grey_is_converted() -> None:
    icc = profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma(1.8)})
    ramp = np.arange(256, dtype=np.uint8)[None]
    expected = encode_srgb((ramp / 255) ** 1.796875)  # as the profile holds 1.8
    found = grey(encoded(Image.fromarray(ramp), icc_profile=icc)).astype(int)
    assert np.abs(found - expected).max() <= 2
    with_alpha = Image.fromarray(np.stack([ramp, np.full_like(ramp, 255)], axis=-1))
    assert np.abs(grey(encoded(with_alpha, icc_profile=icc)) - expected).max() <= 2
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert np.abs(grey(encoded(deep, icc_profile=icc)) - expected).max() <= 2


# Lab colours of inks and their prints; the other corners are black.
INKS = {0b0000: (100, 0, 0), 0b1000: (55, -37, -50), 0b0100: (48, 74, -3), 0b0010: (89, -5, 93)}


def ink_profile() -> bytes:
    """A CMYK profile: a table of the 16 corners, cyan first."""
    ramp = bytes(range(256))
    corners = [INKS.get(corner, (0, 0, 0)) for corner in range(16)]
    table = bytes(v for L, a, b in corners for v in (round(L * 2.55), a + 128, b + 128))
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    return profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut + b"\0" * (-len(lut) % 4)})


def lab_as_srgb(lightness: float, a: float, b: float) -> np.ndarray:
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    white = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return encode_srgb(np.linalg.inv(np.array(SRGB)) @ white)


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
@pytest.mark.parametrize("corner", INKS)
def test_inks_are_converted(corner: int, form: str) -> None:
    inks = tuple(255 * (corner >> 3 - i & 1) for i in range(4))
    data = encoded(Image.new("CMYK", (8, 8), inks), form, icc_profile=ink_profile())
    assert np.abs(decode(data)[4, 4] - lab_as_srgb(*INKS[corner])).max() <= 4
    plain = decode(encoded(Image.new("CMYK", (8, 8), inks), form))[4, 4]  # no profile: 255 - ink
    assert np.abs(plain.astype(int) - (255 - np.array(inks[:3]))).max() <= 3


SRGB_ITSELF = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "icc",
    [b"", b"nonsense", matrix_profile(P3, 2.2)[:200], ink_profile(), SRGB_ITSELF],
    ids=["empty", "nonsense", "cut off", "of another space", "sRGB"],
)
def test_other_profiles_change_nothing(icc: bytes) -> None:
    data = encoded(Image.fromarray(PIXELS), icc_profile=icc)
    np.testing.assert_array_equal(decode(data), PIXELS)


def test_threads_convert_alike_and_build_each_conversion_once() -> None:
    profiles._transform.cache_clear()
    icc = matrix_profile(ADOBE, 2.2)
    data = encoded(Image.fromarray(RNG.integers(0, 256, (90, 80, 3), np.uint8)), icc_profile=icc)
    alone = decode(data)
    with ThreadPoolExecutor(8) as pool:
        for other in pool.map(decode, [data] * 40):
            np.testing.assert_array_equal(other, alone)
    assert profiles._transform.cache_info().misses == 1
