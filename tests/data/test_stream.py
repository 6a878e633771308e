"""from_stream: the same data as from_arrays, from whatever can be read once and in order."""

import functools
import io
import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.data import decode, from_arrays, from_stream
from tltoolkit.data.spool import Spool
from tltoolkit.runs.started import fingerprint

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3), np.uint8)
IMAGES[[7, 9]] = IMAGES[5]  # copies, which must stay in one split
LABELS = np.arange(40) % 2
TEXTS = [["cat", "dög"][number] for number in LABELS]
SETTINGS: dict[str, Any] = {"val": 0.2, "test": 0.1, "seed": 3}


def encoded(image: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


def assert_same(data: tl.data.ImageData, expected: tl.data.ImageData) -> None:
    assert data.splits.keys() == expected.splits.keys()
    for split, other in zip(data.splits.values(), expected.splits.values(), strict=True):
        assert_same_split(split, other)


def whole(data: tl.data.ImageData) -> tl.data.Split:
    """All images in their order, whatever their split."""
    splits = list(data.splits.values())
    joined = functools.reduce(tl.data.Split.joined, splits)
    return joined.subset(np.argsort(joined.indices))


def assert_same_split(*splits: tl.data.Split) -> None:
    for split, other in [splits]:
        assert split.class_names == other.class_names
        np.testing.assert_array_equal(split.indices, other.indices)
        np.testing.assert_array_equal(split.labels, other.labels)
        assert split.labels.dtype == other.labels.dtype
        for i in range(len(split)):
            np.testing.assert_array_equal(split.image(i), other.image(i))
            assert not split.image(i).flags.writeable


class LikeTorch:
    """A data set without __iter__, that says by IndexError where it ends."""

    def __init__(self, labels: Any) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Image.Image, Any]:
        return Image.fromarray(IMAGES[i]), self.labels[i]


def dataset(labels: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((IMAGES, np.asarray(labels)))


STREAMS = {
    "generator": lambda labels: ((i, label) for i, label in zip(IMAGES, labels, strict=True)),
    "lists": lambda labels: [list(pair) for pair in zip(IMAGES, labels, strict=True)],
    "tf.data": dataset,
    "tf.data mappings": lambda labels: dataset(labels).map(
        lambda image, label: {"image": image, "label": label, "id": 0}
    ),
    "tf.data PNG": lambda labels: dataset(labels).map(
        lambda image, label: (tf.io.encode_png(image), label)
    ),
    "Pillow": LikeTorch,
    "files of Hugging Face": lambda labels: (
        {"image": {"bytes": encoded(image, "PNG"), "path": None}, "label": label}
        for image, label in zip(IMAGES, labels, strict=True)
    ),
}


@pytest.mark.parametrize("labels", [LABELS, TEXTS, np.eye(3)[LABELS] + np.eye(3)[2]])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_the_same_as_arrays(stream: Any, labels: Any) -> None:
    data = from_stream(stream(labels), **SETTINGS)
    expected = from_arrays(IMAGES, labels, **SETTINGS)
    assert_same_split(whole(data), whole(expected))
    if data.train.source.digest(0) == expected.train.source.digest(0):
        assert_same(data, expected)  # the pixels came; a PNG file of them is another content
    for split in data.splits.values():
        assert set(split.indices) & {5, 7, 9} in (set(), {5, 7, 9})
    assert data.check() is data


def test_class_names_and_other_keys() -> None:
    rows = [{"pixels": i, "y": label} for i, label in zip(IMAGES, TEXTS, strict=True)]
    names = ["dög", "cat"]
    data = from_stream(iter(rows), names, image="pixels", label="y", **SETTINGS)
    assert_same(data, from_arrays(IMAGES, TEXTS, names, **SETTINGS))
    assert from_stream(zip(IMAGES, LABELS, strict=True), names).class_names == ("dög", "cat")


@pytest.mark.parametrize("grey", [IMAGES[..., 0], IMAGES[..., :1]])
def test_grey_images(grey: np.ndarray) -> None:
    data = from_stream(zip(grey, LABELS, strict=True), **SETTINGS)
    assert_same(data, from_arrays(grey, LABELS, **SETTINGS))


def test_images_of_all_sizes_and_forms_in_one_stream() -> None:
    mixed = [IMAGES[i][:, ::-1][: 2 + i % 4] for i in range(40)]  # not contiguous
    expected = list(mixed)
    for i in range(0, 40, 3):
        mixed[i] = encoded(mixed[i], "JPEG")
        expected[i] = decode(mixed[i])
    for i in range(1, 40, 6):
        mixed[i] = Image.fromarray(mixed[i]).quantize()
        expected[i] = np.asarray(mixed[i].convert("RGB"))
    data = from_stream(zip(mixed, LABELS, strict=True), val=0)
    assert_same(data, from_arrays(expected, LABELS, val=0))
    source = data.train.source
    assert source.size(0) == len(mixed[0])
    assert source.size(2) == mixed[2].size


def test_the_orientation_of_a_pillow_image_is_applied() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGES[0]).save(file, "PNG", exif=exif)
    data = from_stream(((Image.open(file), label) for label in [0, 0, 1, 1]), val=0)
    np.testing.assert_array_equal(data.train.image(0), np.rot90(IMAGES[0], -1))


