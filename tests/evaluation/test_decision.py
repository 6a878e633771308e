"""Thresholds against a search over every place to draw the line; temperature; abstention."""

import json
import re

import numpy as np
import pytest
from sklearn import metrics as sk

from tltoolkit.evaluation import Abstention, Decision, Report, Temperature, Thresholds


def several_labels(n=150, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (n, 3))
    prob = np.clip(0.35 * truth + 0.65 * rng.random((n, 3)), 0, 1)
    return truth, np.round(prob, 2)  # ties


def one_label(n=300, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / sum(range(n_classes + 1)))
    prob = rng.dirichlet(np.ones(n_classes), n)
    prob[np.arange(n), y] += 0.5 * rng.random(n)
    return y, prob / prob.sum(axis=1, keepdims=True)


def every_line(score):
    borders = np.concatenate([[0], np.unique(score), [1.01]])
    return (borders[1:] + borders[:-1]) / 2


def best_by_search(score, truth, value):
    """The best value over every distinct way to cut the scores."""
    with np.errstate(invalid="ignore"):
        return np.nanmax([value(truth, score >= line) for line in every_line(score)])


def cost(truth, given):
    return -(5 * (given & (truth == 0)).sum() + 2 * (~given & (truth == 1)).sum())


def fbeta(truth, given, beta=2):
    """As scikit-learn's with `zero_division=0`, which takes a hundred times as long."""
    wrong = (given & (truth == 0)).sum() + beta**2 * (~given & (truth == 1)).sum()
    right = (1 + beta**2) * (given & (truth == 1)).sum()
    return right / (right + wrong) if right else 0.0


def precision(truth, given):
    return truth[given].mean() if given.any() else np.nan


def recall(truth, given):
    return given[truth == 1].mean()


SEARCHED = [
    ("f1", {}, lambda t, g: fbeta(t, g, 1)),
    ("fbeta", {"beta": 2}, fbeta),
    ("cost", {"costs": (5, 2)}, cost),
]


@pytest.mark.parametrize(("metric", "settings", "value"), SEARCHED)
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_are_the_best_there_are(metric, settings, value, seed):
    truth, prob = several_labels(seed=seed)
    tuned = Report.from_predictions(truth, prob).tune_thresholds(metric, **settings)
    given = tuned.decide(prob) > 0
    for c in range(3):
        expected = best_by_search(prob[:, c], truth[:, c], value)
        assert value(truth[:, c], given[:, c]) == pytest.approx(expected, abs=1e-12)
    assert tuned.reached == (True,) * 3


@pytest.mark.parametrize("target", [0.7, 0.9, 1.0])
def test_wished_precision_and_recall_are_reached_at_the_least_loss(target):
    truth, prob = several_labels()
    report = Report.from_predictions(truth, prob)
    for wished, other in ((precision, recall), (recall, precision)):
        tuned = report.tune_thresholds(wished.__name__, target=target)
        given = tuned.decide(prob) > 0
        for c in range(3):
            lines = [prob[:, c] >= line for line in every_line(prob[:, c])]
            good = [g for g in lines if wished(truth[:, c], g) >= target]
            best = np.nanmax([other(truth[:, c], g) for g in good])
            assert wished(truth[:, c], given[:, c]) >= target
            assert other(truth[:, c], given[:, c]) == pytest.approx(best)


def test_out_of_reach_and_absent_classes_say_so():
    truth = np.array([[1, 0], [0, 0], [1, 0]])
    prob = np.array([[0.2, 0.3], [0.8, 0.4], [0.8, 0.1]])
    tuned = Report.from_predictions(truth, prob).tune_thresholds("precision", target=0.9)
    assert tuned.reached == (False, False)
    # Precision 2/3 for everything is the nearest to 0.9 that class 0 can get.
    assert tuned.decide(prob)[:, 0].tolist() == [1, 1, 1]
    assert tuned.values[1] == 0.5


def test_two_classes_have_one_line():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200)
    positive = np.clip(0.3 * y + 0.5 * rng.random(200), 0, 1)
    report = Report.from_predictions(y, positive)
    tuned = report.tune_thresholds()
    assert sum(tuned.values) == 1
    given = tuned.decide(report.probabilities)
    expected = best_by_search(positive, y, lambda t, g: fbeta(t, g, 1))
    assert sk.f1_score(y, given) == pytest.approx(expected)
    after = report.apply(thresholds=tuned)
    assert after.f1[1] == pytest.approx(expected)
    assert after.confusion.tolist() == sk.confusion_matrix(y, given).tolist()
    assert after.roc_auc_macro == report.roc_auc_macro  # the order of scores is untouched


@pytest.mark.parametrize("seed", range(10))
def test_tuning_for_f1_never_lowers_macro_f1(seed):
    report = Report.from_predictions(*one_label(seed=seed))
    tuned = report.tune_thresholds()
    assert report.apply(thresholds=tuned).f1_macro >= report.f1_macro
    beta = report.apply(thresholds=report.tune_thresholds("fbeta", beta=0.5)).fbeta(0.5)
    assert np.nanmean(beta) >= np.nanmean(report.fbeta(0.5))


