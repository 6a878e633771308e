"""MixedWeightAverage against averages made by hand."""

import keras
import numpy as np
import pytest

from tltoolkit.callbacks import MixedWeightAverage, layers
from tltoolkit.callbacks.weight_average import estimate_batch_norm

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(32, 4)).astype("float32")
Y = RNG.normal(size=(32, 1)).astype("float32")


def build():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", run_eagerly=True)
    return model


class Recorder(keras.callbacks.Callback):
    """The raw weights after every step and epoch; must come first in the list."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs, self.validated = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(self.model.get_weights())

    def on_test_begin(self, logs=None):
        self.epochs.append(self.model.get_weights())


def fit(model, *callbacks, epochs=4):
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "validation_data": (X, Y)}
    return model.fit(X, Y, epochs=epochs, callbacks=callbacks, **settings).history


def close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_ema_is_the_average_by_hand_and_does_not_change_training():
    model, bare, recorder = build(), build(), Recorder()
    fit(model, recorder, MixedWeightAverage("ema", decay=0.4))
    raw = Recorder()
    fit(bare, raw)
    close(recorder.steps[-1], raw.steps[-1])
    average = raw.steps[0]
    for n, weights in enumerate(raw.steps[1:], start=1):
        decay = min(0.4, (1 + n) / (10 + n))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    close(model.get_weights(), average)


def test_swa_is_the_mean_of_the_epochs_and_is_validated():
    model, recorder = build(), Recorder()
    history = fit(model, recorder, MixedWeightAverage("swa", start_epoch=1))
    mean = [np.mean(w, axis=0) for w in zip(*recorder.epochs[1:], strict=True)]
    close(model.get_weights(), mean)
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)


def test_followers_see_the_average_in_on_epoch_end(tmp_path):
    model = build()
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True)
    fit(model, MixedWeightAverage("swa"), saver)
    final = model.get_weights()
    model.load_weights(tmp_path / "4.weights.h5")
    close(model.get_weights(), final)


def test_batch_norm_is_estimated_anew():
    model = build()
    fit(model, MixedWeightAverage("swa", batches=[X[:16], (X[16:], Y[16:])]))
    norm = model.layers[0]
    np.testing.assert_allclose(norm.moving_mean, X.mean(axis=0), rtol=1e-5)
    halves = (X[:16].var(axis=0) + X[16:].var(axis=0)) / 2
    np.testing.assert_allclose(norm.moving_variance, halves, rtol=1e-4)
    assert norm.momentum == 0.99
    norm.trainable = False
    estimate_batch_norm(model, [X * 0])
    np.testing.assert_allclose(norm.moving_mean, X.mean(axis=0), rtol=1e-5)


def test_a_dropout_rate_is_not_averaged():
    model = keras.Sequential(
        [keras.Input((4,)), layers.ScheduledDropout(0.1), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    ramp = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.layers[0].set_rate(0.1 * epoch)
    )
    fit(model, ramp, MixedWeightAverage("swa"))
    assert float(model.layers[0].rate) == pytest.approx(0.3)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_state_goes_on_where_it_was(kind):
    whole = build()
    fit(whole, MixedWeightAverage(kind, decay=0.7))
    model, first = build(), MixedWeightAverage(kind, decay=0.7)
    states = []

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                states.append((first.get_state(), self.model.get_weights()))

    class Load(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            second.set_state(states[0][0])
            self.model.set_weights(states[0][1])

    fit(model, first, Save())
    second, again = MixedWeightAverage(kind, decay=0.7), build()
    fit(again, second, Load(), epochs=2)
    close(again.get_weights(), whole.get_weights())


def test_refusals():
    with pytest.raises(ValueError, match="`kind` must be one of 'ema', 'swa'"):
        MixedWeightAverage("mean")
    with pytest.raises(ValueError, match="`decay` must be a finite number > 0 and < 1"):
        MixedWeightAverage(decay=1.0)
    with pytest.raises(ValueError, match="`every`"):
        MixedWeightAverage(every=0)
    with pytest.raises(ValueError, match="`start_epoch`"):
        MixedWeightAverage(start_epoch=-1)
