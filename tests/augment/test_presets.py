import pickle

import numpy as np
import pytest

from tltoolkit import augment

N = 240


def gradients(height=48, width=64):
    """Red grows to the right, green grows downwards."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[..., 0] = np.linspace(40, 215, width)[None, :]
    image[..., 1] = np.linspace(40, 215, height)[:, None]
    return image


def flips(pipeline):
    """(N, 2) booleans: whether each result looks mirrored left to right, top to bottom."""
    images = np.stack([pipeline(gradients(), 0, i) for i in range(N)]).astype(float)
    half = pipeline.image_size // 2
    across = images[:, :, :half, 0].mean((1, 2)) > images[:, :, half:, 0].mean((1, 2))
    down = images[:, :half, :, 1].mean((1, 2)) > images[:, half:, :, 1].mean((1, 2))
    return np.stack([across, down], axis=1)


@pytest.mark.parametrize("name", augment.PRESETS)
class TestContract:
    def test_dtype_size_and_pickling(self, name):
        pipeline = augment.preset(name, 20, seed=4)
        copied = pickle.loads(pickle.dumps(pipeline))
        for i, shape in enumerate([(1, 1), (300, 40), (20, 20), (9, 33)]):
            image = np.random.default_rng(i).integers(0, 256, (*shape, 3), dtype=np.uint8)
            before = image.copy()
            for epoch in range(15):
                result = pipeline(image, epoch, i)
                assert result.dtype == np.uint8
                assert result.shape == (20, 20, 3)
                np.testing.assert_array_equal(result, copied(image, epoch, i))
            np.testing.assert_array_equal(image, before)

    def test_yaml_brings_it_back(self, name):
        pipeline = augment.preset(name, 20, seed=4, vertical_flip=True)
        again = augment.Pipeline.from_yaml(pipeline.to_yaml())
        assert again.to_yaml() == pipeline.to_yaml()
        assert repr(again) == repr(pipeline)
        for i in range(40):
            np.testing.assert_array_equal(again(gradients(), 2, i), pipeline(gradients(), 2, i))

    def test_only_none_gives_the_same_image_twice(self, name):
        pipeline = augment.preset(name, 20)
        images = {pipeline(gradients(), epoch, 0).tobytes() for epoch in range(30)}
        assert len(images) == 1 if name == "none" else len(images) > 10

    def test_mean_brightness_stays(self, name):
        pipeline = augment.preset(name, 20)
        mean = np.mean([pipeline(gradients(), 0, i).mean() for i in range(N)])
        assert abs(mean - gradients().mean()) < 8


@pytest.mark.parametrize("name", sorted(set(augment.PRESETS) - {"none"}))
def test_flips_can_be_switched_and_are_independent(name):
    # "trivial" inverts some images by its solarize operation, which looks like a flip.
    spare = 0.08 if name == "trivial" else 0.0
    both = flips(augment.preset(name, 20, vertical_flip=True))
    np.testing.assert_allclose(both.mean(0), 0.5, atol=0.1)
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.15
    across, down = flips(augment.preset(name, 20)).mean(0)
    assert abs(across - 0.5) < 0.1
    assert down <= spare
    assert flips(augment.preset(name, 20, horizontal_flip=False)).mean() <= spare


def test_stronger_presets_change_more():
    plain = augment.preset("none", 20)(gradients()).astype(float)

    def change(name):
        pipeline = augment.preset(name, 20, horizontal_flip=False)
        return np.mean([np.abs(pipeline(gradients(), 0, i) - plain).mean() for i in range(N)])

    changes = [change(name) for name in ("none", "light", "medium", "strong")]
    assert changes == sorted(changes)
    assert changes[0] == 0


def test_none_is_the_resize():
    expected = augment.resize(gradients(), 20)
    np.testing.assert_array_equal(augment.preset("none", 20)(gradients(), 3, 4), expected)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`name` must be one of 'none', 'light', .*name='heavy'"):
        augment.preset("heavy", 20)
    with pytest.raises(ValueError, match="`image_size` must be an integer >= 1"):
        augment.preset("light", -20)
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        augment.preset("light", 20, seed=0.5)


@pytest.mark.parametrize(
    ("counts", "name"),
    [([3, 5], "strong"), ([99, 100], "strong"), ([100, 100], "medium"), ([4999], "medium"),
     (np.array([9000, 1000]), "light"), ([10**6] * 3, "light")],
)  # fmt: skip
def test_choose_by_images_per_class(counts, name):
    assert augment.choose(counts) == name


@pytest.mark.parametrize("counts", [[], 500])
def test_choose_needs_counts(counts):
    with pytest.raises(ValueError, match="`class_counts` must be the number of images of each"):
        augment.choose(counts)
