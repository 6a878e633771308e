import functools
import threading
import time

import cv2
import numpy as np
import pytest

from tltoolkit import augment
from tltoolkit.augment import Batches, Pipeline

PLAIN = Pipeline(None, 8)
RANDOM = augment.preset("strong", 16, seed=2)


class Source:
    """Images that tell their number: every pixel of image i is i."""

    def __init__(self, n=21, **attributes):
        self.n = n
        self.read = 0
        self.__dict__.update(attributes)

    def __len__(self):
        return self.n

    def image(self, i):
        self.read += 1
        return np.full((10 + i % 3, 12, 3), i, np.uint8)


class Noise(Source):
    def image(self, i):
        time.sleep(0.002 * (i % 2))  # so that threads finish out of order
        return np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def eye(n=21):
    return np.eye(n, dtype=np.float32)


def numbers(batches):
    return [int(image[0, 0, 0]) for images, _ in batches for image in images]


def workers_alive():
    return [t for t in threading.enumerate() if t.name.startswith("tltoolkit")]


def test_one_epoch_in_order():
    batches = Batches(Source(), PLAIN, batch_size=8, targets=eye())
    assert len(batches) == 3
    parts = list(batches)
    assert [images.shape for images, _ in parts] == [(8, 8, 8, 3), (8, 8, 8, 3), (5, 8, 8, 3)]
    assert all(i.dtype == np.uint8 and t.dtype == np.float32 for i, t in parts)
    assert numbers(parts) == list(range(21))
    np.testing.assert_array_equal(np.concatenate([t for _, t in parts]), eye())


