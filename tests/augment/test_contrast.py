import inspect

import keras
import numpy as np
import pytest

from tltoolkit import augment
from tltoolkit.augment import contrast

SETTINGS = {"scale": 50.0, "offset": 120.0, "regularizer": 20.0}


def photo(height=13, width=17, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(20, 200, (height, width, 3)).astype(np.uint8)


def gcn_by_hand(image, scale, offset, regularizer):
    x = image.astype(float)
    mean = sum(x.ravel()) / x.size
    variance = sum((x.ravel() - mean) ** 2) / x.size
    return offset + scale * (x - mean) / (regularizer + variance) ** 0.5


def blur_by_hand(plane, window):
    half = window // 2
    result = np.empty_like(plane)
    for r, c in np.ndindex(plane.shape):
        total = weights = 0.0
        for y in range(max(r - half, 0), min(r + half + 1, plane.shape[0])):
            for x in range(max(c - half, 0), min(c + half + 1, plane.shape[1])):
                weight = np.exp(-((y - r) ** 2 + (x - c) ** 2) / (2 * (window / 4) ** 2))
                total += weight * plane[y, x]
                weights += weight
        result[r, c] = total / weights
    return result


def lcn_by_hand(image, scale, offset, regularizer, window):
    x = image.astype(float)
    v = x - blur_by_hand(x.mean(2), window)[:, :, None]
    s = np.sqrt(regularizer + blur_by_hand((v**2).mean(2), window))
    return offset + scale * v / np.maximum(s, s.mean())[:, :, None]


KINDS = {
    "global": (
        contrast.global_contrast, gcn_by_hand, "GlobalContrast", "GlobalContrastNormalization",
        SETTINGS,
    ),
    "local": (
        contrast.local_contrast, lcn_by_hand, "LocalContrast", "LocalContrastNormalization",
        SETTINGS | {"window": 5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
class TestBoth:
    @pytest.mark.parametrize("shape", [(13, 17), (1, 1), (2, 30)])
    def test_numpy_transform_and_layer_agree_with_a_loop(self, kind, shape):
        function, by_hand, transform, layer, settings = KINDS[kind]
        images = np.stack([photo(*shape, seed) for seed in range(3)])
        expected = np.stack([by_hand(image, **settings) for image in images])
        plain = np.stack([function(image, **settings) for image in images])
        assert plain.dtype == np.float32
        np.testing.assert_allclose(plain, expected, atol=2e-3)
        layered = getattr(augment, layer)(**settings)(images)
        np.testing.assert_allclose(layered, expected, atol=5e-3)
        transformed = [getattr(augment, transform)(**settings)(image=i)["image"] for i in images]
        assert np.abs(np.stack(transformed) - expected.clip(0, 255)).max() <= 0.51

    def test_a_flat_image_becomes_the_offset(self, kind):
        function, *_, layer, settings = KINDS[kind]
        flat = np.full((9, 9, 3), 77, np.uint8)
        np.testing.assert_allclose(function(flat, **settings), 120, atol=1e-3)
        np.testing.assert_allclose(getattr(augment, layer)(**settings)(flat[None]), 120, atol=1e-2)

    def test_the_layer_is_saved_with_its_model(self, kind, tmp_path):
        *_, layer, settings = KINDS[kind]
        inputs = keras.Input((None, None, 3), dtype="uint8")
        model = keras.Model(inputs, getattr(augment, layer)(**settings)(inputs))
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.layers[-1].get_config() == model.layers[-1].get_config()
        assert again.layers[-1].get_config().items() >= settings.items()
        images = np.stack([photo(), photo(seed=1)])
        np.testing.assert_array_equal(again(images), model(images))
        assert model.output_shape == (None, None, None, 3)

    def test_half_precision_does_not_overflow(self, kind):
        *_, layer, settings = KINDS[kind]
        image = photo()[None].astype("float16")
        half = getattr(augment, layer)(**settings, dtype="mixed_float16")(image)
        assert keras.backend.standardize_dtype(half.dtype) == "float16"
        full = getattr(augment, layer)(**settings)(image)
        np.testing.assert_allclose(half, full, rtol=2e-3)

    def test_defaults_are_the_same_everywhere(self, kind):
        function, _, transform, layer, settings = KINDS[kind]
        for other in (getattr(augment, transform), getattr(augment, layer)):
            theirs = inspect.signature(other).parameters
            for name in settings:
                assert theirs[name].default == inspect.signature(function).parameters[name].default

    def test_bad_settings(self, kind):
        *_, transform, layer, _ = KINDS[kind]
        for build in (getattr(augment, transform), getattr(augment, layer)):
            for name in ("scale", "regularizer"):
                with pytest.raises(ValueError, match=f"`{name}` must be a finite number > 0"):
                    build(**{name: 0})
            with pytest.raises(ValueError, match="`offset` must be a finite number"):
                build(offset=float("nan"))

    def test_the_transform_takes_uint8_only(self, kind):
        _, _, transform, *_ = KINDS[kind]
        with pytest.raises(ValueError, match=r"uint8 array of pixels 0..255. Received: .*float32"):
            getattr(augment, transform)()(image=photo().astype(np.float32))


@pytest.mark.parametrize("window", [1, 4, 5.0])
def test_the_window_is_odd(window):
    for build in (augment.LocalContrast, augment.LocalContrastNormalization):
        with pytest.raises(ValueError, match="`window` must be (odd|an integer >= 3)"):
            build(window=window)


def test_global_contrast_gives_mean_and_deviation():
    result = contrast.global_contrast(photo(60, 60), regularizer=1e-3)
    assert result.mean() == pytest.approx(127.5, abs=1e-3)
    assert result.std() == pytest.approx(64, abs=1e-2)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="attribute nothing"):
        augment.nothing  # noqa: B018
    assert {"GlobalContrast", "preset"} <= set(dir(augment))
