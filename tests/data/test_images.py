"""Split, ImageData and k-fold."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from tltoolkit.data import ImageData, from_arrays


def images(count: int) -> np.ndarray:
    """Images that are told apart by their content."""
    values = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(count, 4)
    return np.broadcast_to(values[:, None, :3, None], (count, 2, 3, 3)).copy()


def made(count: int = 60, classes: int = 3, **arguments: object) -> ImageData:
    return from_arrays(images(count), np.arange(count) % classes, **arguments)


def test_a_subset_keeps_labels_and_images_together() -> None:
    split = made().train
    some = split.subset([5, 2, -1])
    assert len(some) == 3
    for place, i in enumerate((5, 2, len(split) - 1)):
        assert some.labels[place] == split.labels[i]
        np.testing.assert_array_equal(some.image(place), split.image(i))
        assert some.name(place) == split.name(i)
    masked = split.subset(split.labels == 1)
    assert masked.class_counts.tolist() == [0, len(masked), 0]
    assert masked.class_names == split.class_names
    assert len(split.subset([])) == 0
    with pytest.raises(IndexError):
        split.subset([len(split)])
    with pytest.raises(IndexError):
        split.subset([0.5])
    with pytest.raises(ValueError, match="`indices` must be one row"):
        split.subset(3)
    with pytest.raises(IndexError):
        split.image(len(split))


def test_splits_cannot_be_changed_by_accident() -> None:
    data = made()
    with pytest.raises(FrozenInstanceError):
        data.train = data.val
    with pytest.raises(ValueError, match="read-only"):
        data.train.labels[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        data.train.image(0)[:] = 0


def test_images_can_be_asked_for_by_many_threads() -> None:
    split = made().train
    with ThreadPoolExecutor(8) as pool:
        for i, image in zip(range(40), pool.map(split.image, range(40)), strict=True):
            np.testing.assert_array_equal(image, split.image(i))


def test_splits_of_other_classes_are_refused() -> None:
    data, other = made(), made(classes=4)
    with pytest.raises(ValueError, match=r"`val\.class_names` must be those of train"):
        replace(data, val=other.val)
    with pytest.raises(ValueError, match="the val split has no images"):
        replace(data, val=data.val.subset([]))
    lacking = data.train.subset(data.train.labels != 1)
    with pytest.raises(ValueError, match="the train split has no image of class 1"):
        replace(data, train=lacking)


def test_labels_must_match_the_images() -> None:
    split = made().train
    with pytest.raises(ValueError, match=f"`labels` must be as many as the {len(split)} images"):
        replace(split, labels=split.labels[:5])


def test_folds_are_a_stratified_partition() -> None:
    data = made(100, 3, test=0.1)
    folds = list(data.kfold(4, seed=1))
    assert len(folds) == 4
    seen: list[int] = []
    for fold in folds:
        seen += fold.val.indices.tolist()
        assert fold.test is data.test
        assert not set(fold.val.indices) & set(fold.train.indices)
        assert len(fold.train) + len(fold.val) == len(data.train) + len(data.val)
        assert fold.val.class_counts.max() - fold.val.class_counts.min() <= 1
        np.testing.assert_array_equal(fold.val.labels, fold.val.indices % 3)
    assert sorted(seen) == sorted([*data.train.indices, *data.val.indices])


def test_folds_depend_on_the_seed_alone() -> None:
    def vals(data: ImageData, seed: int) -> list[list[int]]:
        return [fold.val.indices.tolist() for fold in data.kfold(3, seed=seed)]

    assert vals(made(), 0) == vals(made(seed=5), 0)
    assert vals(made(), 0) != vals(made(), 1)
    assert vals(made(val=0), 0) == vals(made(), 0)


def test_folds_never_share_a_copy() -> None:
    pixels, labels = images(90), np.arange(90) % 3
    pixels[60:] = pixels[:30]
    data = from_arrays(pixels, labels, val=0.25)
    for fold in data.kfold(5):
        train = {fold.train.image(i).tobytes() for i in range(len(fold.train))}
        val = {fold.val.image(i).tobytes() for i in range(len(fold.val))}
        assert not train & val


def test_too_few_images_for_the_folds_are_named() -> None:
    pixels = images(20)
    pixels[1] = pixels[0]
    labels = [0] * 4 + [1] * 16
    data = from_arrays(pixels, labels, class_names=["rare", "usual"])
    assert len(list(data.kfold(3))) == 3
    with pytest.raises(ValueError, match=r"class 'rare' has 3\. Received: n_splits=4"):
        data.kfold(4)
    with pytest.raises(ValueError, match="`n_splits` must be an integer >= 2"):
        data.kfold(1)


def test_folds_of_several_labels_per_image() -> None:
    labels = (np.random.default_rng(0).random((200, 4)) < 0.2).astype(np.uint8)
    data = from_arrays(images(200), labels)
    assert data.multi_label
    counts = np.array([fold.val.class_counts for fold in data.kfold(4)])
    np.testing.assert_array_equal(counts.sum(axis=0), labels.sum(axis=0))
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 4


def test_folds_need_splits_of_one_source() -> None:
    mixed = replace(made(), val=made().val)
    with pytest.raises(ValueError, match="loaded together"):
        mixed.kfold(2)
