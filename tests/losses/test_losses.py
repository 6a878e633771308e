"""Losses against plain NumPy, on every input path, saved and loaded."""

import doctest
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tltoolkit as tl
from tltoolkit import losses
from tltoolkit.imbalance import class_weights
from tltoolkit.losses import cross_entropy

N, C, SIDE = 24, 3, 4
COUNTS = np.array([16.0, 6.0, 2.0])
WEIGHTS = [0.5, 1.5, 3.0]
SINGLE = {
    "cross_entropy": lambda **k: losses.CrossEntropy(**k),
    "focal": lambda **k: losses.Focal(gamma=1.5, **k),
    "balanced_focal": lambda **k: losses.BalancedFocal(COUNTS, beta=0.9, **without_weights(k)),
    "logit_adjusted": lambda **k: losses.LogitAdjusted(COUNTS, tau=0.7, **k),
    "ldam": lambda **k: losses.LDAM(COUNTS, scale=2.0, **k),
}
MULTI = {
    "cross_entropy": lambda **k: losses.CrossEntropy(multi_label=True, **k),
    "focal": lambda **k: losses.Focal(gamma=1.5, multi_label=True, **k),
    "balanced_focal": lambda **k: losses.BalancedFocal(
        COUNTS, beta=0.9, multi_label=True, **without_weights(k)
    ),
    "logit_adjusted": lambda **k: losses.LogitAdjusted(COUNTS, multi_label=True, **k),
    "asymmetric": lambda **k: losses.Asymmetric(gamma_present=0.5, **k),
}
ALL = [(make, False) for make in SINGLE.values()] + [(make, True) for make in MULTI.values()]
IDS = [f"{name}-{kind}" for kind, table in (("single", SINGLE), ("multi", MULTI)) for name in table]


def without_weights(options: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name != "class_weights"}


def labels() -> np.ndarray:
    return np.repeat(np.arange(C), COUNTS.astype(int))


def targets(several: bool) -> np.ndarray:
    if several:
        return (np.random.default_rng(3).random((N, C)) < [0.7, 0.3, 0.1]).astype(np.float32)
    return np.eye(C, dtype=np.float32)[labels()]


def logits(scale: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=(N, C)) * scale).astype(np.float32)


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z.astype(np.float64) - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def single(y: np.ndarray, z: np.ndarray, weights: object, of_row: Callable) -> float:
    """The definition as a loop: sum of weight times loss over the sum of weights."""
    total = share = 0.0
    for row, scores in zip(y.astype(float), z.astype(float), strict=True):
        weight = float(np.dot(row, weights))
        total, share = total + weight * of_row(row, scores), share + weight
    return total / share


def test_cross_entropy_of_soft_rows_weighs_each_class_by_its_share() -> None:
    soft = np.random.default_rng(2).dirichlet([1, 1, 1], N).astype(np.float32)
    expected = single(soft, logits(), WEIGHTS, lambda y, z: -y @ log_softmax(z[None])[0])
    found = losses.CrossEntropy(WEIGHTS)(soft, logits())
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_losses_are_what_their_papers_say() -> None:
    y, z = targets(False), logits()

    def focal(y: np.ndarray, z: np.ndarray) -> float:
        log_p = log_softmax(z[None])[0]
        return float(-y @ ((1 - np.exp(log_p)) ** 1.5 * log_p))

    def balanced(y: np.ndarray, z: np.ndarray) -> float:
        return float(-y @ log_softmax((z + 0.7 * np.log(COUNTS / COUNTS.sum()))[None])[0])

    def ldam(y: np.ndarray, z: np.ndarray) -> float:
        margins = 0.5 * COUNTS**-0.25 / (COUNTS**-0.25).max()
        return float(-y @ log_softmax(2 * (z - y * margins)[None])[0])

    references = {"focal": focal, "logit_adjusted": balanced, "ldam": ldam}
    for name, of_row in references.items():
        found = SINGLE[name](class_weights=WEIGHTS)(y, z)
        assert float(found) == pytest.approx(single(y, z, WEIGHTS, of_row), rel=1e-5), name
    effective = class_weights("effective", COUNTS, beta=0.9)
    found = losses.BalancedFocal(COUNTS, beta=0.9, gamma=1.5)(y, z)
    assert float(found) == pytest.approx(single(y, z, effective, focal), rel=1e-5)


def test_multi_label_weighs_what_is_present() -> None:
    y, z = targets(True), logits()
    p = 1 / (1 + np.exp(-z.astype(float)))
    elements = np.where(y == 1, WEIGHTS, 1.0)
    entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    found = losses.CrossEntropy(WEIGHTS, multi_label=True)(y, z)
    assert float(found) == pytest.approx((elements * entropy).sum() / elements.sum(), rel=1e-6)
    clipped = np.maximum(p - 0.05, 0)
    terms = y * (1 - p) ** 0.5 * np.log(p) + (1 - y) * clipped**4 * np.log(1 - clipped)
    found = losses.Asymmetric(gamma_present=0.5)(y, z)
    assert float(found) == pytest.approx(-terms.mean(), rel=1e-5)
    unclipped = losses.Asymmetric(gamma_absent=0.0, clip=0.0)(y, z)
    assert float(unclipped) == pytest.approx(entropy.mean(), rel=1e-6)


