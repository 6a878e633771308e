"""What the outputs of a user's own model mean: told, stated, or refused before any work."""

import itertools
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, softmax

import tltoolkit as tl
from networks import KINDS, SIZE, Head, body, data, dense, flat, layers, pixels, then
from tltoolkit.artifacts import foreign
from tltoolkit.artifacts.inference import predict_proba
from tltoolkit.model.network import network_of
from tltoolkit.runs.estimate import estimate

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

ops = keras.ops


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@keras.saving.register_keras_serializable("test_outputs")
class SoftmaxInside(layers.Layer):
    def __init__(self, units: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.dense = units, layers.Dense(units)

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        powers = ops.exp(self.dense(x))
        return powers / ops.sum(powers, axis=-1, keepdims=True)


SOFTMAX: dict[str, Callable[[], Head]] = {
    "by name": lambda: dense(3, "softmax"),
    "by layer": lambda: then(dense(), layers.Softmax()),
    "keras.ops": lambda: then(dense(), lambda x: ops.softmax(x)),
    "tf.nn": lambda: dense(3, tf.nn.softmax),
    "keras.activations": lambda: then(dense(), keras.activations.softmax),
    "mixed precision's": lambda: then(
        dense(3, "softmax"), layers.Activation("linear", dtype="float32")
    ),
    "reshape": lambda: then(dense(3, "softmax"), layers.Reshape((3,))),
    "dropout": lambda: then(dense(3, "softmax"), layers.Dropout(0.2, seed=0)),
    "lambda": lambda: then(dense(), layers.Lambda(lambda x: tf.nn.softmax(x))),
    "average": lambda: lambda x: layers.Average()([dense(3, "softmax")(x), dense(3, "softmax")(x)]),
    "inside a call": lambda: SoftmaxInside(),
    "starts at zero": lambda: dense(3, "softmax", kernel_initializer="zeros"),
    "four axes": lambda: then(layers.Reshape((1, 1, 6)), dense(3, "softmax"), layers.Flatten()),
}
LOGITS: dict[str, Callable[[], Head]] = {
    "dense": dense,
    "no bias": lambda: dense(use_bias=False),
    "starts at zero": lambda: dense(kernel_initializer="zeros"),
    "starts at a sum of 1": lambda: dense(
        4, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.25)
    ),
    "temperature": lambda: then(dense(), layers.Lambda(lambda x: x / 2)),
    "normalised": lambda: then(dense(), layers.BatchNormalization()),
    "relu": lambda: dense(3, "relu", bias_initializer="ones"),
    "log softmax": lambda: dense(3, "log_softmax"),
    "linear": lambda: then(dense(), layers.Activation("linear", dtype="float32")),
    "positive": lambda: dense(
        3, kernel_initializer=keras.initializers.RandomUniform(0, 0.1, seed=0), use_bias=False
    ),
}
SIGMOID: dict[str, Callable[[], Head]] = {
    "by name": lambda: dense(3, "sigmoid"),
    "keras.ops": lambda: then(dense(), lambda x: ops.sigmoid(x)),
    "reshape": lambda: then(dense(3, "sigmoid"), layers.Reshape((3,))),
    "starts at a sum of 1": lambda: dense(2, "sigmoid", kernel_initializer="zeros"),
    "one": lambda: dense(1, "sigmoid"),
}
CASES = [
    (name, make, activation)
    for activation, forms in (("softmax", SOFTMAX), ("", LOGITS), ("sigmoid", SIGMOID))
    for name, make in forms.items()
]