def test_what_a_source_must_tell() -> None:
    data = from_stream(zip(IMAGES, LABELS, strict=True), **SETTINGS)
    source = data.train.source
    assert len(source) == 40
    assert data.train.name(4) == f"example {data.train.indices[4]} of the stream"
    assert data.train.paths == (None,) * len(data.train)
    assert source.size(0) == 90
    assert source.stamp(0) is None
    assert source.digest(5) == source.digest(7) != source.digest(6)
    transposed = from_stream(
        [(np.zeros(s, np.uint8), i // 2) for i, s in enumerate([(2, 3)] * 2 + [(3, 2)] * 2)]
    )
    assert transposed.train.source.digest(0) != transposed.train.source.digest(2)
    assert "duplicate" in str(data.audit())
    assert len(list(data.kfold(4))) == 4


def test_the_fingerprint_of_a_run_tells_streams_apart() -> None:
    """By content: examples of one stream and another have the same names, and often sizes."""
    one, same, other = (
        fingerprint(from_stream(zip(images, LABELS, strict=True)).train, None)
        for images in (IMAGES, IMAGES, IMAGES ^ 1)
    )
    assert one == same != other


def test_many_threads_read_at_once() -> None:
    split = from_stream(zip(IMAGES, LABELS, strict=True), val=0).train
    order = RNG.permutation(len(split)).tolist() * 50
    with ThreadPoolExecutor(8) as pool:
        for i, image in zip(order, pool.map(split.image, order), strict=True):
            np.testing.assert_array_equal(image, IMAGES[i])


def test_a_stream_is_read_once_and_before_anything_is_asked() -> None:
    handed = []

    def stream() -> Iterator[tuple[np.ndarray, int]]:
        for i in range(40):
            handed.append(i)
            yield IMAGES[i], i % 2

    data = from_stream(stream())
    data.check()
    assert handed == list(range(40))


def test_files_that_cannot_be_read_are_left_to_on_bad() -> None:
    stream = [(encoded(image, "PNG"), label) for image, label in zip(IMAGES, LABELS, strict=True)]
    stream[3] = (b"<html>", 1)
    stream[8] = (b"", 0)
    with pytest.raises(ValueError, match=r"2 of 40(.|\n)*example 3 of the stream: not a JPEG"):
        from_stream(stream).check()
    with pytest.warns(UserWarning, match="example 8 of the stream: the file is empty"):
        data = from_stream(stream, on_bad="skip").check()
    assert data.skipped == {"unreadable": 2}
    with pytest.raises(ValueError, match="40 of 40 images cannot be read"):
        from_stream(stream, max_pixels=29).check()


def test_the_same_image_in_two_splits_cannot_happen() -> None:
    data = from_stream([(IMAGES[i % 10], i % 2) for i in range(40)], val=0.3, duplicates="error")
    assert data.check() is data


def pairs(*changed: tuple[int, Any]) -> list[Any]:
    rows: list[Any] = list(zip(IMAGES, LABELS.tolist(), strict=True))
    for place, example in changed:
        rows[place] = example
    return rows


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (3, r"`examples` must be an iterable of pairs \(image, label\).*examples=3"),
        (pairs, "a generator function must be called"),
        ([], "`examples` must hold at least one"),
        (IMAGES, r"`examples\[0\]` must be a pair \(image, label\).*='ndarray'"),
        (pairs((17, (IMAGES[0], 1, 1.0))), r"`examples\[17\]` must be a pair .*='tuple of 3'"),
        (pairs((2, {"image": IMAGES[0], "y": 1})), r"`label` must be a key of examples\[2\], one"),
        (pairs((2, {"img": IMAGES[0]})), r"`image` must be a key of examples\[2\], one of \['img"),
        (dataset(LABELS).batch(8), r"`examples\[0\]` must be .*unbatch.*=\(8, 6, 5, 3\)"),
        (dataset(LABELS).repeat(), r"`examples` must be finite: dataset\.take\(n\)"),
    ],
)
def test_an_example_of_another_form_is_named(examples: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        from_stream(examples)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("a.jpg", "be an example whose image is .*, no path. Received: .*'a.jpg'"),
        (None, "be an example whose image is a file's bytes, .*=None"),
        (IMAGES[0] / 255, "be uint8.*float64; convert"),
        (IMAGES[0] * np.nan, "NaN"),
        (IMAGES[0, 0, 0], r"have the shape \(H, W, 3\)"),
        (IMAGES[0][..., :2], r"Received: \(6, 5, 2\)"),
    ],
)
def test_an_image_of_another_form_is_named(image: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"`examples\[4\]` (must|holds) .*" + message):
        from_stream(pairs((4, (image, 1))))