def test_keras_agrees_where_it_can() -> None:
    y, z, several = targets(False), logits(), targets(True)
    for smoothing in (0.0, 0.1):
        ours = losses.CrossEntropy(label_smoothing=smoothing)
        theirs = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        assert float(ours(y, z)) == pytest.approx(float(theirs(y, z)), rel=1e-6)
        ours = losses.CrossEntropy(label_smoothing=smoothing, multi_label=True)
        theirs = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
        assert float(ours(several, z)) == pytest.approx(float(theirs(several, z)), rel=1e-6)


@pytest.mark.parametrize("several", [False, True])
def test_focal_with_gamma_zero_is_cross_entropy(several: bool) -> None:
    y, z = targets(several), logits(20.0)
    options = {"class_weights": WEIGHTS, "multi_label": several, "label_smoothing": 0.1}
    focal, plain = losses.Focal(gamma=0, **options), losses.CrossEntropy(**options)
    assert float(focal(y, z)) == float(plain(y, z))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("several", [False, True])
def test_the_focal_gradient_does_not_vanish_at_a_logit_of_minus_30(
    gamma: float, several: bool
) -> None:
    z = tf.Variable([[-30.0, 0.0], [40.0, -40.0]])
    with tf.GradientTape() as tape:
        value = losses.Focal(gamma=gamma, multi_label=several)([[1.0, 0.0], [1.0, 0.0]], z)
    gradient = tape.gradient(value, z).numpy()
    # A wrong row pulls with full force, one of two (and in multi-label one of four elements).
    assert gradient[0, 0] == pytest.approx(-0.25 if several else -0.5, rel=1e-3)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("make", "several"), ALL, ids=IDS)
def test_extreme_logits_give_finite_gradients(make: Callable, several: bool) -> None:
    z = tf.Variable(logits() * 50)
    with tf.GradientTape() as tape:
        value = make(class_weights=WEIGHTS)(targets(several), z)
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, z).numpy()).all()


