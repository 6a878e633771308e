import keras
import numpy as np
import pytest

from tltoolkit.model import head as heads
from tltoolkit.model.head import Head


def build(head: Head, shape: tuple[int, ...] = (6, 6, 8), units: int = 3) -> keras.Model:
    features = keras.Input(shape)
    return keras.Model(features, heads.attach(head, {"last": features}, units, seed=5))


def features(shape: tuple[int, ...] = (6, 6, 8), count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


def pooled(pooling: str, shape: tuple[int, ...] = (6, 6, 8)) -> np.ndarray:
    model = build(Head(pooling=pooling, dropout=0.0), shape)
    vector = keras.Model(model.input, model.get_layer("logits").input)
    return vector(features(shape)).numpy()


def test_pooling_agrees_with_numpy() -> None:
    x = features()
    mean, high = x.mean((1, 2)), x.max((1, 2))
    np.testing.assert_allclose(pooled("avg"), mean, atol=1e-6)
    np.testing.assert_allclose(pooled("max"), high, atol=1e-6)
    np.testing.assert_allclose(pooled("both"), np.hstack([mean, high]), atol=1e-6)


def test_pyramid_is_the_means_of_its_cells() -> None:
    x = features((8, 8, 2))
    cells = [
        x[:, i * s : (i + 1) * s, j * s : (j + 1) * s].mean((1, 2))
        for s in (8, 4, 2)
        for i in range(8 // s)
        for j in range(8 // s)
    ]
    np.testing.assert_allclose(pooled("pyramid", (8, 8, 2)), np.hstack(cells), atol=1e-6)


def test_a_pyramid_works_in_a_graph_too() -> None:
    model = build(Head(pooling="pyramid"), (7, 7, 2))
    np.testing.assert_allclose(
        model.predict(features((7, 7, 2)), verbose=0), model(features((7, 7, 2))), atol=1e-6
    )


def test_pyramid_has_no_cells_finer_than_the_map() -> None:
    assert pooled("pyramid", (3, 3, 2)).shape == (4, 2 * (1 + 4))
    assert pooled("pyramid", (1, 1, 2)).shape == (4, 2)


def test_initialisation_is_he_for_relu_layers_glorot_for_the_last_and_seeded() -> None:
    model = build(Head(hidden=(400,)), (2, 2, 300), units=100)
    hidden, last = (model.get_layer(n).kernel.numpy() for n in ("head_dense_1", "logits"))
    assert hidden.std() == pytest.approx(np.sqrt(2 / 300), rel=0.05)
    assert last.std() == pytest.approx(np.sqrt(2 / (400 + 100)), rel=0.05)
    again = build(Head(hidden=(400,)), (2, 2, 300), units=100)
    np.testing.assert_array_equal(again.get_layer("logits").kernel, last)


def test_penalties_are_those_of_the_kernels() -> None:
    model = build(Head(l1=0.1, l2=0.01, dropout=0.0))
    model(features())
    kernel = model.get_layer("logits").kernel.numpy()
    expected = 0.1 * np.abs(kernel).sum() + 0.01 * (kernel**2).sum()
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_max_norm_holds_after_a_step() -> None:
    model = build(Head(max_norm=0.1, dropout=0.0))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(features(), np.ones((4, 3), "float32"), verbose=0)
    assert np.linalg.norm(model.get_layer("logits").kernel, axis=0).max() <= 0.1 + 1e-6


@pytest.mark.parametrize(
    ("batch_size", "layer"),
    [
        (32, keras.layers.BatchNormalization),
        (11, keras.layers.BatchNormalization),
        (10, keras.layers.GroupNormalization),
        (2, keras.layers.GroupNormalization),
        (1, keras.layers.LayerNormalization),
    ],
)
def test_auto_norm_goes_by_batch_size(batch_size: int, layer: type) -> None:
    model = build(Head(hidden=(30,), norm="auto", batch_size=batch_size))
    assert isinstance(model.get_layer("head_norm_1"), layer)
    assert model(features()).shape == (4, 3)


def test_dropout_is_there_only_where_asked_for() -> None:
    assert any("dropout" in layer.name for layer in build(Head(dropout=0.3)).layers)
    assert not any("dropout" in layer.name for layer in build(Head(dropout=0.0)).layers)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pooling": "mean"}, "`pooling` must be one of 'avg', 'max', 'both', 'pyramid'"),
        ({"norm": "group_norm"}, "`norm` must be one of"),
        ({"hidden": 64}, "`hidden` must be a tuple of layer sizes"),
        ({"hidden": (0,)}, r"`hidden` must be .*, each an integer >= 1. .*hidden=\(0,\)"),
        ({"dropout": 1.0}, "`dropout` must be a finite number >= 0 and < 1"),
        ({"l2": -1e-3}, "`l2` must be a finite number >= 0"),
        ({"max_norm": 0}, "`max_norm` must be a finite number > 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Head(**setting)
