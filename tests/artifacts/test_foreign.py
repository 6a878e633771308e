"""`foreign.load` reads what Keras writes, and names what it cannot."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tltoolkit.artifacts import foreign

SIZE, NAMES = 8, ("a", "b")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)


def model(*parts: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(pixels)
    for part in parts:
        x = part(x)
    x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    return keras.Model(pixels, layers.Dense(2, "softmax")(x))


def with_lora(made: keras.Model) -> keras.Model:
    """Every layer that can take low-rank weights takes some, none of them zero."""
    for layer in made.layers:
        if hasattr(layer, "enable_lora") and layer.weights:
            layer.enable_lora(2)
    for variable in made.variables:
        if "lora" in variable.name:
            variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    return made


MODELS: dict[str, Callable[[], keras.Model]] = {
    "spectral": lambda: model(layers.SpectralNormalization(layers.Conv2D(4, 3))),
    "spectral of dense": lambda: model(
        layers.Flatten(), layers.SpectralNormalization(layers.Dense(4))
    ),
    "lora": lambda: with_lora(model(layers.Conv2D(4, 3))),
    "lora of einsum": lambda: with_lora(
        model(layers.Flatten(), layers.EinsumDense("ab,bc->ac", (4,), bias_axes="c"))
    ),
    "lora of embedding": lambda: with_lora(
        model(layers.Flatten(), layers.Embedding(3, 4), layers.GlobalAveragePooling1D())
    ),
    "nested": lambda: model(keras.Sequential([layers.SpectralNormalization(layers.Conv2D(4, 3))])),
    "random": lambda: model(layers.RandomFlip(), layers.GaussianNoise(0.1), layers.Dropout(0.1)),
    "attention": lambda: model(
        layers.Reshape((64, 3)),
        lambda x: layers.MultiHeadAttention(2, 3)(x, x),
        layers.GlobalAveragePooling1D(),
    ),
    "time distributed": lambda: model(layers.TimeDistributed(layers.Dense(3))),
    "normalised": lambda: model(layers.Normalization(mean=[0, 0, 0], variance=[1, 2, 3])),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_keras_answers_as_it_did(name: str, tmp_path: Path) -> None:
    made = MODELS[name]()
    made.compile("adam", "categorical_crossentropy")
    made.save(tmp_path / "m.keras")
    said = foreign.load(tmp_path / "m.keras", NAMES).predict(list(PIXELS))
    found = [list(one.probabilities.values()) for one in said]
    np.testing.assert_allclose(found, made.predict(PIXELS, verbose=0), atol=1e-5)


@pytest.fixture
def registered() -> Iterator[None]:
    before = dict(keras.saving.get_custom_objects())
    yield
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(before)


class Unknown(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


def unknown_activation(x: Any) -> Any:
    return x * 2


@pytest.mark.usefixtures("registered")
def test_what_nobody_registered_is_named(tmp_path: Path) -> None:
    class Forgotten(Unknown):
        pass

    keras.saving.register_keras_serializable("package")(Forgotten)
    parts = {
        "it names .*Unknown, which is neither Keras' nor registered": Unknown(),
        "Forgotten', which is not Keras' own|Forgotten, which is neither": Forgotten(),
        "it needs the function 'unknown_activation'": layers.Dense(3, unknown_activation),
    }
    for i, part in enumerate(parts.values()):
        model(part).save(tmp_path / f"{i}.keras")
    assert foreign.load(tmp_path / "1.keras", NAMES)
    keras.saving.get_custom_objects().pop("package>Forgotten")
    for i, message in enumerate(parts):
        with pytest.raises(ValueError, match=message):
            foreign.load(tmp_path / f"{i}.keras", NAMES)


@pytest.mark.usefixtures("registered")
def test_a_registered_layer_that_stores_its_own_way_loads(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("package")
    class Halved(layers.Dense):
        """Writes one array where it has two variables."""

        def save_own_variables(self, store: Any) -> None:
            store["all"] = keras.ops.concatenate([self.kernel, self.bias[None]])

        def load_own_variables(self, store: Any) -> None:
            self.kernel.assign(store["all"][:-1])
            self.bias.assign(store["all"][-1])

    made = model(Halved(4))
    made.save(tmp_path / "m.keras")
    said = foreign.load(tmp_path / "m.keras", NAMES).predict(list(PIXELS))
    found = [list(one.probabilities.values()) for one in said]
    np.testing.assert_allclose(found, made.predict(PIXELS, verbose=0), atol=1e-5)


def test_no_room_is_made_for_low_rank_weights_that_are_not_there(tmp_path: Path) -> None:
    import zipfile

    made = with_lora(model(layers.Conv2D(4, 3)))
    made.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    config = held["config.json"].replace(b'"lora_rank": 2', b'"lora_rank": 1000000000')
    assert config != held["config.json"]
    with zipfile.ZipFile(tmp_path / "huge.keras", "w") as archive:
        for name, content in {**held, "config.json": config}.items():
            archive.writestr(name, content)
    with pytest.raises(
        ValueError, match=r"its variables take \d+ numbers, of which \d+ are stored"
    ):
        foreign.load(tmp_path / "huge.keras", NAMES)
