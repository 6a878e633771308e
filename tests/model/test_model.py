import json

import keras
import numpy as np
import pytest

from tltoolkit.layers import graph
from tltoolkit.model import classifier as models
from tltoolkit.model.classifier import blocks, build_classifier
from tltoolkit.model.head import Head
from tltoolkit.model.settings import Settings

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ("cat", "dog", "owl")


def build(**options: object) -> keras.Model:
    return build_classifier(**{"class_names": NAMES, "weights": None, "image_size": 32, **options})


def pixels(dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(dtype)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build()


def test_it_is_one_flat_graph_from_pixels_to_probabilities(model: keras.Model) -> None:
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.input_shape == (None, 32, 32, 3)
    probabilities = model(pixels()).numpy()
    assert probabilities.shape == (4, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_uint8_and_float_pixels_are_the_same_to_it(model: keras.Model) -> None:
    np.testing.assert_array_equal(model(pixels()), model(pixels("float32")))


def test_probabilities_are_the_softmax_of_the_logits(model: keras.Model) -> None:
    logits = keras.Model(model.input, graph.output_of(model, "logits"))(pixels()).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(model(pixels()), expected, rtol=1e-4)


def test_multi_label_probabilities_are_independent_and_one_class_is_enough() -> None:
    model = build(multi_label=True, class_names=["wet"])
    logits = keras.Model(model.input, graph.output_of(model, "logits"))(pixels()).numpy()
    np.testing.assert_allclose(model(pixels()), 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_the_same_seed_builds_the_same_weights() -> None:
    first, second, other = build(seed=3), build(seed=3), build(seed=4)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    kernel = [m.get_layer("logits").kernel.numpy() for m in (first, other)]
    assert not np.array_equal(*kernel)


def test_blocks_cover_every_layer_once_in_order(model: keras.Model) -> None:
    found = blocks(model)
    assert list(found)[-1] == "head"
    assert found["head"] == ("head_avg", "head_dropout", "logits", "probabilities")
    listed = [layer for names in found.values() for layer in names]
    # The input is no layer that anybody freezes.
    assert listed == [layer.name for layer in model.layers[1:]]


def test_settings_survive_json_and_build_the_same_model() -> None:
    model = build(head=Head(hidden=(8,), dropout=0.1, norm="layer"), seed=7)
    settings = Settings.from_dict(json.loads(json.dumps(models.settings_of(model).to_dict())))
    assert settings == models.settings_of(model)
    again = models.build(settings, weights=None)
    np.testing.assert_array_equal(again(pixels()), model(pixels()))


def test_the_saved_model_opens_in_plain_keras(model: keras.Model, tmp_path: object) -> None:
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(pixels()), model(pixels()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet18"}, "must be one of 'vgg16'"),
        ({"class_names": None}, "`class_names` must be the names of the classes"),
        ({"class_names": "cat"}, "`class_names` must be a sequence of 2 or more different"),
        ({"class_names": ["cat"]}, "2 or more different, non-empty strings"),
        ({"class_names": ["cat", "cat"]}, "2 or more different, non-empty strings"),
        ({"class_names": ["cat", ""]}, "2 or more different, non-empty strings"),
        ({"class_names": [0, 1]}, "2 or more different, non-empty strings"),
        ({"image_size": 8}, "`image_size` must be an integer >= "),
        ({"image_size": 64.0}, "`image_size` must be an integer"),
        ({"head": "avg"}, r"`head` must be a tl\.Head"),
        ({"multi_label": 1}, "`multi_label` must be True or False"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"weights": "nowhere.weights.h5"}, r"nowhere\.weights\.h5"),
        ({"weights": "imagenett"}, "imagenett"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=message):
        build(**options)


def test_a_model_from_elsewhere_has_no_settings() -> None:
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match=r"a model made by tl\.build_classifier or tl\.load"):
        models.settings_of(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