def several(count: int = 36) -> Any:
    """Multi-label data of three classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (count, 3)).astype(np.uint8)
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    return tl.data.from_arrays(images, labels, val=0.25)


# Every form in one kind of model, each kind with several forms of each activation.
IN_TURN = [(*case, kind) for case, kind in zip(CASES, itertools.cycle(KINDS), strict=False)]


@pytest.mark.parametrize(
    ("name", "make", "activation", "kind"),
    IN_TURN,
    ids=[f"{a or 'logits'}: {n}, {k}" for n, _, a, k in IN_TURN],
)
def test_the_meaning_is_told_without_a_doubt(
    name: str, make: Callable[[], Head], activation: str, kind: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = network_of(KINDS[kind](make()))
    assert network.activation == activation, name
    assert network.from_logits == (activation == "")


@pytest.mark.parametrize(
    ("name", "kind"),
    list(zip(["keras.ops", "average", "inside a call", "mixed precision's"], KINDS, strict=True)),
)
def test_softmax_is_not_applied_twice(name: str, kind: str) -> None:
    model = KINDS[kind](SOFTMAX[name]())
    found = tl.evaluate(model, data().val).probabilities
    np.testing.assert_allclose(found, model.predict(pixels(data().val), verbose=0), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("make", "activation"),
    [
        (SOFTMAX["by name"], "softmax"),
        (SOFTMAX["inside a call"], "softmax"),
        (SOFTMAX["mixed precision's"], "softmax"),
        (LOGITS["dense"], ""),
        (SIGMOID["by name"], "sigmoid"),
    ],
)
def test_half_precision_is_told_and_scored(
    policy: str, make: Callable[[], Head], activation: str
) -> None:
    keras.config.set_dtype_policy(policy)
    model = flat(make())
    used = several() if activation == "sigmoid" else data()
    assert network_of(model).activation == activation
    said = np.asarray(model.predict(pixels(used.val), verbose=0), np.float32)
    expected = softmax(said, axis=1) if activation == "" else said
    report = tl.evaluate(model, used.val)
    np.testing.assert_allclose(report.probabilities, expected, atol=1e-2)
    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=1),))
    run = tl.fine_tune(model, used, plan, "none", "balanced", verbose=0)
    assert np.isfinite(run.history["val_loss"]).all()


@pytest.mark.parametrize("name", ["keras.ops", "lambda", "inside a call", "reshape"])
def test_a_softmax_of_any_form_trains_as_its_logits_do(name: str) -> None:
    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-2),))
    weights = []
    for head in (dense(), SOFTMAX[name]()):
        keras.utils.set_random_seed(0)
        model = flat(head)
        model.set_weights([np.full(w.shape, 0.1) if w.ndim == 1 else w for w in FIRST])
        tl.fine_tune(model, data(), plan, "none", verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


FIRST = [
    np.random.default_rng(i).normal(0, 0.3, shape)
    for i, shape in enumerate([(3, 3, 3, 4), (4,), (3, 3, 4, 6), (6,), (6, 3), (3,)])
]


# ---- what is not certain ----


def unsure() -> keras.Model:
    """Logits that begin at zero, behind a layer that could do anything."""
    keras.utils.set_random_seed(0)
    return flat(then(dense(kernel_initializer="zeros"), layers.Lambda(lambda x: x / 2)))


def linear() -> Any:
    return tl.Plan((tl.Stage("head", epochs=1),))


ASKED: dict[str, Callable[..., Any]] = {
    "fine_tune": lambda **o: tl.fine_tune(unsure(), data(), linear(), "none", verbose=0, **o),
    "evaluate": lambda **o: tl.evaluate(unsure(), data().val, **o),
    "predict_proba": lambda **o: predict_proba(unsure(), data().val, **o),
    "estimate": lambda **o: estimate(unsure(), data(), linear(), "none", **o),
    "check.data": lambda **o: tl.check.data(data(), unsure(), **o),
    "check.capacity": lambda **o: tl.check.capacity(unsure(), data(), 4, steps=10, **o),
    "find_lr": lambda **o: tl.tune.find_lr(unsure(), data(), steps=20, **o),
    "find_batch_size": lambda **o: tl.tune.find_batch_size(flat(lambda x: zeros()(x)), data(), **o),
    "cross_validate": lambda **o: tl.cross_validate(
        unsure, data(), 2, plan=linear(), augment="none", verbose=0, **o
    ),
    "learning_curve": lambda **o: tl.tune.learning_curve(
        unsure, data(), (6, 12, 18), 2, plan=linear(), augment="none", verbose=0, **o
    ),
}


def zeros() -> Any:
    # find_batch_size takes no Lambda to another process.
    return keras.Sequential([dense(kernel_initializer="zeros"), layers.ReLU()])


@pytest.mark.parametrize("name", ASKED)
def test_a_doubt_is_said_and_a_statement_ends_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What follows the question has tests of its own, and takes seconds.
    monkeypatch.setattr("tltoolkit.tune.batch_size._measure", lambda order: ())
    monkeypatch.setattr("tltoolkit.tune.rate.sweep.find_rate", lambda *_: None)
    monkeypatch.setattr("tltoolkit.tune.curve.summarise", lambda *_, **__: None)
    with pytest.warns(UserWarning, match=r"not certain.*taken for logits; from_logits=True states"):
        ASKED[name]()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="what the outputs")
        ASKED[name](from_logits=True)
    with pytest.raises(ValueError, match="`from_logits` must be one of 'auto', True, False"):
        ASKED[name](from_logits="maybe")


def test_a_refit_knows_what_was_stated(tmp_path: Path) -> None:
    run = tl.fine_tune(
        unsure(), data(), linear(), "none", verbose=0, from_logits=True, run_dir=tmp_path / "run"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="what the outputs")
        for how in ("repeat", "continue"):
            tl.refit(run, data(), how, build=unsure, epochs=1)
    with (
        pytest.raises(ValueError, match="from_logits was True and is None"),
        pytest.warns(UserWarning, match="not certain"),
    ):
        tl.fine_tune(unsure(), data(), linear(), "none", verbose=0, run_dir=tmp_path / "run")


def test_a_statement_is_kept() -> None:
    model = flat(dense(3, "softmax"))
    said = model.predict(pixels(data().val), verbose=0)
    found = predict_proba(model, data().val, from_logits=True)
    np.testing.assert_allclose(found, softmax(said, axis=1), atol=1e-6)
    with pytest.raises(ValueError, match="`from_logits` must be True or 'auto' for a model with"):
        predict_proba(flat(dense(bias_initializer="ones")), data().val, from_logits=False)


def test_a_network_that_is_not_finite_is_doubted_unless_its_graph_tells() -> None:
    hidden, told = unsure(), flat(dense(3, "softmax"))
    for model in (hidden, told):
        model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
    with pytest.warns(UserWarning, match="they are not finite. They are taken for logits"):
        assert network_of(hidden).from_logits
    assert network_of(told).activation == "softmax"


def test_scores_that_nothing_explains_are_probabilities_of_several_labels() -> None:
    model = flat(then(dense(3, "sigmoid"), layers.Lambda(lambda x: x * 0.5 + 0.2)))
    with pytest.warns(UserWarning, match="are taken for probabilities"):
        assert network_of(model, multi_label=True).activation == "sigmoid"
    with pytest.warns(UserWarning, match="are taken for logits"):
        assert network_of(model).from_logits
    assert network_of(model, False, True).activation == "sigmoid"


def test_models_of_build_classifier_need_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tl.build_classifier("efficientnet_lite0", ("a", "b"), None, 32)
    monkeypatch.setattr("tltoolkit.model.outputs.Probe", None)
    assert network_of(model).activation == "softmax"
    with pytest.raises(ValueError, match="`from_logits` must be 'auto' or False for a model of"):
        network_of(model, from_logits=True)


class Counts(layers.Layer):
    """Keeps a state, and draws from every generator there is, in inference too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        self.calls.assign_add(1)
        drawn = tf.numpy_function(lambda: np.float32(np.random.random()), [], tf.float32)  # noqa: NPY002
        drawn.set_shape(())
        random.random()
        return x + 0 * (drawn + keras.random.normal((), seed=self.seeds) + keras.random.normal(()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_leaves_no_trace(kind: str) -> None:
    model = KINDS[kind](
        then(Counts(), layers.BatchNormalization(), lambda x: layers.Dropout(0.5)(x), dense())
    )
    keras.random.normal(())  # makes Keras' global generator
    before = [v.numpy() for v in model.variables], random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    following = keras.utils.set_random_seed(5) or float(keras.random.normal(()))
    keras.utils.set_random_seed(5)
    state = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    network_of(model)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state  # noqa: NPY002
    assert float(keras.random.normal(())) == following
    for variable, value in zip(model.variables, before[0], strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


# ---- what is refused ----


def two(x: Any) -> Any:
    return [dense()(x), dense()(x)]


REFUSED: dict[str, tuple[Callable[[], Head], bool, str]] = {
    "dict": (lambda: lambda x: {"scores": dense()(x)}, False, "one output, the row of class"),
    "two": (lambda: two, False, "one output, the row of class scores; of several take one"),
    "sigmoids": (lambda: dense(3, "sigmoid"), False, "softmax or logits .*Received.*sigmoid"),
    "sigmoids by ops": (SIGMOID["keras.ops"], False, "sigmoids are for data with several labels"),
    "softmax of one": (lambda: dense(1, "softmax"), False, "softmax of one output is always 1"),
    "softmax": (lambda: dense(3, "softmax"), True, "sigmoids or logits, since an image has"),
    "four": (lambda: dense(4), False, "data with the model's 4 classes"),
    "map": (lambda: layers.Reshape((2, 3)), False, r"to one \(B, C\) row of scores"),
}


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")  # one of them does
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *zip(REFUSED, itertools.cycle(KINDS), strict=False),
        *(("sigmoids by ops", kind) for kind in ("flat", "nested", "sequential")),
    ],
)
def test_outputs_that_do_not_fit_are_refused_before_any_work(name: str, kind: str) -> None:
    make, multi_label, message = REFUSED[name]
    model, used = KINDS[kind](make()), several() if multi_label else data()
    before = model.get_weights()
    for ask in (
        lambda: tl.fine_tune(model, used, verbose=0),
        lambda: tl.evaluate(model, used.val),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    for now, then_ in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then_)


def test_two_sigmoids_for_two_classes_are_refused_with_a_word_on_how() -> None:
    with pytest.raises(ValueError, match="or in one sigmoid for two classes"):
        tl.fine_tune(flat(dense(2, "sigmoid")), data(2), verbose=0)
    assert "sigmoids are independent" in str(tl.check.data(data(2), flat(dense(2, "sigmoid"))))


def test_the_input_that_is_proposed_for_images_that_are_not_square_works() -> None:
    inside = keras.Input((SIZE, 2 * SIZE, 3))
    model = keras.Model(inside, dense(3, "softmax")(body(inside)))
    with pytest.raises(ValueError, match=r"keras.Input\(\(16, 16, 3\)\).*Resizing\(8, 16\)"):
        tl.evaluate(model, data().val)
    square = keras.Sequential([keras.Input((16, 16, 3)), layers.Resizing(SIZE, 16), model])
    used = data()
    tl.fine_tune(square, used, linear(), "none", verbose=0)
    assert tl.evaluate(square, used.val).probabilities.shape == (len(used.val), 3)


# ---- files ----


@pytest.mark.parametrize("name", ["keras.ops", "reshape", "average", "inside a call"])
def test_a_file_answers_as_the_model_did(name: str, tmp_path: Path) -> None:
    model = flat(SOFTMAX[name]())
    model.save(tmp_path / "m.keras")
    predictor = foreign.load(tmp_path / "m.keras", ("a", "b", "c"))
    images = pixels(data().val)
    said = [list(one.probabilities.values()) for one in predictor.predict(list(images))]
    np.testing.assert_allclose(said, model.predict(images, verbose=0), atol=1e-6)


def test_a_function_that_keras_does_not_know_again_is_named(tmp_path: Path) -> None:
    flat(SOFTMAX["tf.nn"]()).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="it needs the function 'softmax_v2', which is not Keras"):
        foreign.load(tmp_path / "m.keras", ("a", "b", "c"))


