"""Large JPEGs at reduced scale: one rule, the same pixels on every path, the whole on request."""

import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.augment import Batches, Pipeline, images, labels
from tltoolkit.data import decode, from_directory, from_stream
from tltoolkit.data.sources import Files

SIDE = 16


def photo(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """Noise on several scales, so that every way of shrinking gives pixels of its own."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for step in (1, 4, 16):
        small = rng.integers(0, 256, (-(-height // step), -(-width // step), 3), np.uint8)
        total += np.asarray(Image.fromarray(small).resize((width, height)), float) / 3
    return Image.fromarray(total.astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


@pytest.mark.parametrize("width", [31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 700])
@pytest.mark.parametrize("height", [40, 64, 300])
def test_both_sides_stay_twice_the_wanted_one(width: int, height: int) -> None:
    scale = next(s for s in (8, 4, 2, 1) if s == 1 or min(width, height) >= 2 * SIDE * s)
    data = jpeg(photo(0, width, height))
    assert decode(data, side=SIDE).shape == (-(-height // scale), -(-width // scale), 3)
    assert decode(data).shape == (height, width, 3)


def test_it_looks_like_the_whole() -> None:
    data = jpeg(photo(1, 640, 480))
    whole = images.resize(decode(data), SIDE).astype(int)
    reduced = images.resize(decode(data, side=SIDE), SIDE)
    assert 0 < np.abs(reduced - whole).mean() < 1


def test_it_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = decode(jpeg(photo(2)), side=SIDE)
    turned = decode(jpeg(photo(2), exif=exif.tobytes()), side=SIDE)
    assert stored.shape == (60, 80, 3)
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_inks_are_reduced_too(mode: str) -> None:
    assert decode(jpeg(photo(3).convert(mode)), side=SIDE).shape == (60, 80, 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_have_no_reduced_scale(form: str) -> None:
    file = io.BytesIO()
    photo(4).save(file, form)
    np.testing.assert_array_equal(decode(file.getvalue(), side=1), decode(file.getvalue()))


def test_the_cap_holds_for_the_whole() -> None:
    with pytest.raises(tl.data.ImageError, match="160 x 120 pixels are more than max_pixels=10000"):
        decode(jpeg(photo(0)), side=1, max_pixels=10_000)
    with pytest.raises(ValueError, match="`side` must be an integer >= 1"):
        decode(jpeg(photo(0)), side=0)


def test_a_cut_jpeg_is_refused_at_every_scale() -> None:
    data = jpeg(photo(0))
    for side in (None, 1, SIDE):
        with pytest.raises(tl.data.ImageError, match="a JPEG, but image file is truncated"):
            decode(data[: len(data) // 2], side=side)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i in range(8):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(photo(i)))
    return from_directory(tmp_path / "photos", val=0.5)


def squares(split: Any) -> np.ndarray:
    """What every path should show: each file decoded for SIDE, then made square."""
    return np.stack([images.resize(decode(path, side=SIDE), SIDE) for path in split.paths])


def test_training_and_evaluation_and_prediction_see_the_same_pixels(data: Any) -> None:
    expected = squares(data.val)
    shown = np.concatenate([x for x, _ in Batches(data.val, Pipeline(None, SIDE), batch_size=3)])
    np.testing.assert_array_equal(shown, expected)
    inputs = keras.Input((SIDE, SIDE, 3))
    pooled = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(pooled))
    reference = model.predict(expected.astype(np.float32), verbose=0)
    report = tl.evaluate(model, data.val)
    np.testing.assert_allclose(report.probabilities, reference, atol=1e-6)
    predictor = Predictor(model=model, class_names=data.class_names)
    said = predictor.predict(list(data.val.paths))
    probabilities = [[one.probabilities[name] for name in "ab"] for one in said]
    np.testing.assert_allclose(probabilities, reference, atol=1e-6)


def test_an_image_without_a_purpose_is_whole(data: Any) -> None:
    assert data.train.image(0).shape == (120, 160, 3)
    assert data.train.image(0, side=SIDE).shape == (60, 80, 3)
    assert data.train.subset([1]).image(0, SIDE).shape == (60, 80, 3)


def test_files_in_a_stream_are_reduced_and_pixels_are_not(data: Any) -> None:
    contents = [Path(path).read_bytes() for path in data.train.paths]
    stream = from_stream(zip(contents, data.train.labels.tolist(), strict=True), val=0)
    for i, path in enumerate(data.train.paths):
        np.testing.assert_array_equal(stream.train.image(i, SIDE), decode(path, side=SIDE))
    pixels = np.zeros((4, 64, 64, 3), np.uint8)
    arrays = tl.data.from_arrays(pixels, [0, 0, 1, 1], val=0)
    assert arrays.train.image(0, SIDE).shape == (64, 64, 3)


def test_a_source_that_knows_nothing_of_it_is_asked_as_before(data: Any) -> None:
    class Dark(Files):
        def image(self, index: int) -> np.ndarray:
            return super().image(index) // 2

    source = Dark(data.train.source._paths, 10**6)
    split = tl.data.Split(
        source=source,
        indices=np.arange(len(source)),
        labels=np.zeros(len(source), np.int64),
        class_names=("a",),
    )
    expected = images.resize(decode(source.path(3)) // 2, SIDE)
    batches = list(Batches(split, Pipeline(None, SIDE)))
    np.testing.assert_array_equal(batches[0][0][3], expected)

    class Bare:
        def __len__(self) -> int:
            return 1

        def image(self, i: int, /) -> np.ndarray:
            return decode(source.path(3))

    np.testing.assert_array_equal(labels.reader(Bare(), SIDE)(0), decode(source.path(3)))


def test_damage_is_found_at_every_scale_or_at_none() -> None:
    """What `check` has passed at reduced scale can be read whole."""
    rng, original = np.random.default_rng(0), jpeg(photo(0, 72, 64))
    outcomes: list[bool] = []
    for i in range(400):
        content = bytearray(original)
        for place in rng.integers(0, len(content) if i % 2 else 700, 1 + i % 8):
            content[place] = rng.integers(0, 256)
        readable = []
        for side in (None, 4, 16):
            try:
                decode(bytes(content), side=side)
                readable.append(True)
            except tl.data.ImageError:
                readable.append(False)
        assert len(set(readable)) == 1, (i, readable)
        outcomes.append(readable[0])
    assert 50 < sum(outcomes) < 350
