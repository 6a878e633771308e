import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_loss
from sklearn.preprocessing import StandardScaler

from tltoolkit.model.network import probabilities
from tltoolkit.training import probe


def digits(classes: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, labels = load_digits(return_X_y=True)
    keep = labels < classes
    return x[keep].astype("float32"), labels[keep], np.eye(classes, dtype="float32")[labels[keep]]


@pytest.mark.parametrize("classes", [2, 10])
def test_it_is_scikit_learns_optimum_in_the_units_of_the_features(classes: int) -> None:
    x, labels, targets = digits(classes)
    found = probe.solve(x[::2], targets[::2], (x[1::2], targets[1::2]), multi_label=False)
    scaler = StandardScaler().fit(x[::2])
    reference = LogisticRegression(C=found.penalty, max_iter=5000, tol=1e-8)
    reference.fit(scaler.transform(x[::2]), labels[::2])
    logits = x[1::2] @ found.kernel + found.bias
    said = probabilities(logits, False)
    expected = reference.predict_proba(scaler.transform(x[1::2]))
    np.testing.assert_allclose(said, expected, atol=2e-2)
    assert probe.log_loss(said, targets[1::2], False) == pytest.approx(
        reference_loss(labels[1::2], said), rel=1e-5
    )


def test_the_penalty_is_the_best_on_validation() -> None:
    x, labels, targets = digits()
    fit, val = (x[:150], targets[:150]), (x[150:], targets[150:])
    found = probe.solve(*fit, val, multi_label=False)
    scaler = StandardScaler().fit(x[:150])

    def loss(penalty: float) -> float:
        model = LogisticRegression(C=penalty, max_iter=5000)
        model.fit(scaler.transform(x[:150]), labels[:150])
        return reference_loss(labels[150:], model.predict_proba(scaler.transform(x[150:])))

    losses = [loss(penalty) for penalty in probe.PENALTIES]
    assert found.penalty == probe.PENALTIES[int(np.argmin(losses))]


def test_without_validation_a_part_of_the_training_rows_picks_the_penalty() -> None:
    x, labels, targets = digits()
    found = probe.solve(x, targets, None, multi_label=False)
    assert probe.PENALTIES[0] < found.penalty < probe.PENALTIES[-1]
    assert ((x @ found.kernel + found.bias).argmax(1) == labels).mean() > 0.98


def test_multi_label_classes_are_solved_one_by_one() -> None:
    x, labels, _ = digits()
    targets = np.stack([labels % 2 == 0, labels > 4, labels == 3], 1).astype("float32")
    found = probe.solve(x[::2], targets[::2], (x[1::2], targets[1::2]), multi_label=True)
    right = ((x[1::2] @ found.kernel + found.bias > 0) == (targets[1::2] > 0)).mean(0)
    assert (right > 0.85).all()
    said = probabilities(np.array([[0.0, 3.0]]), True)
    expected = -(np.log(0.5) + np.log(1 / (1 + np.exp(-3.0)))) / 2
    assert probe.log_loss(said, np.array([[0.0, 1.0]]), True) == pytest.approx(expected)


@pytest.mark.parametrize("rounding", [False, True])
def test_a_feature_that_varies_by_rounding_alone_says_nothing(rounding: bool) -> None:
    x, _, targets = digits(2)
    column = np.full((len(x), 1), 3, "float32")
    if rounding:
        column[::3] = np.nextafter(np.float32(3), np.float32(4))
    wide = np.hstack([x, column])
    plain, found = (
        probe.solve(rows[::2], targets[::2], (rows[1::2], targets[1::2]), multi_label=False)
        for rows in (x, wide)
    )
    assert abs(found.kernel[-1]).max() < 1e-3
    np.testing.assert_allclose(found.kernel[:-1], plain.kernel, atol=1e-3)
