import gc
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tltoolkit import augment
from tltoolkit.augment import Batches

PIPELINE = augment.preset("light", 8, seed=3)


class Source:
    labels = np.arange(30) % 3
    class_counts = np.array([10, 10, 10])

    def __init__(self, bad=None):
        self.bad = bad

    def __len__(self):
        return 30

    def image(self, i):
        if i == self.bad:
            raise OSError(f"cannot read {i}.jpg: it is truncated")
        return np.random.default_rng(i).integers(0, 256, (12, 14, 3), dtype=np.uint8)


class Watch(keras.callbacks.Callback):
    """Notes the epochs of the batches and can stop in the middle of one."""

    def __init__(self, batches, stop_at=None):
        super().__init__()
        self.batches, self.stop_at, self.epochs = batches, stop_at, []

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == self.stop_at

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, self.batches.epoch))


def batches(source=None, **options):
    return Batches(source or Source(), PIPELINE, batch_size=8, shuffle=True, **options)


def model():
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    result = keras.Sequential(layers)
    result.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    return result


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def workers_alive():
    gc.collect()
    return [t for t in threading.enumerate() if t.name.startswith("tltoolkit")]


def test_the_dataset_is_the_batches_epoch_for_epoch():
    dataset, plain = augment.feed(Source(), PIPELINE, batch_size=8, shuffle=True), batches()
    assert int(dataset.cardinality()) == len(plain) == 4
    assert dataset.element_spec == (
        tf.TensorSpec((None, 8, 8, 3), tf.uint8),
        tf.TensorSpec((None, 3), tf.float32),
    )
    for _ in range(2):
        for given, expected in zip(dataset, plain, strict=True):
            np.testing.assert_array_equal(given[0], expected[0])
            np.testing.assert_array_equal(given[1], expected[1])


def test_fit_counts_epochs_though_it_peeks_at_the_first_batch():
    training = batches()
    watch = Watch(training)
    validation = augment.feed(Source(), augment.preset("none", 8), batch_size=8)
    history = model().fit(
        training.to_dataset(),
        validation_data=validation,
        epochs=3,
        verbose=0,
        shuffle=False,
        callbacks=[watch],
    )
    assert watch.epochs == [(0, 1), (1, 2), (2, 3)]
    assert len(history.history["val_loss"]) == 3


def test_fit_from_a_later_epoch_sees_the_same_images():
    seen = []

    def remember(images, targets, rng):
        seen.append(images.copy())
        return images, targets

    model().fit(batches(mix=remember).to_dataset(), epochs=3, verbose=0, shuffle=False)
    whole, seen[:] = seen[-4:], []
    model().fit(batches(mix=remember, epochs_from=2).to_dataset(), verbose=0, shuffle=False)
    for a, b in zip(whole, seen[-4:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_early_stop_leaves_no_threads():
    dataset = batches().to_dataset()
    watch = Watch(batches(), stop_at=1)
    model().fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=[watch])
    del dataset
    assert not workers_alive()


def test_derived_datasets_and_iterators_keep_it_alive():
    dataset = batches().to_dataset().map(lambda images, targets: images).prefetch(1)
    gc.collect()
    assert sum(1 for _ in dataset) == sum(1 for _ in dataset) == 4
    iterator = iter(batches().to_dataset())
    gc.collect()
    assert next(iterator)[0].shape == (8, 8, 8, 3)
    del iterator
    assert not workers_alive()


def test_one_iteration_at_a_time():
    dataset = batches().to_dataset()
    first, second = iter(dataset), iter(dataset)
    next(first), next(second)
    with pytest.raises(tf.errors.OpError, match="can be iterated only once at a time"):
        next(first)


def test_own_errors_come_out_of_fit():
    broken = batches(Source(bad=17))
    with (
        pytest.raises(OSError, match=r"^cannot read 17.jpg: it is truncated"),
        broken.own_errors(),
    ):
        model().fit(broken.to_dataset(), verbose=0, shuffle=False)
    with pytest.raises(tf.errors.OpError, match=r"cannot read 17.jpg"):
        model().fit(broken.to_dataset(), verbose=0, shuffle=False)
    assert not workers_alive()


def test_own_errors_lets_others_pass():
    fine = batches()
    with pytest.raises(KeyError, match="other"), fine.own_errors():
        raise KeyError("other")


def test_a_dataset_needs_targets():
    class Unlabelled(Source):
        labels = np.zeros((30, 0))

    with pytest.raises(ValueError, match="`targets` must be given for a source without labels"):
        augment.feed(Unlabelled(), PIPELINE)


def test_importing_augment_loads_nothing_heavy():
    code = (
        "import sys, tltoolkit.augment as a; a.Pipeline(None, 8); "
        "print({'tensorflow', 'keras', 'albumentations', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_the_bare_name_is_refused():
    root = augment.__file__.rsplit("augment", 1)[0]
    code = f"import sys; sys.path.insert(0, {root!r}); import augment"
    assert "ImportError: import it as `tltoolkit.augment`" in run(code).stderr
