"""Imbalance in `fine_tune`: the same in every kind of stage, in scores, files and predictions."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from imblearn.under_sampling import RandomUnderSampler
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

import tltoolkit as tl
from tltoolkit import imbalance, losses
from tltoolkit.artifacts.inference import predict_proba
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.data.stratify import deal
from tltoolkit.model.network import network_of
from tltoolkit.runs.record import Run
from tltoolkit.training import correcting, features

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE, NAMES = 8, ("dark", "dim", "light")
LABELS = np.repeat([0, 1, 2], [84, 24, 12])
HEAD = tl.Plan((tl.Stage("head", epochs=2, learning_rate=0.05),))
BOTH = tl.Plan((tl.Stage("probe", optimizer="lbfgs"), tl.Stage("all", unfreeze="all", epochs=2)))


def images(labels: np.ndarray = LABELS, seed: int = 0) -> np.ndarray:
    """Noise, the brighter the higher its class; the classes overlap."""
    noise = np.random.default_rng(seed).normal(60, 30, (len(labels), SIZE, SIZE, 3))
    level = np.random.default_rng(seed + 1).normal(0, 22, (len(labels), 1, 1, 3))
    return (noise + level + 30 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)


def data(**options: Any) -> tl.data.ImageData:
    return split(tl.data.from_arrays(images(), LABELS, NAMES, **{"val": 0.0, **options}))


def split(whole: tl.data.ImageData) -> tl.data.ImageData:
    """A third of each class for validation, to the image."""
    held = deal(whole.train.labels, (0.67, 0.33), 0) == 1
    return dataclasses.replace(whole, train=whole.train.subset(~held), val=whole.train.subset(held))


def model(activation: str | None = None, units: int = 3, bias: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    scores = keras.layers.Dense(units, activation, use_bias=bias, name="scores")(x)
    return keras.Model(pixels, scores)


def tune(method: Any = "none", plan: Any = HEAD, start: Any = None, **options: Any) -> Run:
    given = {"data": data(), "verbose": 0, **options}
    own = start if start is not None else model()
    return tl.fine_tune(own, given.pop("data"), plan, "none", method, **given)


@functools.cache
def trained_by(method: str, plan: Any = BOTH) -> Run:
    """A run that several tests look at."""
    return tune(method, plan)


def pooled(trained: keras.Model, split: Any) -> np.ndarray:
    lower = keras.Model(trained.input, trained.layers[-2].output)
    return lower.predict(np.stack([split.image(i) for i in range(len(split))]), verbose=0)


# Every method, in every kind of stage


@pytest.mark.parametrize(
    "method", ["balanced", "logit", "undersample", "focal", "ldam", "retrain", "smote"]
)
def test_scores_are_those_of_the_model_that_comes_out(method: str) -> None:
    run = trained_by(method, HEAD if method == "smote" else BOTH)
    val = data().val
    report = tl.evaluate(run.model, val)
    best = run.best_epoch
    assert report.f1_macro == pytest.approx(run.history["val_f1_macro"][best], abs=1e-6)
    assert report.accuracy == pytest.approx(run.history["val_accuracy"][best], abs=1e-6)
    plain = run.history.get("val_cross_entropy", run.history["val_loss"])[best]
    if method != "retrain":
        assert report.log_loss == pytest.approx(plain, rel=1e-4)
    assert run.settings["imbalance"]["class_counts"] == dict(
        zip(NAMES, data().train.class_counts.tolist(), strict=True)
    )


@pytest.mark.parametrize("method", ["asymmetric", "balanced", "logit"])
def test_multi_label_training(method: str) -> None:
    several = np.stack([LABELS >= 1, LABELS == 2], 1).astype(np.uint8)
    given = split(tl.data.from_arrays(images(), several, ["not dark", "light"], val=0.0))
    plan = HEAD if method == "asymmetric" else BOTH
    run = tl.fine_tune(model(units=2), given, plan, "none", method, verbose=0)
    report = tl.evaluate(run.model, given.val)
    assert report.f1_macro == pytest.approx(run.history["val_f1_macro"][run.best_epoch], abs=1e-6)


def test_a_model_that_ends_in_probabilities() -> None:
    runs = [tune("logit", BOTH, model("softmax")), trained_by("logit")]
    for first, second in zip(*(run.model.get_weights() for run in runs), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)
    for name in runs[0].history:
        np.testing.assert_allclose(runs[0].history[name], runs[1].history[name], atol=1e-3)


# What it comes to


def test_a_solved_head_is_scikit_learns_with_balanced_weights() -> None:
    run, train = tune("balanced", "linear_probe"), data().train
    x = pooled(run.model, train).astype(np.float64)
    std = x.std(0)
    x = (x - x.mean(0)) / np.where(std == 0, 1, std)  # a ReLU may be dead
    found = run.model.predict(np.stack([train.image(i) for i in range(len(train))]), verbose=0)
    # The strength that was picked is one of the path; the solution is scikit-learn's at it.
    gaps = [
        np.abs(
            LogisticRegression(C=10.0 ** (k / 2), class_weight="balanced", max_iter=1000, tol=1e-6)
            .fit(x, train.labels).predict_proba(x) - _softmax(found)
        ).max()
        for k in range(-10, 3)
    ]  # fmt: skip
    assert min(gaps) < 5e-3


def test_logit_adjustment_is_plain_training_and_a_shift_of_the_bias() -> None:
    plain, adjusted = trained_by("none"), trained_by("logit")
    np.testing.assert_allclose(plain.history["loss"], adjusted.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(plain.history["val_loss"], adjusted.history["val_loss"], rtol=1e-4)
    # Each epoch is scored as the user will get it, so that the best is the best of those.
    assert adjusted.history["val_f1_macro"] != plain.history["val_f1_macro"]
    first, second = (run.model.layers[-1] for run in (tune("none"), tune("logit")))
    np.testing.assert_allclose(first.kernel, second.kernel, atol=1e-6)
    offsets = imbalance.logit_offsets(data().train.class_counts)
    np.testing.assert_allclose(first.bias - offsets, second.bias, atol=1e-6)


def test_validation_reports_the_weighted_and_the_plain_loss() -> None:
    run, val = trained_by("balanced"), data().val
    p = predict_proba(run.model, val)
    weights = imbalance.class_weights("balanced", data().train.class_counts)
    best = run.best_epoch
    weighted = log_loss(val.labels, p, sample_weight=weights[val.labels])
    assert run.history["val_loss"][best] == pytest.approx(weighted, rel=1e-5)
    assert run.history["val_cross_entropy"][best] == pytest.approx(
        log_loss(val.labels, p), rel=1e-5
    )
    f1 = f1_score(val.labels, p.argmax(1), average="macro")
    assert run.history["val_f1_macro"][best] == pytest.approx(f1)


def test_label_smoothing_reaches_corrected_losses() -> None:
    smooth = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-9, label_smoothing=0.2),))
    run, val = tune("focal", smooth), data().val
    z = run.model.predict(np.stack([val.image(i) for i in range(len(val))]), verbose=0)
    expected = losses.Focal(label_smoothing=0.2)(val.labels, z)
    assert run.history["val_loss"][0] == pytest.approx(float(expected), rel=1e-5)


def test_stored_rows_come_as_those_of_pixels() -> None:
    train = data().train
    correction = imbalance.correct("undersample", train.labels, NAMES)
    sample = correction.sample(seed=3, epochs=4)
    stored = np.arange(len(train), dtype=np.float32)[None, :, None]
    fed = features.feed(stored, np.eye(3)[train.labels], 8, 3, sample=sample)
    pixels = tl.augment.Batches(
        train, tl.augment.Pipeline(None, SIZE), batch_size=8, shuffle=True, seed=3, sample=sample
    )
    for epoch in range(3):
        got = np.concatenate([x[:, 0] for x, _ in fed.as_numpy_iterator()])
        np.testing.assert_array_equal(got, pixels.order(epoch))
        assert len(set(np.bincount(train.labels[got.astype(int)]))) == 1


def test_fewer_rows_make_a_shorter_schedule() -> None:
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(float(self.model.optimizer.learning_rate))

    run = tune("undersample", callbacks=[Watch()], batch_size=8)
    smallest = data().train.class_counts.min()
    assert len(seen) == 2 * -(-3 * smallest // 8)
    assert seen[-1] < 0.1 * seen[0]  # the cosine ends with the stage
    assert "undersample sampling" in run.settings["imbalance"]["said"]


def test_a_sampler_of_imbalanced_learn_trains() -> None:
    run = tune(tl.Imbalance(sampling=RandomUnderSampler()), "linear_probe")
    assert run.settings["imbalance"]["sampling"] == "RandomUnderSampler()"


def test_training_again_gives_the_same_weights_to_the_bit() -> None:
    for method, plan in (("smote", HEAD), ("undersample", BOTH)):
        found = trained_by(method, plan), tune(method, plan)
        first, second = (run.model.get_weights() for run in found)
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_run_goes_on_with_its_correction(tmp_path: Path) -> None:
    class StopOnce(keras.callbacks.Callback):
        times = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            StopOnce.times += epoch
            if StopOnce.times == 1:
                raise InterruptedError

    method = tl.Imbalance(loss="focal", adjust="logit", weights={0: 1, 1: 2, 2: 3})
    whole = tune(method, BOTH)
    options = {"run_dir": tmp_path / "run", "callbacks": [StopOnce()]}
    with pytest.raises(InterruptedError):
        tune(method, BOTH, **options)
    again = tune(method, BOTH, **options)
    for one, other in zip(whole.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_last_stage_trains_the_head_on_balanced_classes() -> None:
    run = trained_by("retrain")
    assert [result.stage.name for result in run.stages] == ["probe", "all", "retrain"]
    assert all("scores" in path for path in run.stages[-1].changed)
    val = data().val
    recall = tl.evaluate(run.model, val).recall
    plain = tl.evaluate(trained_by("none").model, val).recall
    assert np.mean(recall) > np.mean(plain)
    # The plan of a run is that of the same run again.
    plan = tune("retrain", tl.Plan((*BOTH.stages[:1], run.plan.stages[-1]))).plan
    assert [stage.name for stage in plan] == ["probe", "retrain"]


def test_auto_goes_into_the_loss_where_there_is_no_bias() -> None:
    run = tune("auto", start=model(bias=False))
    assert run.settings["imbalance"]["loss"] == "logit_adjusted"
    assert correcting.last_dense(network_of(model("softmax"))) is not None


def test_one_sentence_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tune("auto", "linear_probe", verbose=2)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Imbalance")]
    assert len(said) == 1
    assert "dark 56, dim 16, light 8" in said[0]
    tune("none", "linear_probe", verbose=2)
    assert "Imbalance" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "plan", "message"),
    [
        ("sqare", HEAD, "`imbalance` must be one of 'none', 'oversample'"),
        (tl.Imbalance(weights={"dark": 1}), HEAD, "Missing: dim, light"),
        ("asymmetric", HEAD, "'asymmetric' is for multi-label"),
        ("smote", BOTH, "`features` must be None for stage 'all', which trains more than a head"),
        ("smote", tl.Plan((tl.Stage("h", cache_views=0),)), "None for stage 'h'"),
        ("smote", "auto", "`plan` must be 'linear_probe', or another that trains a head only"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    method: Any, plan: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tune(method, plan, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_post_hoc_adjustment_needs_a_last_bias() -> None:
    with pytest.raises(ValueError, match="a dense layer with a bias; loss='logit_adjusted' does"):
        tune("logit", start=model(bias=False))


# Priors in files and predictions


def classifier() -> keras.Model:
    return tl.build_classifier(class_names=NAMES, weights=None, image_size=32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    target = tmp_path_factory.mktemp("runs") / "run"
    return tl.fine_tune(
        classifier(), data(), "linear_probe", "none", "auto", run_dir=target, verbose=0
    )


@pytest.fixture(scope="module")
def predictor(trained: Run) -> Any:
    return tl.load(trained.run_dir)


def probabilities(predictions: Any) -> np.ndarray:
    return np.array([list(said.probabilities.values()) for said in predictions])


def test_the_artifact_keeps_the_priors(trained: Run) -> None:
    settings = json.loads((trained.run_dir / "classifier.json").read_text())
    counts = data().train.class_counts
    np.testing.assert_allclose(settings["train_prior"], counts / counts.sum())
    np.testing.assert_allclose(settings["output_prior"], 1 / 3)
    # The finished run gives them back to a new model.
    again = tl.fine_tune(
        classifier(), data(), "linear_probe", "none", "auto", run_dir=trained.run_dir, verbose=0
    )
    assert again.model.tltoolkit_settings == trained.model.tltoolkit_settings


def test_predictions_are_shifted_to_another_prior(predictor: Any) -> None:
    pixels = list(images()[::7])
    plain = probabilities(predictor.predict(pixels))
    for prior in ([0.2, 0.3, 0.5], {"light": 0.5, "dark": 0.2, "dim": 0.3}):
        found = probabilities(predictor.predict(pixels, prior=prior))
        expected = plain * [0.2, 0.3, 0.5]
        np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-5)
    found = probabilities(predictor.predict(pixels, prior="train"))
    expected = plain * data().train.class_counts
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), rtol=1e-5)
    uniform = probabilities(predictor.predict(pixels, prior="uniform"))
    np.testing.assert_allclose(uniform, plain, rtol=1e-5)


def test_the_stored_decision_still_answers(predictor: Any) -> None:
    report = tl.evaluate(predictor.model, data().val)
    temperature = report.fit_temperature()
    decision = tl.evaluation.Decision(
        temperature=temperature, thresholds=report.tune_thresholds("f1")
    )
    pixels = list(images()[::9])
    scaled = temperature.apply(probabilities(predictor.predict(pixels)))
    shifted = imbalance.shift_prior(scaled, [1 / 3] * 3, [0.2, 0.3, 0.5])
    deciding = dataclasses.replace(predictor, decision=decision)
    said = deciding.predict(pixels, prior=[0.2, 0.3, 0.5])
    np.testing.assert_allclose(probabilities(said), shifted, atol=1e-6)
    labels = decision.thresholds.decide(shifted)
    assert [p.label for p in said] == [NAMES[c] for c in labels]


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("test", "`prior` must be one of 'train', 'uniform'"),
        ([0.5, 0.5], "`prior` must be 3 shares above 0 and below 1 that sum to 1"),
        ([0.5, 0.5, 0.5], "`prior` must be 3 shares"),
        ([1.0, 0.0, 0.0], "`prior` must be 3 shares"),
        ({"dark": 0.5, "dim": 0.5}, "`prior` must be a share for each of the classes"),
    ],
)
def test_bad_priors_are_refused(predictor: Any, prior: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.predict([images()[0]], prior=prior)


def test_a_classifier_without_training_has_no_prior() -> None:
    predictor = Predictor(model=classifier(), class_names=NAMES)
    with pytest.raises(ValueError, match="whose training prior is not known"):
        predictor.predict([images()[0]], prior="uniform")


def test_a_second_run_does_not_adjust_twice(trained: Run) -> None:
    still = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-12, weight_decay=0.0),))
    again = classifier()
    again.set_weights(trained.model.get_weights())
    again.tltoolkit_settings = trained.model.tltoolkit_settings
    tl.fine_tune(again, data(), still, "none", "logit", verbose=0)
    for one, other in zip(again.get_weights(), trained.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def _softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
