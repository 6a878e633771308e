"""Intervals against plain resampling of rows and against known truth; comparisons of models."""

import time

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from tltoolkit.evaluation import Report, compare
from tltoolkit.evaluation.intervals import FIGURES, Bootstrap


def predictions(n=300, n_classes=3, seed=0, skill=0.6):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    prob = rng.dirichlet(np.ones(n_classes), n)
    prob[np.arange(n), y] += skill * rng.random(n)
    return y, prob / prob.sum(axis=1, keepdims=True)


def several_labels(n=200, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (n, 4))
    return truth, np.clip(0.35 * truth + 0.65 * rng.random((n, 4)), 0, 1)


def coarse(prob):
    """Rounded, so that many scores tie."""
    prob = np.round(prob * 8) + 1
    return prob / prob.sum(axis=1, keepdims=True)


def resampled(report, draws, seed):
    """Reports of plainly drawn rows: what the bootstrap stands for."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        rows = rng.integers(0, len(report.labels), len(report.labels))
        yield Report.from_predictions(
            report.labels[rows], report.probabilities[rows], multi_label=report.multi_label
        )


@pytest.mark.parametrize("case", [predictions(80), predictions(80, 7), several_labels(80)])
def test_bootstrap_has_the_distribution_of_plain_resampling(case):
    report = Report.from_predictions(*case)
    plain = list(resampled(report, 400, seed=1))
    quick = Bootstrap(report=report, draws=2000, seed=2)
    for name in FIGURES:
        expected = np.array([getattr(r, name) for r in plain])
        if np.isnan(expected).all():
            assert np.isnan(quick.values(name)).all()
            assert np.isnan(report.interval(name)).all()
        else:
            assert stats.ks_2samp(quick.values(name), expected).pvalue > 1e-4, name


@pytest.mark.parametrize("case", [predictions(60), several_labels(60)])
def test_row_draws_give_exactly_the_figures_of_those_rows(case):
    labels, prob = case
    prob = np.round(prob, 1) if labels.ndim == 2 else coarse(prob)
    report = Report.from_predictions(labels, prob)
    quick = Bootstrap(report=report, draws=20, seed=3)
    names = ["log_loss", "brier", "roc_auc_macro", "average_precision_macro", "ece", "mce"]
    names += ["accuracy", "f1_macro", "precision_macro"] if report.multi_label else []
    rng = np.random.default_rng(3)
    picked = rng.integers(0, len(labels), (20, len(labels)), dtype=np.int32)
    for draw, rows in enumerate(picked):
        drawn = Report.from_predictions(labels[rows], prob[rows])
        for name in names:
            assert quick.values(name)[draw] == pytest.approx(getattr(drawn, name), abs=1e-9), name


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Macro F1 of a known joint distribution of labels and predictions."""
    joint = np.array([[0.30, 0.06, 0.04], [0.05, 0.25, 0.02], [0.03, 0.05, 0.20]])
    precision, recall = np.diag(joint) / joint.sum(axis=0), np.diag(joint) / joint.sum(axis=1)
    truth = np.mean(2 * precision * recall / (precision + recall))
    rng, covered, trials = np.random.default_rng(0), 0, 1500
    for trial in range(trials):
        cells = np.repeat(np.arange(9), rng.multinomial(400, joint.ravel()))
        report = Report.from_predictions(cells // 3, np.eye(3)[cells % 3])
        low, high = report.interval("f1_macro", draws=400, seed=trial)
        covered += low <= truth <= high
    assert 0.93 <= covered / trials <= 0.97


def test_intervals_follow_level_seed_and_draws():
    report = Report.from_predictions(*predictions())
    narrow, wide = report.interval("f1_macro", 0.5), report.interval("f1_macro", 0.99)
    assert wide[0] < narrow[0] < report.f1_macro < narrow[1] < wide[1]
    assert report.interval("accuracy", seed=1) == report.interval("accuracy", seed=1)
    assert report.interval("log_loss", seed=1) != report.interval("log_loss", seed=2)
    with pytest.raises(ValueError, match="`level` must be a finite number > 0 and < 1"):
        report.interval("accuracy", 95)
    with pytest.raises(ValueError, match="`draws` must be an integer >= 1"):
        report.interval("accuracy", draws=0)
    with pytest.raises(ValueError, match="`name` must be one of .*'f1_macro'"):
        report.interval("f1")


def test_a_thousand_draws_of_macro_f1_are_quick():
    report = Report.from_predictions(*predictions(100_000, 100))
    started = time.perf_counter()
    report.interval("f1_macro")
    assert time.perf_counter() - started < 6  # 1.1 s on a free machine


def rivals(n=400):
    """A model and one that gets a tenth of its rows wrong."""
    y, prob = predictions(n, skill=2.0)
    worse = prob.copy()
    worse[: n // 10] = worse[: n // 10, ::-1]
    return Report.from_predictions(y, worse), Report.from_predictions(y, prob)


def test_accuracy_is_compared_by_mcnemar():
    a, b = rivals()
    found = compare(a, b)
    assert found.difference == b.accuracy - a.accuracy > 0
    only_a, only_b = (a.rows.right & ~b.rows.right).sum(), (b.rows.right & ~a.rows.right).sum()
    lower = stats.binom.cdf(min(only_a, only_b), only_a + only_b, 0.5)
    assert found.p_value == pytest.approx(min(1, 2 * lower))
    assert found.low < found.difference < found.high
    assert "McNemar" in str(found)
    assert not found.note


@pytest.mark.parametrize("metric", ["f1_macro", "mcc", "log_loss", "brier", "roc_auc_macro", "ece"])
def test_other_figures_are_compared_by_permutation(metric):
    a, b = rivals(120)
    found = compare(a, b, metric, draws=300)
    assert found.difference == getattr(b, metric) - getattr(a, metric)
    rng, as_large = np.random.default_rng(9), 0
    for _ in range(300):
        swap = rng.random(120) < 0.5
        first = np.where(swap[:, None], b.probabilities, a.probabilities)
        second = np.where(swap[:, None], a.probabilities, b.probabilities)
        one, two = (Report.from_predictions(a.labels, p) for p in (first, second))
        as_large += (
            abs(getattr(two, metric) - getattr(one, metric)) >= abs(found.difference) - 1e-12
        )
    assert found.p_value == pytest.approx((1 + as_large) / 301, abs=0.09)
    assert "permutation" in found.test
    assert "only 120 rows" in str(found)


def test_equal_models_differ_in_nothing():
    report = Report.from_predictions(*predictions())
    for metric in ("accuracy", "f1_macro", "log_loss"):
        found = compare(report, report, metric, draws=50)
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_several_labels_are_compared_too():
    truth, prob = several_labels()
    a, b = Report.from_predictions(truth, 1 - prob), Report.from_predictions(truth, prob)
    for metric in ("accuracy", "f1_macro"):
        found = compare(a, b, metric, draws=100)
        assert found.low > 0
        assert found.p_value < 0.05
    assert np.isnan(compare(a, b, "mcc", draws=10).p_value)


def test_reports_of_other_rows_cannot_be_compared():
    a, b = rivals()
    other = Report.from_predictions(b.labels[::-1], b.probabilities)
    with pytest.raises(ValueError, match="must have the same labels in the same order"):
        compare(a, other)
    with pytest.raises(ValueError, match="the same class names"):
        compare(a, Report.from_predictions(b.labels, b.probabilities, ["x", "y", "z"]))
    with pytest.raises(ValueError, match="`metric` must be one of"):
        compare(a, b, "support")


def plain_calibration_error(confidence, right, n_bins=15):
    """Expected and maximum calibration error, bin by bin."""
    gaps, weights = [], []
    for b in range(n_bins):
        inside = (confidence > b / n_bins) & (confidence <= (b + 1) / n_bins)
        if inside.any():
            gaps.append(abs(right[inside].mean() - confidence[inside].mean()))
            weights.append(inside.mean())
    return np.dot(gaps, weights), max(gaps)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_equals_a_plain_loop(seed):
    y, prob = predictions(500, 4, seed)
    report = Report.from_predictions(y, prob)
    expected = plain_calibration_error(prob.max(axis=1), prob.argmax(axis=1) == y)
    assert (report.ece, report.mce) == pytest.approx(expected, abs=1e-12)
    truth, several = several_labels(seed=seed)
    expected = plain_calibration_error(several.ravel() + 1e-15, truth.ravel())
    found = Report.from_predictions(truth, several)
    assert (found.ece, found.mce) == pytest.approx(expected, abs=1e-9)


def test_coverage_curve_equals_a_plain_loop():
    y, prob = predictions(200)
    prob = coarse(prob)
    report = Report.from_predictions(y, prob)
    curve, sure = report.coverage_curve(), prob.max(axis=1)
    for threshold, coverage, accuracy in zip(
        curve.thresholds, curve.coverage, curve.accuracy, strict=True
    ):
        answered = sure >= threshold
        assert coverage == answered.mean()
        assert accuracy == pytest.approx(sk.accuracy_score(y[answered], prob[answered].argmax(1)))
    assert curve.coverage[-1] == 1
    assert curve.accuracy[-1] == report.accuracy
    shares = np.diff(np.append(0, curve.coverage))
    assert curve.area == pytest.approx(np.dot(shares, curve.accuracy))


def test_abstention_reaches_the_wished_accuracy():
    report = Report.from_predictions(*predictions(skill=1.0))
    curve = report.coverage_curve()
    chosen = curve.threshold_for(0.9)
    answered = ~chosen.abstains(report.rows.confidence)
    assert answered.mean() == chosen.coverage
    assert report.rows.right[answered].mean() == pytest.approx(chosen.accuracy)
    assert chosen.accuracy >= 0.9
    assert not (curve.accuracy[curve.coverage > chosen.coverage] >= 0.9).any()
    assert not curve.threshold_for(0.0).abstains(np.array([0.0])).any()
    hopeless = Report.from_predictions([1, 1], [[0.9, 0.1]] * 2).coverage_curve()
    with pytest.raises(ValueError, match="no confidence gives accuracy 0.9; the best is 0.0000"):
        hopeless.threshold_for(0.9)