KIND = "is a class number 0..C-1, a text, or a row of zeros and ones. Received: "


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("cat", r"is of the form of the first one, 0\. Received: examples\[4\]='cat'"),
        ([0, 1], "is of the form of the first one, 0"),
        (-1, KIND + r"examples\[4\]=-1"),
        (0.5, KIND + r"examples\[4\]=0\.5"),
        (None, KIND + r"examples\[4\]=None"),
        (True, r"is of the form of the first one, 0\. Received: examples\[4\]=True"),
        (2**40, KIND + r"examples\[4\]=1099511627776"),
        ([0, 2], KIND + r"examples\[4\]=\[0, 2\]"),
        ([[0], [0, 1]], KIND + r"examples\[4\]=\[\[0\], \[0, 1\]\]"),
    ],
)
def test_a_label_of_another_form_is_named(label: Any, message: str) -> None:
    with pytest.raises(
        ValueError, match=r"`examples\[4\]` must be an example whose label " + message
    ):
        from_stream(pairs((4, (IMAGES[0], label))))


def test_labels_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match=r"`examples\[20\]` must be .* form of the first one"):
        from_stream((image, [0, 1][: 1 + i // 20]) for i, image in enumerate(IMAGES))
    with pytest.raises(ValueError, match="`labels` must be class numbers 0..C-1 without gaps"):
        from_stream(pairs((4, (IMAGES[0], 10**9))))
    with pytest.raises(ValueError, match=r"at least 2 images; too few: 2 \(0\), 3 \(1\)"):
        from_stream(pairs((4, (IMAGES[0], 3))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 2}, "`val` must be"),
        ({"on_bad": "ignore"}, "`on_bad` must be one of"),
        ({"duplicates": "ignore"}, "`duplicates` must be one of"),
        ({"max_pixels": 0}, "`max_pixels` must be"),
        ({"spool_gb": 0}, "`spool_gb` must be a finite number > 0"),
        ({"spool_dir": "/no/such"}, "`spool_dir` must be a folder .*Received: spool_dir='/no/such"),
        ({"class_names": "ab"}, "`class_names` must be a sequence of names"),
        ({"class_names": ["a", "a"]}, "`class_names` must be different"),
        (
            {"class_names": ["a"]},
            r"`examples\[1\]` must .* is of the classes \('a',\)",
        ),
    ],
)
def test_bad_arguments_are_refused_early(options: dict[str, Any], message: str) -> None:
    handed = []
    stream = (handed.append(i) or (IMAGES[i], LABELS[i]) for i in range(40))
    with pytest.raises(ValueError, match=message):
        from_stream(stream, **options)
    assert len(handed) < 3


def test_labels_must_be_of_the_given_classes() -> None:
    message = r"`examples\[0\]` must be an example whose label is of the classes \('cow', 'dog'"
    with pytest.raises(ValueError, match=message):
        from_stream(zip(IMAGES, TEXTS, strict=True), ["cow", "dog"])
    with pytest.raises(ValueError, match=message):
        from_stream(zip(IMAGES, np.eye(2)[LABELS], strict=True), ["cow", "dog", "sheep"])


def test_a_stream_that_does_not_end_meets_the_limit() -> None:
    endless = itertools.cycle(zip(IMAGES, LABELS, strict=True))
    with pytest.raises(ValueError, match=r"`spool_gb` must be larger: 119 examples .*=1e-05"):
        from_stream(endless, spool_gb=1e-5)
    whole = from_stream(zip(IMAGES, LABELS, strict=True), spool_gb=3600 / 2**30, val=0)
    assert len(whole.train) == 40


def test_an_error_of_the_stream_itself_comes_through() -> None:
    def stream() -> Iterator[tuple[np.ndarray, int]]:
        yield IMAGES[0], 0
        raise ConnectionError("the line is cut")

    with pytest.raises(ConnectionError, match="the line is cut"):
        from_stream(stream())


def test_the_file_has_no_name(tmp_path: Path) -> None:
    data = from_stream(zip(IMAGES, LABELS, strict=True), spool_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(data.train.image(0), IMAGES[data.train.indices[0]])


def test_a_spool_keeps_what_it_is_given(tmp_path: Path) -> None:
    spool = Spool(1, tmp_path)
    contents = [b"one", b"", b"three" * 1000]
    for content in contents:
        spool.append(content)
    assert [spool.read(i) for i in range(3)] == contents
    assert [spool.size(i) for i in range(3)] == [3, 0, 5000]


CHILD = """
import resource, sys
import numpy as np
from tltoolkit.data import from_stream

count, limit = map(int, sys.argv[1:3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
rng = np.random.default_rng(0)
stream = ((rng.integers(0, 256, (128, 128, 3), np.uint8), i % 2) for i in range(count))
try:
    data = from_stream(stream, spool_dir=sys.argv[3])
except OSError as error:
    sys.exit(str(error))
for i in range(len(data.train)):
    data.train.image(i)
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
"""


def child(count: int, limit: int, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", CHILD, str(count), str(limit), str(folder)]
    return subprocess.run(arguments, capture_output=True, text=True)


def test_memory_does_not_grow_with_the_stream(tmp_path: Path) -> None:
    small, large = (int(child(count, 0, tmp_path).stdout) for count in (100, 3000))
    assert large - small < 5_000  # kB, for 139,000 kB more of pixels


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    # A limit on file sizes stands for a full disk: both make the write fail.
    said = child(100, 1_000_000, tmp_path).stderr
    assert (
        f"after 20 examples of the stream (0.00 GiB) no more can be written to {tmp_path}" in said
    )
    assert "pass `spool_dir`, a folder with more room" in said


SIZE = 32


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(2, "softmax", name="scores")(x))


def test_what_needs_random_access_names_the_way() -> None:
    model = small_model()
    predictor = Predictor(model=model, class_names=("0", "1"))
    for stream in (dataset(LABELS), (pair for pair in pairs())):
        with pytest.raises(TypeError, match=r"`data` must be an ImageData.*tl\.data\.from_stream"):
            tl.fine_tune(model, stream)
        with pytest.raises(TypeError, match=r"`data` must be an ImageData.*tl\.data\.from_stream"):
            tl.cross_validate(small_model, stream)
        with pytest.raises(TypeError, match=r"`split` must be a Split.*tl\.data\.from_stream"):
            tl.evaluate(model, stream)
        with pytest.raises(ValueError, match="`images` must be a sequence.*`stream` takes what"):
            predictor.predict(stream)


def train(data: tl.data.ImageData) -> list[np.ndarray]:
    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=2),))
    return tl.fine_tune(small_model(), data, plan, "medium", verbose=0).model.get_weights()


def test_training_on_a_stream_equals_training_on_arrays() -> None:
    images = RNG.integers(0, 256, (24, SIZE, SIZE, 3), np.uint8)
    labels = np.arange(24) % 2
    stream = tf.data.Dataset.from_tensor_slices((images, labels))
    of_stream, of_arrays = (
        train(data)
        for data in (from_stream(stream, val=0.25), from_arrays(images, labels, val=0.25))
    )
    assert len(of_stream) == 6
    for one, other, start in zip(of_stream, of_arrays, small_model().get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, start)
