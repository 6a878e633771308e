"""Labels and probabilities that make no sense: one clear error each."""

import numpy as np
import pytest

from tltoolkit.evaluation import Report, class_metrics

GOOD = [[0.5, 0.5], [0.25, 0.75]]


@pytest.mark.parametrize(
    ("y_true", "y_prob", "message"),
    [
        ([0, 1], [[0.5, 0.4], [0.3, 0.7]], "sum to 1 in every row.*Row 0 sums to"),
        ([0, 1], [[2.0, -1.0], [0.5, 0.5]], "logits need a softmax .* row 0"),
        ([0, 1], [[0.5, 0.5], [np.nan, 0.5]], "row 1 holds NaN or infinity"),
        ([0, 2], GOOD, "`y_true` must be between 0 and 1, the last class. Received: y_true=2"),
        ([0, -1], GOOD, "Received: y_true=-1"),
        ([0, 0.5], GOOD, "`y_true` must be integers"),
        (["a", "b"], GOOD, "`y_true` must be integers"),
        ([0], GOOD, "`y_prob` must be as long as `y_true`, which has 1 rows"),
        ([], np.empty((0, 2)), "non-empty: there is nothing to evaluate"),
        ([[1, 0], [0, 1]], GOOD, r"one-hot labels .* pass y_true.argmax\(axis=1\)"),
        ([[1, 0, 1]] * 2, GOOD, "of the shape of `y_prob`"),
        ([[1, 2], [0, 1]], GOOD, "zeros and ones for multi-label"),
        ([0, 1], "no", "`y_prob` must be of shape"),
    ],
)
def test_bad_predictions_get_one_clear_error(y_true, y_prob, message):
    with pytest.raises(ValueError, match=message):
        Report.from_predictions(y_true, y_prob)


def test_bad_names_and_contradictions_get_one_clear_error():
    with pytest.raises(ValueError, match="one name for each of the 2 classes"):
        Report.from_predictions([0, 1], GOOD, ["a"])
    with pytest.raises(ValueError, match="all different"):
        Report.from_predictions([0, 1], GOOD, ["a", "a"])
    with pytest.raises(ValueError, match="`names` must be one name for each of the 2 rows"):
        Report.from_predictions([0, 1], GOOD, names=["only.jpg"])
    with pytest.raises(ValueError, match="multi_label=True"):
        Report.from_predictions([[1, 1], [0, 1]], GOOD, multi_label=False)
    with pytest.raises(ValueError, match="`y_true` must be of the shape of `y_prob`"):
        Report.from_predictions([0, 1], GOOD, multi_label=True)
    with pytest.raises(ValueError, match="`c` must be one of 'a', 'b'. Received: c='x'"):
        Report.from_predictions([0, 1], GOOD, ["a", "b"]).pr_curve("x")
    with pytest.raises(ValueError, match="as long as `y_true`"):
        class_metrics([0, 1], [[0.5, 0.5]])


@pytest.mark.parametrize("prob", [np.eye(3, dtype=t) for t in (np.float16, int, bool)])
def test_whatever_holds_probabilities_is_taken(prob):
    for given in (prob, prob.tolist()):
        report = Report.from_predictions(np.array([0.0, 1.0, 2.0]), given)
        assert report.accuracy == 1
        assert report.probabilities.dtype in (np.float32, np.float64)


def test_half_precision_sums_are_near_enough():
    rng = np.random.default_rng(0)
    prob = rng.dirichlet(np.ones(5), 200).astype(np.float16)
    assert (prob.sum(axis=1, dtype=float) != 1).any()
    report = Report.from_predictions(rng.integers(0, 5, 200), prob)
    assert 0 <= report.ece <= 1


def test_large_inputs_are_checked_to_the_last_row():
    prob = np.full((50_000, 100), 0.01, np.float32)
    prob[-1, -1] = np.nan
    with pytest.raises(ValueError, match="row 49999 holds NaN"):
        Report.from_predictions(np.zeros(50_000, int), prob)
