import cv2
import numpy as np
import pytest

from tltoolkit.augment import resize


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_shrinking_averages_areas():
    image = noise(12, 18)
    blocks = image.reshape(6, 2, 6, 3, 3).mean(axis=(1, 3))
    assert np.abs(resize(image, 6) - blocks).max() <= 0.5


def test_growing_keeps_a_plane_a_plane():
    ramp = np.repeat(np.arange(20, 180, 10, dtype=np.uint8)[None, :, None], 16, 0).repeat(3, 2)
    grown = resize(ramp, 64).astype(float)
    assert (grown == grown[:1]).all()
    np.testing.assert_allclose(np.diff(grown[0, 8:-8, 0]), 2.5, atol=0.51)


def test_one_side_shrinks_while_the_other_grows():
    image = noise(4, 64)
    expected = cv2.resize(
        image.reshape(4, 16, 4, 3).mean(axis=2), (16, 16), interpolation=cv2.INTER_LINEAR
    )
    assert np.abs(resize(image, 16) - expected.clip(0, 255)).max() <= 1


def test_the_right_size_is_copied():
    image = noise(8, 8)
    result = resize(image, 8)
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)


def test_crop_and_pad_keep_proportions():
    image = noise(10, 20)
    np.testing.assert_array_equal(resize(image, 10, "crop"), image[:, 5:15])
    padded = resize(image, 20, "pad")
    np.testing.assert_array_equal(padded[5:15], image)
    assert not padded[:5].any()
    assert not padded[15:].any()


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (37, 41)])
def test_every_shape_becomes_a_square(shape, fit):
    result = resize(noise(*shape), 24, fit)
    assert result.shape == (24, 24, 3)
    assert result.dtype == np.uint8


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32 array of shape (4, 4, 3), values 0 to 0"),
        (np.full((4, 4, 3), np.nan), "values nan to nan, with NaN"),
        (np.full((4, 4, 3), 300, np.int64), "int64 array of shape (4, 4, 3), values 300 to 300"),
        (np.zeros((4, 4), np.uint8), "uint8 array of shape (4, 4)"),
        (np.zeros((4, 4, 4), np.uint8), "uint8 array of shape (4, 4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), "uint8 array of shape (0, 4, 3)"),
        (np.array("text"), "array of shape ()"),
        ("cat.jpg", "a str"),
    ],
)
def test_another_kind_of_image_is_described(image, said):
    with pytest.raises(ValueError, match=r"must be a \(H, W, 3\) uint8 array") as caught:
        resize(image, 8)
    assert said in str(caught.value)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"`size` must be an integer >= 1. Received: size=0"):
        resize(noise(4, 4), 0)
    with pytest.raises(ValueError, match="`fit` must be one of 'squash', 'crop', 'pad'"):
        resize(noise(4, 4), 4, "stretch")