@pytest.mark.parametrize("make", SINGLE.values(), ids=SINGLE)
def test_class_numbers_mean_the_same_as_one_hot_rows(make: Callable) -> None:
    loss = make(class_weights=WEIGHTS)
    expected = float(loss(targets(False), logits()))
    for form in (labels(), labels()[:, None], labels().astype(np.float32)):
        assert float(loss(form, logits())) == pytest.approx(expected, rel=1e-7)
    model = linear()
    model.compile("sgd", loss, run_eagerly=True)
    found = [
        model.evaluate(pixels(), y, batch_size=N, verbose=0) for y in (labels(), targets(False))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_the_example_in_the_text_holds() -> None:
    assert doctest.testmod(cross_entropy).failed == 0


@pytest.mark.parametrize(("make", "several"), ALL, ids=IDS)
def test_a_sample_weight_of_two_is_the_row_twice(make: Callable, several: bool) -> None:
    y, z, loss = targets(several), logits(), make(class_weights=WEIGHTS)
    weight = np.ones(N, np.float32)
    weight[[1, 20]] = 2
    twice = np.r_[np.arange(N), 1, 20]
    expected = float(loss(y[twice], z[twice]))
    assert float(loss(y, z, sample_weight=weight)) == pytest.approx(expected, rel=1e-6)
    assert float(loss(y, z, sample_weight=weight[:, None])) == pytest.approx(expected, rel=1e-6)


class Pictures:
    """A source for the feeder."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, i: int) -> np.ndarray:
        return self.pixels[i]


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3)).astype(np.uint8)


def linear(activation: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(C, activation=activation),
    ]
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])


@pytest.mark.parametrize(("make", "several"), ALL, ids=IDS)
def test_the_three_input_paths_agree(make: Callable, several: bool) -> None:
    x, y, model = pixels(), targets(several), linear()
    loss = make(class_weights=WEIGHTS)
    model.compile("sgd", loss, run_eagerly=True)
    expected = float(loss(y, model.predict(x, verbose=0)))
    feeder = tl.augment.feed(Pictures(x), tl.augment.Pipeline(None, SIDE), targets=y, batch_size=N)
    paths = [(x, y), (tf.data.Dataset.from_tensor_slices((x, y)).batch(N),), (feeder,)]
    for path in paths:
        found = model.evaluate(*path, batch_size=None if len(path) == 1 else N, verbose=0)
        assert found == pytest.approx(expected, abs=1e-6)
    weight = np.random.default_rng(5).random(N).astype(np.float32)
    expected = float(loss(y, model.predict(x, verbose=0), sample_weight=weight))
    pairs = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(N)
    assert model.evaluate(pairs, verbose=0) == pytest.approx(expected, abs=1e-6)
    found = model.evaluate(x, y, sample_weight=weight, batch_size=N, verbose=0)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("make", "several"), ALL, ids=IDS)
def test_a_compiled_model_is_saved_and_loaded(
    make: Callable, several: bool, tmp_path: Path
) -> None:
    model = linear()
    metric = losses.MeanLoss(losses.CrossEntropy(multi_label=several), "plain")
    model.compile("sgd", make(class_weights=WEIGHTS, label_smoothing=0.1), metrics=[metric])
    x, y = pixels(), targets(several)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again.loss) is type(model.loss)
    z = model.predict_on_batch(x)
    np.testing.assert_array_equal(again.predict_on_batch(x), z)
    assert float(again.loss(y, z)) == float(model.loss(y, z))
    assert again.loss.get_config() == model.loss.get_config()


def test_probabilities_are_turned_back_into_logits() -> None:
    x, y = pixels(), targets(False)
    ends = linear("softmax")
    plain = linear()
    plain.set_weights([w * 40 for w in ends.get_weights()])
    ends.set_weights(plain.get_weights())
    plain.compile("sgd", losses.Focal(WEIGHTS))
    ends.compile("sgd", losses.Focal(WEIGHTS, from_logits=False))
    expected = plain.evaluate(x, y, verbose=0)
    assert ends.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-6)
    p = np.array([[0.2, 0.5, 0.3]], np.float32)
    found = losses.CrossEntropy(from_logits=False)([0], p)
    assert float(found) == pytest.approx(-np.log(0.2), rel=1e-6)
    found = losses.CrossEntropy(from_logits=False, multi_label=True)([[1, 0, 0]], p)
    assert float(found) == pytest.approx(-np.log([0.2, 0.5, 0.7]).mean(), rel=1e-6)


def test_the_mean_loss_does_not_depend_on_the_batches() -> None:
    x, y, model = pixels(), targets(False), linear()
    loss = losses.CrossEntropy(WEIGHTS)
    model.compile("sgd", loss, metrics=[losses.MeanLoss(loss, "exact")])
    expected = float(loss(y, model.predict(x, verbose=0)))
    # Rows ordered by class: in batches of one class, the mean over batches knows no weights.
    found = model.evaluate(x, y, batch_size=2, verbose=0, return_dict=True)
    assert found["exact"] == pytest.approx(expected, rel=1e-6)
    assert found["loss"] != pytest.approx(expected, rel=1e-3)
    model.compile("sgd", loss, metrics=[losses.MeanLoss(loss, "loss")])
    history = model.fit(x, y, batch_size=2, validation_data=(x, y), verbose=0).history
    named = model.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    assert named["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)


def test_deferred_weights_count_from_their_epoch_on() -> None:
    x, y, model = pixels(), targets(False), linear()
    loss = losses.LDAM(COUNTS, WEIGHTS)
    model.compile(keras.optimizers.SGD(0.0), loss)
    callbacks = [losses.DeferWeights(loss, 2)]
    found = model.fit(x, y, batch_size=N, epochs=4, callbacks=callbacks, verbose=0).history["loss"]
    z = model.predict(x, verbose=0)
    plain, weighted = (losses.LDAM(COUNTS, w)(y, z) for w in (None, WEIGHTS))
    np.testing.assert_allclose(found, [plain, plain, weighted, weighted], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.CrossEntropy([1, np.nan]), "`class_weights` must be a finite number > 0"),
        (lambda: losses.CrossEntropy([1, 0]), "`class_weights` must be a finite number > 0"),
        (lambda: losses.CrossEntropy(offsets=[np.inf, 0]), "`offsets` must be a finite number"),
        (lambda: losses.CrossEntropy(label_smoothing=1), "`label_smoothing` must be"),
        (lambda: losses.Focal(gamma=-1), "`gamma` must be a finite number >= 0"),
        (lambda: losses.LogitAdjusted([3, 0]), "no training samples of class '1'"),
        (lambda: losses.LogitAdjusted([3, 1], tau=-1), "`tau` must be a finite number >= 0"),
        (lambda: losses.LDAM([3]), "two classes or more; there is only class '0'"),
        (lambda: losses.LDAM([3, 1], margin=0), "`margin` must be a finite number > 0"),
        (lambda: losses.LDAM([3, 1], multi_label=True), "LDAM is for single labels"),
        (lambda: losses.Asymmetric(clip=1), "`clip` must be a finite number >= 0 and < 1"),
        (lambda: losses.DeferWeights(losses.Focal(), 1), "`loss` must be an LDAM loss"),
        (lambda: losses.MeanLoss("mse"), "`loss` must be a loss of tltoolkit.losses"),
    ],
)
def test_bad_settings_are_refused(make: Callable, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()
