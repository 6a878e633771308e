"""TrainingMonitor against numbers made by hand, and its advice on broken models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tltoolkit.callbacks import TrainingMonitor, monitor_advice, plot_schedules, schedules

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)).astype("float32")
Y = RNG.normal(size=(16, 1)).astype("float32")


def build(rate=0.01, **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "relu", name="first"),
            keras.layers.Dropout(0.5, name="drop"),
            keras.layers.Dense(1, name="last"),
        ]
    )
    model.compile(keras.optimizers.SGD(rate), "mse", **arguments)
    # Otherwise the first step makes its variables, and is traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, monitor, epochs=2, y=Y, **arguments):
    return model.fit(X, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[monitor], **arguments)


def rows(monitor, kind, layer):
    return [r for r in monitor.records if (r["kind"], r["layer"]) == (kind, layer)]


def test_numbers_are_those_by_hand():
    model, monitor = build(), TrainingMonitor((X, Y))
    fit(model, monitor)
    dense = model.get_layer("first")
    joined = np.concatenate([w.numpy().ravel() for w in dense.weights])
    row = rows(monitor, "weights", "first")[-1]
    for name, value in (
        ("min", joined.min()),
        ("max", joined.max()),
        ("mean", joined.mean()),
        ("norm", np.linalg.norm(joined)),
    ):
        assert row[name] == pytest.approx(value, rel=1e-5)
    outputs = np.maximum(X @ dense.kernel.numpy() + dense.bias.numpy(), 0)
    row = rows(monitor, "activations", "first")[-1]
    assert row["mean"] == pytest.approx(outputs.mean(), rel=1e-5)
    assert row["dead"] == pytest.approx((outputs == 0).all(axis=0).mean())
    last = model.get_layer("last")
    error = outputs @ last.kernel.numpy() + last.bias.numpy() - Y
    gradient = np.append(2 * outputs.T @ error / 16, 2 * error.mean())
    row = rows(monitor, "gradients", "last")[-1]
    assert row["norm"] == pytest.approx(np.linalg.norm(gradient), rel=1e-4)
    assert (row["epoch"], row["step"]) == (1, 4)


def test_update_ratio_is_that_of_one_step():
    model, weights = build(), []
    monitor = TrainingMonitor(freq=1)

    def keep(batch, logs=None):
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()[:2]]))

    recorder = keras.callbacks.LambdaCallback(on_train_batch_begin=keep, on_train_batch_end=keep)
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor, recorder])
    expected = [
        np.linalg.norm(after - before) / np.linalg.norm(before)
        for before, after in zip(weights[::2], weights[1::2], strict=True)
    ]
    measured = [row["update_ratio"] for row in rows(monitor, "weights", "first")]
    np.testing.assert_allclose(measured, expected, rtol=1e-4)


def test_watching_changes_nothing():
    watched, bare = build(), build()
    fit(watched, TrainingMonitor((X, Y), freq=1))
    bare.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    for ours, theirs in zip(watched.variables, bare.variables, strict=True):
        assert (ours.numpy() == theirs.numpy()).all()


@pytest.mark.parametrize(
    "arguments", [{"steps_per_execution": 2}, {"jit_compile": True}, {"run_eagerly": True}]
)
def test_every_n_steps_and_other_ways_to_run(arguments):
    monitor = TrainingMonitor((X, Y), freq=2)
    fit(build(**arguments), monitor, epochs=4)
    assert len(rows(monitor, "weights", "first")) == 4 if "run" in str(arguments) else 2
    assert all(row["update_ratio"] > 0 for row in rows(monitor, "weights", "first"))


def test_advice_names_the_layer():
    monitor = TrainingMonitor((X, Y))
    fit(build(rate=1e-9), monitor)
    assert any("first: update-to-weight ratio" in t and "raise" in t for t in monitor.advice)
    model = build()
    model.get_layer("first").set_weights([np.zeros((4, 6)), -np.ones(6)])
    fit(model, monitor)
    assert "epoch 1: first: 100% of the units are dead (0 for the whole batch)" in monitor.advice
    fit(build(rate=1e-9), TrainingMonitor((X, Y)))
    large = TrainingMonitor((X, 1e5 * Y))
    fit(build(rate=1e-12), large, y=1e5 * Y)
    assert any("last: exploding gradients" in text for text in large.advice)
    assert "exploding" not in str(monitor.advice)


def test_vanishing_gradients():
    stack = [keras.layers.Dense(4, "sigmoid", name=f"d{i}") for i in range(14)]
    model = keras.Sequential([keras.Input((4,)), *stack, keras.layers.Dense(1, name="last")])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    monitor = TrainingMonitor((X, Y))
    fit(model, monitor, epochs=1)
    assert any("d0: vanishing gradients" in text for text in monitor.advice)


@pytest.mark.parametrize("batch", [None, (X, Y)])
def test_stops_on_nan_and_names_the_layer(batch):
    model = build()
    bad = model.get_layer("last")
    bad.set_weights([np.full((6, 1), np.nan), np.zeros(1)])
    model.get_layer("first").trainable = False
    model.compile("sgd", "mse")
    monitor = TrainingMonitor(batch)
    assert len(fit(model, monitor, epochs=5).epoch) == 1
    assert "stopped, the loss is nan; the first layer with" in monitor.advice[0]
    assert "that are not finite is last" in monitor.advice[0]
    monitor = TrainingMonitor(stop_on_nan=False)
    assert len(fit(model, monitor, epochs=3).epoch) == 3


def test_broken_targets_are_not_blamed_on_a_layer():
    model = build(rate=0.0)
    monitor = TrainingMonitor()
    model.compile(keras.optimizers.SGD(0.01), lambda y, p: tf.reduce_mean(y) + 0 * tf.reduce_sum(p))
    fit(model, monitor, epochs=3, y=Y * np.inf)
    assert "look at the inputs, the targets and the loss" in monitor.advice[0]


def test_table_and_tensorboard(tmp_path):
    monitor = TrainingMonitor((X, Y), log_dir=tmp_path)
    fit(build(), monitor)
    lines = monitor.table().splitlines()
    assert lines[0].split() == list(monitor_advice.COLUMNS)
    assert len(lines) == 1 + 2 + 2 + 3
    assert lines[1].startswith("first  weights")
    written = list(tmp_path.glob("events*"))
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(written[0]))
        for value in event.summary.value
    }
    assert {"weights/first", "gradients/last", "activations/drop", "update_ratio/last"} <= tags
    assert TrainingMonitor().table().splitlines() == [
        "layer  kind  min  max  mean  norm  dead  update_ratio"
    ]


def test_a_subclassed_model_has_no_activations():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

    model, monitor = Own(), TrainingMonitor((X, Y))
    model.compile("sgd", "mse")
    fit(model, monitor, epochs=1)
    assert {row["kind"] for row in monitor.records} == {"weights", "gradients"}


def test_the_upper_part_of_a_model_whose_layers_are_shared_with_the_whole():
    inputs = keras.Input((4,))
    first = keras.layers.Dense(6, "relu", name="first")(inputs)
    whole = keras.Model(inputs, keras.layers.Dense(1, name="last")(first))
    upper = keras.Model(first, whole.output)
    upper.compile("sgd", "mse")
    features = keras.Model(inputs, first).predict(X, verbose=0)
    monitor = TrainingMonitor((features, Y))
    upper.fit(features, Y, epochs=1, batch_size=16, verbose=0, callbacks=[monitor])
    expected = whole.predict(X, verbose=0)
    assert rows(monitor, "activations", "last")[-1]["max"] == pytest.approx(
        expected.max(), abs=1e-6
    )
    assert not rows(monitor, "activations", "first")


def test_refusals():
    with pytest.raises(ValueError, match=r"`batch` must be a pair \(x, y\) or None"):
        TrainingMonitor(X)
    with pytest.raises(ValueError, match="`freq` must be an integer >= 1"):
        TrainingMonitor(freq=0)


def test_plot_schedules():
    made = {"cosine": schedules.cosine(0.1, 10), "own": lambda step: 0.1 / (step + 1)}
    axes = plot_schedules(made, 11)
    drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(drawn["own"], 0.1 / (np.arange(11) + 1), rtol=1e-6)
    assert drawn["cosine"][-1] == pytest.approx(0, abs=1e-8)
    assert plot_schedules(made["cosine"], 5, ax=axes) is axes
    with pytest.raises(ValueError, match="`steps` must be an integer >= 2"):
        plot_schedules(made, 1)
