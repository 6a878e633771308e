import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.artifacts.inference import predict_proba

SIZE = 16


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 5, strides=4, name="conv")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.Flatten()(x)
    return keras.Model(pixels, keras.layers.Dense(3, "softmax", name="scores")(x))


def split(count: int = 10) -> tl.data.Split:
    images = np.random.default_rng(0).integers(0, 256, (count, 24, 20, 3)).astype(np.uint8)
    return tl.data.from_arrays(images, np.arange(count) % 3, val=0.0).train


def test_test_time_augmentation_is_the_mean_over_the_views() -> None:
    model, source = network(), split()
    pipeline = tl.augment.preset("medium", SIZE, seed=2)
    expected = np.mean(
        [
            model.predict(tl.augment.views(source.image(i), pipeline, 3, index=i), verbose=0)
            for i in range(len(source))
        ],
        axis=1,
    )
    said = predict_proba(model, source, 4, pipeline=pipeline, views=3)
    np.testing.assert_allclose(said, expected, atol=1e-6)
    report = tl.evaluate(model, source, pipeline=pipeline, views=3)
    np.testing.assert_allclose(report.probabilities, said, atol=1e-6)


def test_the_batch_size_does_not_matter() -> None:
    model, source = network(), split()
    np.testing.assert_allclose(
        predict_proba(model, source, 3), predict_proba(model, source, 10), atol=1e-6
    )


def test_a_report_shows_its_images_as_the_model_sees_them() -> None:
    source = split()
    report = tl.evaluate(network(), source)
    assert report.names == tuple(source.name(i) for i in range(len(source)))
    np.testing.assert_array_equal(report.image(4), tl.augment.resize(source.image(4), SIZE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "`views` must be an integer >= 1"),
        ({"views": 2}, "`views` must be above 1 with a random pipeline, and 1 without"),
        ({"pipeline": tl.augment.preset("light", SIZE)}, "`views` must be above 1 with"),
        ({"pipeline": tl.augment.preset("light", 32), "views": 2}, "the model's image_size 16"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict_proba(network(), split(), **options)
