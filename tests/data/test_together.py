"""Which images belong together: stated groups, copies, near copies."""

import itertools

import numpy as np
import pytest

from tltoolkit.data import ImageData, duplicates, from_arrays

SIDE = 32


def scenes(count: int) -> np.ndarray:
    """Different pictures, each of a few large patches."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(30, 200, (count, 4, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)


def pairs(data: ImageData) -> set[tuple[int, int]]:
    """Places of images that belong together, validation images behind those of training."""
    splits = [data.train] if data.val is None else [data.train, data.val]
    found = duplicates.together(splits)
    assert found.shape == (sum(map(len, splits)),)
    return {(i, j) for i, j in itertools.combinations(range(len(found)), 2) if found[i] == found[j]}


def data(images: np.ndarray, labels: list[int], **options: object) -> ImageData:
    return from_arrays(images, labels, val=0.0, **options)


def exposures(images: np.ndarray, *originals: int) -> np.ndarray:
    """The images, and brighter versions of some of them behind."""
    return np.concatenate([images, images[list(originals)] + 20])


def test_an_exposure_of_the_same_thing_belongs_to_it() -> None:
    images = exposures(scenes(12), 3, 8)
    labels = [0, 1] * 6 + [1, 0]
    assert pairs(data(images, labels)) == {(3, 12), (8, 13)}


def test_one_of_another_class_does_not() -> None:
    assert pairs(data(exposures(scenes(12), 3), [0, 1] * 6 + [0])) == set()


def test_copies_do_in_any_class() -> None:
    images = scenes(12)
    assert pairs(data(np.concatenate([images, images[3:4]]), [0, 1] * 6 + [0])) == {(3, 12)}


def test_a_class_that_looks_alike_as_a_whole_is_left_apart() -> None:
    images = scenes(20)
    images[10:] = images[10] + np.arange(10, dtype=np.uint8)[:, None, None, None]
    assert pairs(data(exposures(images, 2), [0] * 10 + [1] * 10 + [0])) == {(2, 20)}


def test_stated_groups_and_looks_add_up() -> None:
    images = exposures(scenes(12), 3)
    groups = ["a" if i in (5, 12) else str(i) for i in range(13)]
    labels = [0, 1] * 6 + [1]
    assert pairs(data(images, labels, groups=groups)) == {(3, 5), (3, 12), (5, 12)}


def test_several_labels_count_as_a_whole() -> None:
    labels = np.array([[0, 1], [1, 1]] * 6 + [[1, 1], [0, 1]])
    images = exposures(scenes(12), 3, 5)
    assert pairs(from_arrays(images, labels, val=0.0)) == {(3, 12)}


def test_without_imagehash_copies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "tells_looks", lambda: False)
    images = exposures(scenes(12), 3)
    images = np.concatenate([images, images[4:5]])
    assert pairs(data(images, [0, 1] * 7)) == {(4, 13)}
