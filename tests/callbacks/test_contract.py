"""Every callback, all at once, in each way that Keras runs a step."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tltoolkit import callbacks
from tltoolkit.callbacks import schedules

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4, 4, 3)).astype("float32")
Y = RNG.integers(0, 2, 20)


def all_callbacks(directory):
    stateful = [
        callbacks.LearningRateDecay(schedules.cosine(0.01, 30), by="step", warmup=2),
        callbacks.MomentumSchedule(schedules.linear(0.5, 5, 0.9)),
        callbacks.SpatialDropoutSchedule(schedules.linear(0.1, 5, 0.5), by="step"),
        callbacks.ValidationMetrics(),
        callbacks.TrainingMonitor((X[:4], Y[:4])),
        callbacks.ReduceLROnPlateau("val_f1_macro", patience=1, mode="max"),
        callbacks.MixedWeightAverage("ema", decay=0.9),
        callbacks.EarlyStopping("val_f1_macro", patience=2, restore_best_weights=True),
    ]
    keep = [callback for callback in stateful if hasattr(callback, "get_state")]
    return [*stateful, callbacks.Resume(directory, keep)]


def build(policy="float32", **arguments):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        model = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                callbacks.DropConnect(keras.layers.Conv2D(4, 3, padding="same"), 0.1),
                keras.layers.BatchNormalization(),
                callbacks.ScheduledSpatialDropout2D(0.1),
                callbacks.DropBlock2D(0.1, block_size=2),
                keras.layers.Flatten(),
                callbacks.ScheduledDropout(0.1),
                keras.layers.Dense(2, "softmax", dtype="float32"),
            ]
        )
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy", **arguments)
    # Otherwise the first step makes its variables, and is traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(
    ("policy", "arguments"),
    [
        ("float32", {}),
        ("float32", {"steps_per_execution": 3}),
        ("float32", {"jit_compile": True}),
        ("mixed_float16", {}),
    ],
)
def test_each_way_to_run(tmp_path, policy, arguments):
    made = all_callbacks(tmp_path)
    # Reusable from one fit to the next, however a step is run.
    for _ in range(2 if (policy, arguments) == ("float32", {}) else 1):
        model = build(policy, **arguments)
        history = model.fit(
            X, Y, batch_size=4, epochs=2, verbose=0, validation_data=(X, Y), callbacks=made
        ).history
        assert np.isfinite(history["loss"]).all()
        assert {"val_f1_macro", "learning_rate", "momentum"} <= set(history)
    assert not tmp_path.exists()


def test_without_validation_data(tmp_path):
    made = all_callbacks(tmp_path)
    with pytest.warns(UserWarning, match="val_f1_macro|validation_data"):
        build(run_eagerly=True).fit(X, Y, epochs=1, verbose=0, callbacks=made)


MIRRORED = """
import sys
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import importlib.util
spec = importlib.util.spec_from_file_location("contract", sys.argv[1])
contract = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contract)
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
with strategy.scope():
    model = contract.build()
history = model.fit(contract.X, contract.Y, batch_size=4, epochs=2, verbose=0,
                    validation_data=(contract.X[:11], contract.Y[:11]),
                    callbacks=contract.all_callbacks(sys.argv[2])).history
predicted = model(contract.X[:11]).numpy()
assert strategy.num_replicas_in_sync == 2
assert {"val_f1_macro", "learning_rate", "momentum"} <= set(history), history
# The last epoch's scores belong to the average, which is what is left in the model.
from sklearn.metrics import f1_score
f1 = [f1_score(contract.Y[:11], predicted.argmax(axis=1), average="macro")]
assert any(abs(f1[0] - value) < 1e-9 for value in history["val_f1_macro"]), (f1, history)
print("fine")
"""


def test_two_replicas(tmp_path):
    # In a process of its own, because the number of devices is fixed when TensorFlow starts.
    result = subprocess.run(
        [sys.executable, "-c", MIRRORED, __file__, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert result.stdout.strip().endswith("fine"), result.stderr[-3000:]


def test_the_bare_name_is_refused():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import callbacks"
    root = os.path.dirname(os.path.dirname(callbacks.__file__))
    result = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=False
    )
    assert "import it as `tltoolkit.callbacks`" in result.stderr


def test_layers_are_exported_with_the_rest(tmp_path):
    model = build()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected = model.predict(X, verbose=0)
    assert (loaded.predict(X, verbose=0) == expected).all()
    assert isinstance(loaded.layers[0], callbacks.DropConnect)
    assert tf.reduce_all(tf.math.is_finite(expected))
