"""One sigmoid or logit for two classes, and grey images, from training to prediction."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from sklearn.metrics import accuracy_score, f1_score, log_loss

import tltoolkit as tl
from networks import KINDS, SIZE, Subclassed, data, dense, flat, layers, pixels, then
from tltoolkit import losses
from tltoolkit.artifacts import foreign
from tltoolkit.artifacts.inference import predict_proba
from tltoolkit.imbalance import METHODS
from tltoolkit.model.network import as_channels, network_of
from tltoolkit.runs.estimate import estimate
from tltoolkit.training.correcting import last_dense
from tltoolkit.training.linear import linear_head

pytestmark = [
    pytest.mark.usefixtures("eagerly", "few_draws"),
    pytest.mark.filterwarnings("ignore:the graph of"),  # of the subclassed networks
]

NAMES = ("a", "b")
# Of methods that draw rows, make them or weigh them one each: what the others change comes before.
ALIKE = [
    "undersample",
    "sqrt",
    "progressive",
    "borderline_smote",
    "svm_smote",
    "adasyn",
    "effective",
]
WITH_SIGMOID = [("sigmoid", method) for method in METHODS if method not in ALIKE]
ONE = {"sigmoid": lambda: dense(1, "sigmoid"), "logit": lambda: dense(1)}


def rare(count: int = 40) -> Any:
    """Two classes, the second a quarter of the images."""
    rng = np.random.default_rng(0)
    labels = (np.arange(count) % 4 == 0).astype(np.int64)
    images = rng.integers(0, 150, (count, SIZE, SIZE, 3)) + 60 * labels[:, None, None, None]
    return tl.data.from_arrays(images.astype(np.uint8), labels, val=0.25)


def plan(unfreeze: str = "all", **options: Any) -> tl.Plan:
    return tl.Plan((tl.Stage("s", unfreeze=unfreeze, epochs=1, learning_rate=1e-2, **options),))


@pytest.mark.parametrize(
    ("kind", "form", "unfreeze"),
    [
        *((kind, "sigmoid", "all") for kind in KINDS),
        ("flat", "sigmoid", "head"),
        ("flat", "logit", "head"),
    ],
)
def test_training_scores_and_answers_agree_with_the_model(
    kind: str, form: str, unfreeze: str
) -> None:
    keras.utils.set_random_seed(0)
    model, used = KINDS[kind](ONE[form]()), data(2)
    before = [w.copy() for w in model.get_weights()]
    run = tl.fine_tune(model, used, plan(unfreeze), "none", verbose=0)
    assert not all(np.array_equal(*w) for w in zip(before, model.get_weights(), strict=True))
    said = model.predict(pixels(used.val), verbose=0)[:, 0].astype(np.float64)
    p = said if form == "sigmoid" else expit(said)
    best = {name: values[run.best_epoch] for name, values in run.history.items()}
    assert best["val_loss"] == pytest.approx(log_loss(used.val.labels, p), rel=1e-4)
    assert best["val_accuracy"] == pytest.approx(accuracy_score(used.val.labels, p > 0.5))
    f1 = f1_score(used.val.labels, p > 0.5, average="macro")
    assert best["val_f1_macro"] == pytest.approx(f1)
    report = tl.evaluate(model, used.val)
    np.testing.assert_allclose(report.probabilities, np.stack([1 - p, p], 1), atol=1e-6)
    assert report.f1_macro == pytest.approx(f1)
    np.testing.assert_allclose(predict_proba(model, used.val)[:, 1], p, atol=1e-6)


@pytest.mark.parametrize("form", ONE)
def test_a_step_is_that_of_keras_own_binary_cross_entropy(form: str) -> None:
    used = data(2, count=32, val=0)
    weights = []
    for ours in (True, False):
        keras.utils.set_random_seed(0)
        model = flat(ONE[form]())
        if ours:
            stage = tl.Stage(
                "s", unfreeze="all", epochs=1, optimizer="sgd", momentum=0.0, weight_decay=0,
                clip_norm=None, schedule="constant", learning_rate=0.1,
            )  # fmt: skip
            tl.fine_tune(model, used, tl.Plan((stage,)), "none", verbose=0)
        else:
            loss = keras.losses.BinaryCrossentropy(from_logits=form == "logit")
            model.compile(keras.optimizers.SGD(0.1), loss)
            model.fit(pixels(used.train), used.train.labels, batch_size=32, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("form", ONE)
def test_a_solved_head_is_that_of_two_outputs(form: str) -> None:
    used, answers = data(2), []
    for head in (ONE[form](), dense(2, "softmax")):
        keras.utils.set_random_seed(0)
        model = flat(head)
        solved = tl.Plan((tl.Stage("s", optimizer="lbfgs"),))
        run = tl.fine_tune(model, used, solved, "none", verbose=0)
        report = tl.evaluate(model, used.val)
        assert run.history["val_f1_macro"][0] == pytest.approx(report.f1_macro)
        assert run.history["val_loss"][0] == pytest.approx(report.log_loss, rel=1e-4)
        answers.append(report.probabilities)
    np.testing.assert_allclose(*answers, atol=1e-4)


@pytest.mark.parametrize(
    ("form", "method"), [*WITH_SIGMOID, ("logit", "logit"), ("logit", "focal")]
)
def test_imbalance_methods_do_what_they_do_with_two_outputs(form: str, method: str) -> None:
    used, histories = rare(), []
    # The first logit of two outputs with opposite weights is minus half of one logit.
    for units in (1, 2):
        keras.utils.set_random_seed(0)
        model = flat(
            ONE[form]() if units == 1 else dense(2, None if form == "logit" else "softmax")
        )
        kernel = np.random.default_rng(0).normal(size=(6, 1))
        top = model.layers[-1]
        top.set_weights(
            [kernel, np.zeros(1)] if units == 1 else [kernel * [[-0.5, 0.5]], np.zeros(2)]
        )
        stages = plan("head", optimizer="sgd", weight_decay=0, clip_norm=None)
        try:
            run = tl.fine_tune(model, used, stages, "none", method, verbose=0)
        except (ValueError, ImportError) as error:
            histories.append(str(error).split("Received")[0])
            continue
        report = tl.evaluate(model, used.val)
        best = run.history["val_f1_macro"][run.best_epoch]
        assert best == pytest.approx(report.f1_macro)
        histories.append(run.history["loss"][0])
    if isinstance(histories[1], str):
        assert histories[0] == histories[1]
    else:
        # The same start; steps differ, as two weights move by half the gradient each.
        assert histories[0] == pytest.approx(histories[1], rel=0.1)


def test_the_bias_is_shifted_once_by_the_log_odds() -> None:
    model, used = flat(dense(1, "sigmoid")), rare()
    freeze = tl.Plan((tl.Stage("s", epochs=1, learning_rate=1e-12, weight_decay=0),))
    tl.fine_tune(model, used, freeze, "none", "logit", verbose=0)
    absent, present = used.train.class_counts
    assert model.layers[-1].bias.numpy() == pytest.approx(np.log(absent / present), rel=1e-5)


@pytest.mark.parametrize(("kind", "form"), [("nested", "logit"), ("sequential", "sigmoid")])
def test_a_run_directory_and_its_file_answer_alike(kind: str, form: str, tmp_path: Path) -> None:
    def ask() -> Any:
        keras.utils.set_random_seed(0)
        model = KINDS[kind](ONE[form]())
        return tl.fine_tune(model, data(2), plan(), "none", run_dir=tmp_path / "r", verbose=0)

    run, again, images = ask(), ask(), pixels(data(2).val)
    np.testing.assert_array_equal(run.model.get_weights()[-1], again.model.get_weights()[-1])
    predictor = foreign.load(tmp_path / "r" / "model.keras", NAMES)
    said = predictor.predict(list(images))
    p = predict_proba(run.model, data(2).val)
    np.testing.assert_allclose([list(s.probabilities.values()) for s in said], p, atol=1e-6)
    assert [s.label for s in said] == [NAMES[i] for i in p.argmax(1)]
    assert json.loads((tmp_path / "r" / "run.json").read_text())["best_epoch"] == run.best_epoch


def build() -> keras.Model:
    keras.utils.set_random_seed(0)
    return flat(dense(1, "sigmoid"))


@pytest.mark.usefixtures("traced")
def test_all_that_looks_at_a_model_takes_it() -> None:
    used = data(2, count=60)
    found = tl.check.data(used, build())
    assert found.problems == () or "outputs" not in " ".join(found.problems)
    assert found.loss == pytest.approx(tl.evaluate(build(), used.train).log_loss, rel=1e-4)
    assert tl.check.capacity(build(), used, 6, steps=150).verdict == "fine"
    assert len(tl.tune.find_lr(build(), used, steps=20).rates) > 1


def test_all_that_measures_takes_it() -> None:
    used = data(2, count=60)

    assert estimate(build(), used, plan(), "none").parameters == build().count_params()
    ours, two = (
        tl.tune.learning_curve(make, used, (10, 20, 36), 2).points
        for make in (build, lambda: keras.utils.set_random_seed(0) or flat(dense(2)))
    )
    assert [point.scores for point in ours] == [point.scores for point in two]
    assert tl.cross_validate(build, used, 2, plan=plan(), augment="none", verbose=0).mean(
        "f1_macro"
    )
    run = tl.fine_tune(build(), used, plan("head"), "none", verbose=0)
    assert tl.refit(run, used, "continue", build=build, epochs=1).stages[0].epochs == 1
    auto = tl.fine_tune(build(), used, "auto", "none", verbose=0)
    # Its head has seen the validation images, so that they say no more of it.
    assert "training and validation images together" in auto.why
    assert tl.evaluate(auto.model, used.val).f1_macro > 0.5


def test_it_stands_for_two_classes_and_no_other_number() -> None:
    with pytest.raises(ValueError, match="data with the model's 2 classes"):
        tl.fine_tune(flat(dense(1, "sigmoid")), data(3), verbose=0)


@pytest.mark.parametrize("targets", ["numbers", "column", "one-hot"])
@pytest.mark.parametrize("from_logits", [True, False])
def test_the_losses_take_one_output(targets: str, from_logits: bool) -> None:
    rng = np.random.default_rng(0)
    labels, z = rng.integers(0, 2, 9), rng.normal(size=(9, 1)).astype(np.float32)
    given = {"numbers": labels, "column": labels[:, None], "one-hot": np.eye(2)[labels]}[targets]
    said = z if from_logits else expit(z)
    found = float(losses.CrossEntropy(from_logits=from_logits)(given, said))
    expected = keras.losses.BinaryCrossentropy(from_logits=from_logits)(labels[:, None], said)
    assert found == pytest.approx(float(expected), rel=1e-5)
    both = np.hstack([np.zeros_like(z), z])
    for make in (
        lambda **o: losses.Focal([1.0, 3.0], **o),
        lambda **o: losses.LDAM([20, 5], **o),
        lambda **o: losses.LogitAdjusted([20, 5], **o),
    ):
        one = float(make(from_logits=from_logits)(given, said))
        assert one == pytest.approx(float(make()(labels, both)), rel=1e-4)


# ---- heads that look linear ----


ANYHOW = layers.Lambda(lambda x: x / 2)
HEADS: list[tuple[Callable[[], Any], bool, bool]] = [
    (lambda: dense(3, "softmax"), True, True),
    (lambda: dense(3, kernel_initializer="zeros"), True, True),
    (lambda: then(dense(3), layers.Dropout(0.5), layers.Softmax()), True, True),
    (lambda: then(layers.Dropout(0.5), dense(3, "softmax"), layers.Reshape((3,))), True, True),
    (lambda: then(dense(3, "tanh"), layers.Softmax()), False, False),
    (lambda: then(dense(3), ANYHOW, layers.Softmax()), False, False),
    (lambda: then(dense(3, kernel_initializer="zeros"), ANYHOW, layers.Softmax()), False, False),
    (lambda: then(layers.Dropout(0.5), layers.ReLU(), dense(3)), False, True),
    (lambda: then(layers.Dropout(0.5), layers.UnitNormalization(), dense(3)), False, True),
]


@pytest.mark.parametrize(("head", "linear", "biased"), HEADS)
def test_only_a_head_that_is_linear_is_solved_or_shifted(
    head: Callable[[], Any], linear: bool, biased: bool
) -> None:
    network = network_of(flat(head()))
    assert (linear_head(network) is not None) == linear
    assert (last_dense(network) is not None) == biased


# ---- grey images ----


def grey(split: Any) -> Any:
    return np.stack([np.asarray(Image.fromarray(i).convert("L")) for i in pixels(split)])[..., None]


def test_grey_is_pillows() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    np.testing.assert_array_equal(np.asarray(as_channels(images, 1))[..., 0], expected)


@pytest.mark.parametrize(
    ("kind", "unfreeze"), [("flat", "head"), *((kind, "all") for kind in KINDS)]
)
def test_a_model_of_grey_images_trains_and_answers(kind: str, unfreeze: str) -> None:
    keras.utils.set_random_seed(0)
    model, used = KINDS[kind](dense(2, "softmax"), 1), data(2)
    run = tl.fine_tune(model, used, plan(unfreeze), "light", verbose=0)
    report = tl.evaluate(model, used.val)
    expected = model.predict(grey(used.val), verbose=0)
    np.testing.assert_allclose(report.probabilities, expected, atol=1e-6)
    assert report.f1_macro == pytest.approx(run.history["val_f1_macro"][run.best_epoch])


def test_stored_grey_activations_are_those_of_every_step() -> None:
    weights = []
    for views in (0, 1):
        keras.utils.set_random_seed(0)
        model = flat(dense(2, "softmax"), 1)
        tl.fine_tune(model, data(2), plan("head", cache_views=views), "none", verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.usefixtures("traced")
def test_all_that_measures_takes_grey_images(tmp_path: Path) -> None:
    used = data(2, count=60)
    for make in (flat, Subclassed):
        model = make(dense(2), 1)
        tl.check.data(used, model)
        assert estimate(model, used, plan(), "none").parameters == model.count_params()
        if make is flat:
            assert tl.check.capacity(model, used, 4, steps=20).attempts
        else:
            tl.tune.find_lr(model, used, steps=20)
    # One output too, for both.
    model = flat(dense(1), 1)
    assert tl.tune.find_batch_size(model, data(2, count=36)).batch_size == 16
    model.save(tmp_path / "m.keras")
    said = foreign.load(tmp_path / "m.keras", NAMES).predict(list(pixels(used.val)))
    np.testing.assert_allclose(
        [list(s.probabilities.values()) for s in said], predict_proba(model, used.val), atol=1e-6
    )
