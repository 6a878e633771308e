"""from_arrays: shapes, labels of all kinds, and what is refused."""

import numpy as np
import pytest

from tltoolkit.data import from_arrays

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 4, 5, 3), np.uint8)
GREY = COLOUR[..., 0]
LABELS = np.arange(20) % 2


@pytest.mark.parametrize("images", [COLOUR, GREY, GREY[..., None], list(COLOUR), list(GREY)])
def test_images_become_rgb(images: object) -> None:
    train = from_arrays(images, LABELS).train
    assert train.paths == (None,) * len(train)
    for i, index in enumerate(train.indices):
        source = np.asarray(images[index])
        expected = source if source.ndim == 3 else source[..., None]
        np.testing.assert_array_equal(train.image(i), np.broadcast_to(expected, (4, 5, 3)))
        assert train.image(i).shape == (4, 5, 3)
        assert train.name(i) == f"images[{index}]"


def test_images_of_different_sizes() -> None:
    images = [RNG.integers(0, 256, (3 + i, 4, 3), np.uint8) for i in range(10)]
    train = from_arrays(images, LABELS[:10]).train
    assert [train.image(i).shape[0] for i in range(len(train))] == (train.indices + 3).tolist()


def test_class_numbers() -> None:
    data = from_arrays(COLOUR, LABELS, val=0.2, test=0.3)
    assert data.class_names == ("0", "1")
    assert sorted(np.concatenate([s.indices for s in data.splits.values()])) == list(range(20))
    for split in data.splits.values():
        np.testing.assert_array_equal(split.labels, LABELS[split.indices])
    assert from_arrays(COLOUR, LABELS, ["no", "yes"]).class_names == ("no", "yes")


def test_texts() -> None:
    texts = ["b", "a"] * 10
    data = from_arrays(COLOUR, texts)
    assert data.class_names == ("a", "b")
    assert [data.train.label_text(i) for i in range(len(data.train))] == [
        texts[index] for index in data.train.indices
    ]
    assert from_arrays(COLOUR, np.array(texts, object), ["b", "a"]).class_names == ("b", "a")
    assert from_arrays(COLOUR, ["10", "9"] * 10).class_names == ("9", "10")


def test_several_labels_per_image() -> None:
    matrix = np.random.default_rng(1).integers(0, 2, (20, 3))
    data = from_arrays(COLOUR, matrix, ["x", "y", "z"])
    assert data.multi_label
    assert data.train.labels.dtype == np.uint8
    for split in data.splits.values():
        np.testing.assert_array_equal(split.labels, matrix[split.indices])
        np.testing.assert_array_equal(split.class_counts, split.labels.sum(axis=0))
    matrix[7] = [1, 0, 1]
    assert from_arrays(COLOUR, matrix, ["x", "y", "z"], val=0).train.label_text(7) == "x|z"


NAN = COLOUR / 255.0
NAN[3, 1, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (NAN, "`images` holds NaN or infinite pixels"),
        ([*COLOUR[:19], NAN[3]], r"`images\[19\]` holds NaN"),
        (COLOUR / 255.0, r"`images` must be uint8 .* dtype float64; convert .*rint\(images \* 255"),
        (COLOUR.astype(np.int64), "`images` must be uint8 .* dtype int64"),
        (COLOUR[..., :2], r"shape \(N, H, W, 3\) or \(N, H, W\). Received: \(20, 4, 5, 2\)"),
        (COLOUR[0], "must have the shape|as many as"),
        (COLOUR[:, :0], "Received: \\(20, 0, 5, 3\\)"),
        ([*COLOUR[:19], COLOUR], r"`images\[19\]` must have the shape \(H, W, 3\)"),
        ([*COLOUR[:19], "a.jpg"], r"`images\[19\]` must be an array"),
        ("a.jpg", "`images` must be an array or a list"),
        ([], "`images` must hold at least one"),
    ],
)
def test_wrong_images_are_named(images: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        from_arrays(images, LABELS)


@pytest.mark.parametrize(
    ("labels", "class_names", "message"),
    [
        (LABELS[:7], None, "`labels` must be as many as the 20 images. Received: labels=7"),
        (LABELS - 1, None, r"`labels` must be class numbers 0\.\.0. Received: labels=-1"),
        (LABELS * 2, None, r"at least 2 images; too few: 1 \(0\)"),
        (LABELS * 5, ["a", "b"], r"class numbers 0\.\.1. Received: labels=5"),
        (LABELS / 2, None, "class numbers 0..C-1 or texts"),
        ([[0, 1], [1]] * 10, None, r"`labels` must be of the shape \(N,\) or \(N, C\)"),
        (np.zeros((20, 2, 2)), None, r"of the shape \(N,\) or \(N, C\)"),
        (np.full((20, 2), 0.5), None, "zeros and ones"),
        (np.ones((20, 2), int), ["a"], "`class_names` must be 2 names"),
        (np.tile([1, 0], (20, 1)), ["a", "b"], r"at least 2 images; too few: b \(0\)"),
        (np.tile([1, 1, 0], (20, 1)), ["a", "b", "c"], r"at least 1 images?; too few: c \(0\)"),
        (["a", "b"] * 10, ["a", "c"], r"among the class names .* Received: labels=\['b'\]"),
        (["a", "cat/dog"] * 10, None, "`class_names` must be .*without slashes.*cat/dog"),
        (["a", " "] * 10, None, "`class_names` must be texts that are not blank"),
        (LABELS, ["a", "a"], r"different from one another. Received: class_names=\['a'\]"),
        (LABELS, "ab", "`class_names` must be a sequence of names"),
        (LABELS, ["a", 2], "`class_names` must be texts"),
        ([0] * 20, None, "at least two classes are needed"),
        ([0] * 19 + [1], None, r"at least 2 images; too few: 1 \(1\)"),
    ],
)
def test_wrong_labels_are_named(labels: object, class_names: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_arrays(COLOUR, labels, class_names)
