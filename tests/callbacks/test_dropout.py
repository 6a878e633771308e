"""The layers with a changeable rate, and the callback that changes it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tltoolkit.callbacks import SpatialDropoutSchedule, layers, schedules

ONES = np.ones((64, 16, 16, 32), "float32")
SCHEDULED = {
    "dropout": lambda rate=0.0, **k: layers.ScheduledDropout(rate, seed=1, **k),
    "spatial": lambda rate=0.0, **k: layers.ScheduledSpatialDropout2D(rate, seed=1, **k),
    "block": lambda rate=0.0, **k: layers.DropBlock2D(rate, block_size=3, seed=1, **k),
    "connect": lambda rate=0.0, **k: layers.DropConnect(
        keras.layers.Conv2D(40, 3, kernel_initializer="ones", name="inner"), rate, seed=1, **k
    ),
}


def dropped(name, layer, compiled):
    if name == "connect":
        # One weight reaches one output when all inputs but one are zero.
        x = np.zeros((1, 3, 3, 32), "float32")
        shares = []
        for position in range(9):
            x[:] = 0
            x[0, position // 3, position % 3, 5] = 1
            shares += [float(np.mean(compiled(x).numpy() == 0)) for _ in range(60)]
        return np.mean(shares)
    repeats = 4 if name == "spatial" else 1
    return np.mean([float(np.mean(compiled(ONES).numpy() == 0)) for _ in range(repeats)])


@pytest.mark.parametrize("name", SCHEDULED)
def test_measured_share_is_the_rate_without_a_new_trace(name):
    layer = SCHEDULED[name]()
    traces = []

    @tf.function
    def compiled(x):
        traces.append(1)
        return layer(x, training=True)

    layer(ONES[:1] if name != "connect" else ONES[:1, :3, :3])
    for rate in (0.0, 0.1, 0.5, 0.85):
        layer.set_rate(rate)
        assert dropped(name, layer, compiled) == pytest.approx(rate, abs=0.01)
    assert len(traces) == 1


@pytest.mark.parametrize("name", ["dropout", "spatial", "block"])
def test_the_mean_stays(name):
    assert SCHEDULED[name](0.4)(ONES, training=True).numpy().mean() == pytest.approx(1, abs=0.06)


def test_connect_keeps_the_mean_and_trains_its_weights():
    layer = SCHEDULED["connect"](0.4)
    x = np.ones((2, 5, 5, 32), "float32")
    expected = layer(x).numpy().mean()
    means = [layer(x, training=True).numpy().mean() for _ in range(20)]
    assert np.mean(means) == pytest.approx(expected, rel=0.02)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True))
    kernel, bias = tape.gradient(loss, layer.trainable_variables)
    assert np.mean(kernel.numpy() == 0) == pytest.approx(0.4, abs=0.02)
    assert (bias.numpy() != 0).all()


def test_block_drops_squares_up_to_the_border():
    y = layers.DropBlock2D(0.2, block_size=3, seed=0)(ONES, training=True).numpy() == 0
    for row in (0, 7, 15):  # the border loses as much as the middle
        assert y[:, row].mean() == pytest.approx(0.2, abs=0.02)
    # A dropped pixel lies in a 3 x 3 square, so some neighbour in its row is dropped too.
    inner = y[:, :, 1:-1] & ~y[:, :, :-2] & ~y[:, :, 2:]
    assert not inner.any()


def model_with(name, policy="float32"):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv", dtype=policy)(inputs)
    x = SCHEDULED[name](0.3, name="drop", dtype=policy)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32", name="out")(x))
    model.compile("sgd", "mse")
    return model


IMAGES = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
TARGETS = np.zeros((8, 2), "float32")


@pytest.mark.parametrize("name", SCHEDULED)
def test_saved_loaded_exported_and_the_same_at_inference(name, tmp_path):
    model = model_with(name)
    model.get_layer("drop").set_rate(0.45)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected = model.predict(IMAGES, verbose=0)
    assert (loaded.predict(IMAGES, verbose=0) == expected).all()
    assert float(loaded.get_layer("drop").rate) == np.float32(0.45)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    served = exported.serve(IMAGES)
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dropout", "spatial", "block"])
def test_inference_is_the_input_and_old_weight_files_load(name, tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    plain = keras.Model(inputs, keras.layers.Dense(2, name="out")(x))
    plain.save_weights(tmp_path / "w.weights.h5")
    model = model_with(name)
    model.load_weights(tmp_path / "w.weights.h5")
    assert (model.predict(IMAGES, verbose=0) == plain.predict(IMAGES, verbose=0)).all()
    assert float(model.get_layer("drop").rate) == np.float32(0.3)


@pytest.mark.parametrize(
    ("name", "setting"), [*((name, "mixed_float16") for name in SCHEDULED), ("connect", "jit")]
)
def test_trains_with_xla_and_mixed_precision(name, setting):
    model = model_with(name, policy="float32" if setting == "jit" else "mixed_float16")
    model.compile("sgd", "mse", jit_compile=setting == "jit")
    model.optimizer.build(model.trainable_variables)
    ramp = SpatialDropoutSchedule(schedules.linear(0.1, 10, 0.6))
    history = model.fit(IMAGES, TARGETS, epochs=3, verbose=0, callbacks=[ramp])
    assert np.isfinite(history.history["loss"]).all()
    assert float(model.get_layer("drop").rate) == pytest.approx(0.2)


def test_schedule_by_step_reaches_nested_layers_and_names():
    inner = keras.Sequential([keras.Input((4,)), layers.ScheduledDropout(0.0, name="deep")])
    top = layers.ScheduledDropout(0.0, name="top")
    model = keras.Sequential([keras.Input((4,)), top, inner, keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    x = np.ones((8, 4))
    ramp = SpatialDropoutSchedule(lambda step: 0.1 * step, by="step", layers=["deep"])
    model.fit(x, x, batch_size=2, verbose=0, callbacks=[ramp])
    assert float(inner.layers[0].rate) == pytest.approx(0.3)
    assert float(model.layers[0].rate) == 0
    model.fit(x, x, verbose=0, callbacks=[SpatialDropoutSchedule(schedules.linear(0.5, 9))])
    assert float(model.layers[0].rate) == 0.5


def test_refusals():
    x = np.ones((2, 3))
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no layer whose rate can change"):
        plain.fit(x, x, verbose=0, callbacks=[SpatialDropoutSchedule(lambda _: 0.1)])
    model = model_with("spatial")
    ramp = SpatialDropoutSchedule(lambda _: 0.1, layers=["other"])
    with pytest.raises(ValueError, match="`layers` must be 'drop'"):
        model.fit(IMAGES, TARGETS, verbose=0, callbacks=[ramp])
    ramp = SpatialDropoutSchedule(lambda _: 1.0)
    with pytest.raises(ValueError, match="`rate` must be a finite number >= 0 and < 1"):
        model.fit(IMAGES, TARGETS, verbose=0, callbacks=[ramp])
    with pytest.raises(ValueError, match="`rate`"):
        layers.ScheduledDropout(-0.1)
    with pytest.raises(ValueError, match="`block_size` must be an integer >= 1"):
        layers.DropBlock2D(0.1, block_size=0)
    with pytest.raises(ValueError, match="needs a layer with a kernel"):
        layers.DropConnect(keras.layers.ReLU(), 0.1)(x)