def test_one_label_goes_to_the_class_that_exceeds_its_threshold_most():
    rule = Thresholds(values=(0.5, 0.2, 0.3))
    prob = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.3, 0.1, 0.6]])
    assert rule.decide(prob).tolist() == [1, 0, 2]
    assert rule.flags(prob).tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert Thresholds(values=(0.0, 0.5, 0.5)).decide(prob).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"`prob` must be of shape \(N, 3\)"):
        rule.decide(prob[:, :2])


@pytest.mark.parametrize(
    ("metric", "settings", "message"),
    [
        ("auc", {}, "`metric` must be one of 'f1', 'fbeta', 'precision', 'recall', 'cost'"),
        ("precision", {}, "`target` must be given with metric='precision'"),
        ("f1", {"beta": 2}, "`beta` must be left out with metric='f1'. Received: beta=2"),
        ("recall", {"target": 90}, "`target` must be a finite number > 0 and <= 1"),
        ("fbeta", {"beta": 0}, "`beta` must be a finite number > 0"),
        ("cost", {"costs": (1, 2, 3)}, "cost of a false positive, cost of a false negative"),
        ("cost", {"costs": (1, -2)}, "`costs` must be a finite number >= 0"),
    ],
)
def test_bad_settings_get_one_clear_error(metric, settings, message):
    report = Report.from_predictions(*several_labels())
    with pytest.raises(ValueError, match=re.escape(message)):
        report.tune_thresholds(metric, **settings)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [one_label, several_labels])
def test_temperature_finds_what_was_done_to_the_probabilities(case, dtype):
    labels, prob = case(400)
    prob = prob.astype(dtype).clip(1e-3, 1 - 1e-3)
    if labels.ndim == 1:
        prob /= prob.sum(axis=1, keepdims=True)
    several = labels.ndim == 2
    best = Report.from_predictions(labels, prob).fit_temperature()
    spoilt = Temperature(value=0.5, multi_label=several).apply(prob)
    assert spoilt.dtype == dtype
    report = Report.from_predictions(labels, spoilt)
    found = report.fit_temperature()
    assert found.value == pytest.approx(2 * best.value, rel=1e-2)
    scaled = report.apply(temperature=found)
    assert scaled.log_loss < report.log_loss
    assert scaled.accuracy == report.accuracy
    np.testing.assert_allclose(
        scaled.probabilities,
        Temperature(value=best.value, multi_label=several).apply(prob),
        atol=5e-3,
    )


@pytest.mark.parametrize("seed", range(5))
def test_temperature_never_raises_the_log_loss(seed):
    rng = np.random.default_rng(seed)
    prob = rng.dirichlet(np.ones(3), 30)
    y = np.array([rng.choice(3, p=p) for p in prob])
    prob[:3] = np.eye(3)  # certain, at times wrong
    report = Report.from_predictions(y, prob)
    assert report.apply(temperature=report.fit_temperature()).log_loss <= report.log_loss
    perfect = Report.from_predictions([0, 1, 2], np.eye(3))
    assert perfect.fit_temperature() == Temperature(value=1.0)


def test_a_decision_does_its_parts_in_order_and_survives_json():
    y, prob = one_label()
    report = Report.from_predictions(y, prob)
    temperature = report.fit_temperature()
    scaled = report.apply(temperature=temperature)
    thresholds = scaled.tune_thresholds()
    final = scaled.apply(thresholds=thresholds)
    abstention = final.coverage_curve().threshold_for(0.6)
    decision = Decision(temperature=temperature, thresholds=thresholds, abstention=abstention)
    answers = decision.decide(prob)
    np.testing.assert_array_equal(answers.labels, final.rows.predicted)
    np.testing.assert_array_equal(answers.probabilities, scaled.probabilities)
    np.testing.assert_array_equal(answers.confidence, final.rows.confidence)
    assert 1 - answers.abstained.mean() == pytest.approx(abstention.coverage)
    assert Decision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision
    plain = Decision.from_dict(json.loads(json.dumps(Decision().to_dict()))).decide(prob)
    np.testing.assert_array_equal(plain.labels, prob.argmax(axis=1))
    assert not plain.abstained.any()


def test_a_decision_for_several_labels():
    truth, prob = several_labels()
    report = Report.from_predictions(truth, prob)
    answers = Decision(multi_label=True).decide(prob)
    np.testing.assert_array_equal(answers.labels, report.rows.predicted)
    np.testing.assert_array_equal(answers.confidence, np.maximum(prob, 1 - prob).min(axis=1))
    with pytest.raises(ValueError, match="`multi_label` must be the same"):
        Decision(thresholds=report.tune_thresholds())


def test_bad_values_are_refused_at_birth():
    with pytest.raises(ValueError, match="`value` must be a finite number > 0"):
        Temperature(value=0)
    with pytest.raises(ValueError, match="`values` must be a finite number >= 0 and <= 1"):
        Thresholds(values=(0.5, 1.5))
    with pytest.raises(ValueError, match="`threshold` must be a finite number"):
        Abstention(threshold=float("nan"), coverage=1, accuracy=1)