def test_a_file_whose_meaning_is_not_certain_can_be_stated(tmp_path: Path) -> None:
    model = flat(then(dense(3, kernel_initializer="zeros"), layers.ReLU()))
    model.save(tmp_path / "m.keras")
    names = ("a", "b", "c")
    with pytest.warns(UserWarning, match="not certain"):
        foreign.load(tmp_path / "m.keras", names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor = foreign.load(tmp_path / "m.keras", names, from_logits=True)
        (said,) = predictor.predict([np.zeros((SIZE, SIZE, 3), np.uint8)])
    assert list(said.probabilities.values()) == pytest.approx([1 / 3] * 3)


def test_sigmoids_in_a_file_are_for_several_labels(tmp_path: Path) -> None:
    model = flat(dense(3, "sigmoid"))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="sigmoids are for data with several labels"):
        foreign.load(tmp_path / "m.keras", ("a", "b", "c"))
    predictor = foreign.load(tmp_path / "m.keras", ("a", "b", "c"), multi_label=True)
    images = pixels(data().val)
    said = [list(one.probabilities.values()) for one in predictor.predict(list(images))]
    logits = keras.Model(model.inputs, model.layers[-2].output).predict(images, verbose=0)
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(said, expit(logits @ kernel + bias), atol=1e-6)
