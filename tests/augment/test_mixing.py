import numpy as np
import pytest

from tltoolkit.augment import cutmix, mixup


def batch(n=16, dtype=np.uint8):
    images = np.random.default_rng(0).integers(0, 256, (n, 12, 10, 3)).astype(dtype)
    return images, np.eye(n, dtype=np.float32)


def recovered(targets):
    """Partner and own share of each row, read from the one-hot labels of `batch`."""
    own = np.diag(targets)
    others = targets - np.diag(own)
    partner = np.where(others.any(1), others.argmax(1), np.arange(len(targets)))
    return partner, own


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_mixup_blends_images_as_labels(dtype):
    images, targets = batch(dtype=dtype)
    mixed, soft = mixup(images, targets, np.random.default_rng(1), alpha=1.0)
    assert mixed.dtype == dtype
    assert soft.dtype == np.float32
    partner, own = recovered(soft)
    for i, (j, m) in enumerate(zip(partner, own.astype(float), strict=True)):
        expected = m * images[i] + (1 - m) * images[j].astype(float)
        np.testing.assert_allclose(mixed[i], expected, atol=0.51 if dtype == np.uint8 else 1e-3)


def test_cutmix_labels_are_the_areas():
    images = np.stack([np.full((12, 10, 3), i, np.uint8) for i in range(16)])
    mixed, soft = cutmix(images, np.eye(16), np.random.default_rng(1))
    areas = np.stack([(mixed[..., 0] == i).mean((1, 2)) for i in range(16)], axis=1)
    np.testing.assert_allclose(soft, areas, atol=1e-6)
    assert (areas.max(1) < 1).sum() > 8


def test_cutmix_pastes_in_place():
    images, targets = batch()
    mixed, soft = cutmix(images, targets, np.random.default_rng(1))
    partner, _ = recovered(soft)
    kept = (mixed == images).all(-1)
    pasted = (mixed == images[partner]).all(-1)
    assert (kept | pasted).all()
    for outside in ~kept[~kept.all((1, 2))]:
        rows, columns = np.flatnonzero(outside.any(1)), np.flatnonzero(outside.any(0))
        box = outside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.mean() > 0.98  # one rectangle, but for pixels that happen to agree


@pytest.mark.parametrize("mix", [mixup, cutmix])
class TestBoth:
    def test_labels_stay_distributions_and_arguments_untouched(self, mix):
        images, targets = batch()
        before = images.copy(), targets.copy()
        _, soft = mix(images, targets, np.random.default_rng(2))
        np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)
        assert soft.min() >= 0
        np.testing.assert_array_equal(images, before[0])
        np.testing.assert_array_equal(targets, before[1])

    def test_the_generator_decides(self, mix):
        images, targets = batch()
        first, again, other = (mix(images, targets, np.random.default_rng(s)) for s in (3, 3, 4))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert (first[1] != other[1]).any()

    def test_one_image_stays_itself(self, mix):
        images, targets = batch(1)
        mixed, soft = mix(images, targets, np.random.default_rng(0))
        np.testing.assert_array_equal(mixed, images)
        np.testing.assert_allclose(soft, targets, atol=1e-6)

    def test_bad_arguments(self, mix):
        images, targets = batch()
        rng = np.random.default_rng(0)
        with pytest.raises(ValueError, match="`alpha` must be a finite number > 0"):
            mix(images, targets, rng, alpha=0)
        with pytest.raises(ValueError, match=r"`targets` must be \(B, C\) labels of 16 images"):
            mix(images, np.arange(16), rng)
        with pytest.raises(ValueError, match=r"`images` must be \(B, H, W, channels\)"):
            mix(images[0], targets, rng)


def test_mixup_names_the_dtypes_it_takes():
    images, targets = batch(dtype=np.int64)
    with pytest.raises(ValueError, match=r"uint8, float32 or float64. Received: int64"):
        mixup(images, targets, np.random.default_rng(0))