def test_shuffling_is_another_permutation_each_epoch():
    batches = Batches(Source(), PLAIN, shuffle=True, targets=eye(), seed=5)
    epochs = [list(batches) for _ in range(3)]
    orders = [numbers(epoch) for epoch in epochs]
    assert all(sorted(order) == list(range(21)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    for epoch, order in zip(epochs, orders, strict=True):
        np.testing.assert_array_equal(np.concatenate([t for _, t in epoch]).argmax(1), order)
    later = Batches(Source(), PLAIN, shuffle=True, targets=eye(), seed=5, epochs_from=2)
    assert numbers(later) == orders[2]
    assert numbers(Batches(Source(), PLAIN, shuffle=True, targets=eye(), seed=6)) != orders[0]


@pytest.mark.parametrize("mix", [None, augment.mixup, augment.cutmix])
def test_workers_do_not_change_a_bit(mix):
    def two_epochs(workers):
        batches = Batches(
            Noise(), RANDOM, batch_size=4, shuffle=True, workers=workers, targets=eye(), mix=mix
        )
        return [part for _ in range(2) for batch in batches for part in batch]

    first, *others = (two_epochs(workers) for workers in (1, 2, 3, 4))
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_augmentation_is_keyed_on_epoch_and_image():
    batches = Batches(Noise(), RANDOM, shuffle=True, targets=eye(), seed=1)
    for epoch in range(2):
        ((images, targets),) = list(batches)
        for image, i in zip(images, targets.argmax(1), strict=True):
            np.testing.assert_array_equal(image, RANDOM(Noise().image(i), epoch, i))


def test_an_epoch_counts_when_its_last_batch_is_out():
    batches = Batches(Source(), PLAIN, batch_size=8, shuffle=True, targets=eye())
    first = numbers(batches)
    batches.epoch = 0
    next(iter(batches))  # left early, so that the epoch comes again
    assert batches.epoch == 0
    iteration = iter(batches)
    for _ in range(3):
        next(iteration)
    assert batches.epoch == 1
    batches.epoch = 0
    assert numbers(batches) == first


def test_leaving_early_ends_the_threads():
    before = cv2.getNumThreads()
    iteration = iter(Batches(Source(), PLAIN, batch_size=2, targets=eye()))
    next(iteration)
    assert workers_alive()
    assert cv2.getNumThreads() == 1
    del iteration
    assert not workers_alive()
    assert cv2.getNumThreads() == before


def test_open_cv_threads_come_back_with_the_last_iteration():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        one, two = (iter(Batches(Source(), PLAIN, batch_size=2)) for _ in range(2))
        next(one), next(two)
        one.close()
        assert cv2.getNumThreads() == 1
        two.close()
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_only_a_few_batches_are_read_ahead():
    source = Source(n=100)
    iteration = iter(Batches(source, PLAIN, batch_size=5))
    next(iteration)
    time.sleep(0.2)
    assert source.read <= 20
    iteration.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_an_unreadable_image_raises_its_own_error(workers):
    class Broken(Source):
        def image(self, i):
            if i >= 13:
                raise OSError(f"cannot read {i}.jpg")
            return super().image(i)

    batches = Batches(Broken(), PLAIN, batch_size=4, workers=workers)
    read = []
    with pytest.raises(OSError, match=r"^cannot read 13.jpg") as caught:
        read.extend(batch for batch in batches)
    assert numbers(read) == list(range(12))
    assert caught.value.__notes__ == ["This was image 13 of the source."]
    assert batches.error is caught.value
    assert not workers_alive()


def test_labels_become_targets():
    indices = Source(3, labels=np.array([2, 0, 2]), class_counts=np.array([1, 0, 2, 0]))
    ((_, targets),) = Batches(indices, PLAIN)
    np.testing.assert_array_equal(targets, np.eye(4)[[2, 0, 2]])
    several = Source(2, labels=np.array([[1, 1, 0], [0, 0, 0]], np.uint8))
    ((_, targets),) = Batches(several, PLAIN)
    np.testing.assert_array_equal(targets, several.labels)
    ((_, targets),) = Batches(Source(2), PLAIN)
    assert targets.shape == (2, 0)


def test_resampling_repeats_images_but_not_their_augmentation():
    def sample(epoch):
        return np.array([3, 3, epoch, 3, 7])

    batches = Batches(Noise(), RANDOM, sample=sample, targets=eye(), batch_size=3)
    assert len(batches) == 2
    for epoch in range(2):
        parts = list(batches)
        images = np.concatenate([i for i, _ in parts])
        labels = np.concatenate([t for _, t in parts]).argmax(1)
        assert labels.tolist() == [3, 3, epoch, 3, 7]
        assert len({image.tobytes() for image in images}) == 5
        np.testing.assert_array_equal(images[0], RANDOM(Noise().image(3), epoch, 3))
        np.testing.assert_array_equal(images[3], RANDOM(Noise().image(3), epoch, 3 + 2 * 21))


def test_resampling_can_be_shuffled():
    def sample(epoch):
        return np.arange(10, 20)

    batches = Batches(Source(), PLAIN, sample=sample, shuffle=True)
    one, two = numbers(batches), numbers(batches)
    assert sorted(one) == sorted(two) == list(range(10, 20))
    assert one != two


def test_mixing_follows_the_epoch():
    batches = Batches(
        Source(), PLAIN, mix=functools.partial(augment.mixup, alpha=1.0), targets=eye()
    )
    ((_, one),), ((_, two),) = list(batches), list(batches)
    assert (one != two).any()
    np.testing.assert_allclose(one.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"epochs_from": 1.5}, "`epochs_from` must be an integer >= 0"),
        ({"workers": 0}, "`workers` must be an integer >= 1"),
        ({"targets": np.arange(21)}, r"`targets` must be \(N, C\) labels of 21 images.*\(21,\)"),
        ({"targets": eye(20)}, r"`targets` must be \(N, C\) labels of 21 images.*\(20, 20\)"),
        ({"sample": lambda epoch: [0, 21]}, r"`sample` must be .* indices in 0..20"),
        ({"sample": lambda epoch: [0.5]}, "`sample` must be a function that returns indices"),
        ({"sample": lambda epoch: np.arange(0)}, "at least one image"),
    ],
)
def test_bad_arguments(options, said):
    with pytest.raises(ValueError, match=said):
        Batches(Source(), PLAIN, **options)


def test_sources_that_cannot_work():
    with pytest.raises(ValueError, match="at least one image"):
        Batches(Source(0), PLAIN)
    with pytest.raises(ValueError, match=r"`targets` must be given.*np.eye\(n_classes\)\[labels\]"):
        Batches(Source(2, labels=np.array([0, 1])), PLAIN)
    batches = Batches(Source(), PLAIN, sample=lambda epoch: np.arange(3 + epoch))
    list(batches)
    with pytest.raises(ValueError, match="the same number of indices for every epoch, 3. .* 4 for"):
        list(batches)
