"""Every figure against scikit-learn, on cases chosen to be awkward."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from tltoolkit.evaluation import Report, class_metrics, label_report

CLOSE = {"rtol": 0, "atol": 1e-9, "equal_nan": True}


def random_case(seed, multi_label=False):
    """A few rows with ties, absent classes and constant scores among the cases."""
    rng = np.random.default_rng(seed)
    n, n_classes = int(rng.choice([1, 2, 7, 40, 150])), int(rng.integers(2, 7))
    if seed % 4 == 0:
        prob = np.full((n, n_classes), 1 / n_classes)
    else:
        prob = rng.dirichlet(np.ones(n_classes), n)
        if seed % 4 == 1:  # coarse: many ties
            prob = np.round(prob * 4) + 1
            prob /= prob.sum(axis=1, keepdims=True)
    if multi_label:
        return rng.integers(0, 2, (n, n_classes)), prob if seed % 4 == 0 else rng.random(prob.shape)
    present = rng.permutation(n_classes)[: rng.integers(1, n_classes + 1)]
    return rng.choice(present, n), prob


@pytest.fixture(autouse=True)
def quiet_reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def sk_per_class(truth, prob, score):
    """(C,) of a scikit-learn score, NaN where the class has no positives (or no negatives)."""
    values = []
    for c in range(prob.shape[1]):
        undefined = truth[:, c].sum() == 0 or (score is sk.roc_auc_score and truth[:, c].all())
        values.append(np.nan if undefined else score(truth[:, c], prob[:, c]))
    return np.array(values)


def macro(values):
    return np.nanmean(values) if (~np.isnan(values)).any() else np.nan


def check_shared(report, y, given, truth, prob):
    """Figures that one label per image and several have in common."""
    labels = list(range(prob.shape[1]))
    options = {"labels": labels, "zero_division": np.nan}
    np.testing.assert_allclose(
        [report.precision, report.recall, report.f1],
        sk.precision_recall_fscore_support(y, given, average=None, **options)[:3],
        **CLOSE,
    )
    np.testing.assert_allclose(
        report.fbeta(2.0), sk.fbeta_score(y, given, beta=2, average=None, **options), **CLOSE
    )
    for how in ("macro", "micro", "weighted"):
        expected = list(sk.precision_recall_fscore_support(y, given, average=how, **options)[:3])
        if how == "weighted" and not report.support[~np.isnan(report.precision)].any():
            expected[0] = np.nan  # no weight is left; scikit-learn then drops the weights
        ours = [report.average(name, how) for name in ("precision", "recall", "f1")]
        np.testing.assert_allclose(ours, expected, **CLOSE)
    areas = sk_per_class(truth, prob, sk.roc_auc_score)
    precisions = sk_per_class(truth, prob, sk.average_precision_score)
    np.testing.assert_allclose(report.roc_auc, areas, **CLOSE)
    np.testing.assert_allclose(report.average_precision, precisions, **CLOSE)
    np.testing.assert_allclose(report.roc_auc_macro, macro(areas), **CLOSE)
    np.testing.assert_allclose(report.average_precision_macro, macro(precisions), **CLOSE)
    for name in ("f1", "precision", "recall"):
        named = getattr(report, f"{name}_macro")
        np.testing.assert_array_equal(named, report.average(name, "macro"))
    matrices = sk.multilabel_confusion_matrix(truth, indicators(given, prob))
    with np.errstate(invalid="ignore"):
        specificity = matrices[:, 0, 0] / matrices[:, 0].sum(axis=1)
    np.testing.assert_allclose(report.specificity, specificity, **CLOSE)
    assert report.accuracy == pytest.approx(sk.accuracy_score(y, given), abs=1e-9)


def indicators(labels, prob):
    return labels if labels.ndim == 2 else np.eye(prob.shape[1], dtype=int)[labels]


@pytest.mark.parametrize("seed", range(150))
def test_one_label_per_image_equals_scikit_learn(seed):
    y, prob = random_case(seed)
    n_classes, labels = prob.shape[1], list(range(prob.shape[1]))
    given, truth = prob.argmax(axis=1), indicators(y, prob)
    report = Report.from_predictions(y, prob)
    check_shared(report, y, given, truth, prob)
    np.testing.assert_array_equal(report.confusion, sk.confusion_matrix(y, given, labels=labels))
    np.testing.assert_array_equal(report.support, np.bincount(y, minlength=n_classes))
    expected = sk.balanced_accuracy_score(y, given)
    assert report.balanced_accuracy == pytest.approx(expected, abs=1e-9)
    assert report.log_loss == pytest.approx(sk.log_loss(y, prob, labels=labels), abs=1e-9)
    brier = sk.brier_score_loss(truth[:, 1], prob[:, 1]) if n_classes == 2 else None
    if n_classes > 2:
        brier = sk.brier_score_loss(y, prob, labels=labels)
    assert report.brier == pytest.approx(brier, abs=1e-9)
    kappa = sk.cohen_kappa_score(y, given, labels=labels)
    np.testing.assert_allclose(report.kappa, kappa, **CLOSE)
    if len(np.unique(y)) > 1 and len(np.unique(given)) > 1:
        assert report.mcc == pytest.approx(sk.matthews_corrcoef(y, given), abs=1e-9)
    else:  # 0 / 0, for which scikit-learn says 0
        assert np.isnan(report.mcc)
        assert "one class" in report.undefined["mcc"]


@pytest.mark.parametrize("seed", range(50))
def test_several_labels_per_image_equal_scikit_learn(seed):
    truth, prob = random_case(seed, multi_label=True)
    given = (prob >= 0.5).astype(int)
    report = Report.from_predictions(truth, prob, multi_label=True)
    check_shared(report, truth, given, truth, prob)
    matrices = sk.multilabel_confusion_matrix(truth, given)
    np.testing.assert_array_equal(report.confusion, matrices)
    flat = sk.log_loss(truth.ravel(), prob.ravel(), labels=[0, 1])
    assert report.log_loss == pytest.approx(flat, abs=1e-9)
    expected = sk.brier_score_loss(truth.ravel(), prob.ravel(), labels=[0, 1])
    assert report.brier == pytest.approx(expected, abs=1e-9)
    assert np.isnan([report.mcc, report.kappa, report.balanced_accuracy, report.roc_auc_ovo]).all()
    assert report.undefined["mcc"] == "defined for one label per image only"


def test_one_against_one_equals_scikit_learn():
    rng = np.random.default_rng(0)
    prob = np.round(rng.dirichlet(np.ones(4), 200), 1) + 0.05
    prob /= prob.sum(axis=1, keepdims=True)
    y = rng.integers(0, 4, 200)
    expected = sk.roc_auc_score(y, prob, multi_class="ovo")
    report = Report.from_predictions(y, prob)
    assert report.roc_auc_ovo == pytest.approx(expected, abs=1e-9)
    assert np.isnan(Report.from_predictions(y * 0, prob).roc_auc_ovo)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_averaged_areas_equal_scikit_learn(average):
    rng = np.random.default_rng(1)
    prob, y = rng.dirichlet(np.ones(4), 300), rng.integers(0, 4, 300)
    report = Report.from_predictions(y, prob)
    area = sk.roc_auc_score(y, prob, multi_class="ovr", average=average)
    precision = sk.average_precision_score(np.eye(4)[y], prob, average=average)
    assert report.average("roc_auc", average) == pytest.approx(area, abs=1e-9)
    assert report.average("average_precision", average) == pytest.approx(precision, abs=1e-9)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_gives_ties_to_the_lower_class(k):
    rng = np.random.default_rng(2)
    prob = np.round(rng.dirichlet(np.ones(5), 200), 1) + 0.1
    prob /= prob.sum(axis=1, keepdims=True)
    y = rng.integers(0, 5, 200)
    report = Report.from_predictions(y, prob)
    # scikit-learn gives ties to the higher class: turn the classes round.
    expected = sk.top_k_accuracy_score(4 - y, prob[:, ::-1], k=k, labels=range(5))
    assert report.top_k_accuracy(k) == pytest.approx(expected, abs=1e-12)
    assert report.top_k_accuracy(1) == report.accuracy
    assert np.isnan(report.top_5_accuracy)
    assert report.undefined["top_5_accuracy"] == "there are at most 5 classes"
    wider = Report.from_predictions(y, np.pad(prob, ((0, 0), (0, 2))))
    assert wider.top_5_accuracy == wider.top_k_accuracy(5) == 1
    with pytest.raises(ValueError, match="`k` must be an integer >= 1 and <= 5. Received: k=6"):
        report.top_k_accuracy(6)


@pytest.mark.parametrize("seed", range(12))
def test_curves_equal_scikit_learn(seed):
    y, prob = random_case(seed)
    report = Report.from_predictions(y, prob)
    for c in np.unique(y):
        ours = report.pr_curve(int(c))
        precision, recall, thresholds = sk.precision_recall_curve(y == c, prob[:, c])
        np.testing.assert_allclose(ours.precision, precision, **CLOSE)
        np.testing.assert_allclose(ours.recall, recall, **CLOSE)
        np.testing.assert_array_equal(ours.thresholds, thresholds)
        roc = report.roc_curve(int(c))
        fpr, tpr, _ = sk.roc_curve(y == c, prob[:, c], drop_intermediate=False)
        np.testing.assert_allclose(roc.false_positive_rate, fpr, **CLOSE)
        np.testing.assert_allclose(roc.true_positive_rate, tpr, **CLOSE)


def test_float32_scores_keep_their_ties_and_exactness():
    rng = np.random.default_rng(3)
    prob = rng.dirichlet(np.ones(20), 3000).astype(np.float32)
    y = rng.integers(0, 20, 3000)
    report = Report.from_predictions(y, prob)
    assert report.probabilities.dtype == np.float32
    truth = np.eye(20)[y]
    np.testing.assert_allclose(
        report.roc_auc, sk_per_class(truth, prob.astype(float), sk.roc_auc_score), **CLOSE
    )
    np.testing.assert_allclose(
        report.average_precision, sk_per_class(truth, prob, sk.average_precision_score), **CLOSE
    )


def test_two_classes_from_one_column():
    y, positive = np.array([0, 1, 1, 0]), np.array([0.2, 0.9, 0.4, 0.6])
    for prob in (positive, positive[:, None], np.stack([1 - positive, positive], axis=1)):
        report = Report.from_predictions(y, prob)
        assert report.confusion.tolist() == [[1, 1], [1, 1]]
        assert report.roc_auc[1] == sk.roc_auc_score(y, positive)
    assert class_metrics(y, positive).f1.tolist() == report.f1.tolist()
    assert class_metrics(y, np.log(positive / (1 - positive)), threshold=0).f1_macro == 0.5


def test_undefined_figures_have_a_reason_and_stay_out_of_averages():
    report = Report.from_predictions([0, 0, 1], [[0.9, 0.1, 0]] * 3, ["a", "b", "c"])
    assert np.isnan(report.precision[1:]).all()
    assert report.precision_macro == report.precision[0] == 2 / 3
    assert report.undefined["precision[b]"] == "the class was never predicted"
    assert report.undefined["roc_auc[c]"] == "the class has no images here"
    assert report.f1[1] == 0
    assert np.isnan(report.f1[2])
    assert report.f1_macro == report.f1[0] / 2
    for name in ("precision", "recall", "f1", "specificity", "roc_auc", "average_precision"):
        for c, label in enumerate("abc"):
            undefined = np.isnan(getattr(report, name)[c])
            assert undefined == (f"{name}[{label}]" in report.undefined)


def test_means_without_any_class_have_a_reason():
    report = Report.from_predictions([0, 0], [[0.9, 0.1]] * 2)
    assert np.isnan(report.roc_auc_macro)
    assert report.undefined["roc_auc_macro"] == "undefined for every class"
    assert str(report.undefined["kappa"]) == "all labels or all predictions are of one class"


def test_nothing_touches_the_arrays_that_came_in():
    rng = np.random.default_rng(4)
    for shape in ((50, 1), (50, 3)):
        truth, prob = rng.integers(0, 2, shape), rng.random(shape)
        kept = truth.copy(), prob.copy()
        report = Report.from_predictions(truth, prob, multi_label=True)
        str(report), report.roc_auc, report.average("roc_auc", "micro"), report.interval("ece")
        np.testing.assert_array_equal(truth, kept[0])
        np.testing.assert_array_equal(prob, kept[1])


def test_quick_metrics_equal_the_report():
    y, prob = random_case(7)
    report, quick = Report.from_predictions(y, prob), class_metrics(y, prob)
    for name in ("precision", "recall", "f1", "support"):
        np.testing.assert_array_equal(getattr(quick, name), getattr(report, name))
    assert quick.f1_macro == report.f1_macro
    labels = label_report(y, prob.argmax(axis=1), prob.shape[1])
    assert (labels.mcc, labels.kappa) == (report.mcc, report.kappa)
    assert class_metrics(y[:, None], prob).f1_macro == report.f1_macro
    one_hot = np.eye(prob.shape[1])[y]
    with pytest.raises(ValueError, match=r"pass y_true.argmax\(axis=1\)"):
        class_metrics(one_hot, prob)
    assert class_metrics(one_hot, prob, multi_label=True).rows == len(y)
    truth, scores = random_case(6, multi_label=True)
    assert class_metrics(truth, scores).f1_macro == Report.from_predictions(truth, scores).f1_macro
