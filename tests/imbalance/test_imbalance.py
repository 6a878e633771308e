"""Weights, sampling and adjustment on plain arrays of labels, against closed forms."""

import time
import warnings
from typing import Any

import numpy as np
import pytest
from imblearn.over_sampling import ADASYN, SMOTE, RandomOverSampler
from imblearn.under_sampling import ClusterCentroids, RandomUnderSampler
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import tltoolkit as tl
from tltoolkit import imbalance
from tltoolkit.imbalance import Imbalance

LABELS = np.repeat([0, 1, 2], [100, 30, 10])
COUNTS = np.array([100, 30, 10])
NAMES = ("ant", "bee", "cow")


def several(count: int = 400, seed: int = 0) -> np.ndarray:
    """Multi-label rows, some without any label."""
    rng = np.random.default_rng(seed)
    return (rng.random((count, 3)) < [0.6, 0.2, 0.05]).astype(np.uint8)


# Labels and counts


def test_every_form_of_labels_has_the_same_counts() -> None:
    for form in (LABELS, LABELS[:, None], np.eye(3)[LABELS], LABELS.astype(np.float32)):
        np.testing.assert_array_equal(imbalance.class_counts(form), COUNTS)
        np.testing.assert_allclose(imbalance.class_prior(form), COUNTS / 140)
    soft = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    np.testing.assert_allclose(imbalance.class_counts(soft), soft.sum(0))
    rows = several()
    np.testing.assert_array_equal(imbalance.class_counts(rows, multi_label=True), rows.sum(0))
    np.testing.assert_array_equal(imbalance.class_counts([0, 1], 4), [1, 1, 0, 0])


@pytest.mark.parametrize(
    "labels",
    [[], [-1, 0], [0.5, 1], ["a", "b"], [[0.2, 0.2]], [[np.nan, 1.0]], [[[0]]], [np.nan, 1.0]],
)
def test_other_labels_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match="`labels` must be class numbers"):
        imbalance.class_counts(labels)


def test_multi_label_rows_are_zeros_and_ones() -> None:
    for labels in ([[0.5, 1.0]], [0, 1]):
        with pytest.raises(ValueError, match="`labels` must be class numbers"):
            imbalance.class_counts(labels, multi_label=True)


def test_a_long_tail_has_its_ratio_and_keeps_the_largest_class() -> None:
    labels = np.repeat(np.arange(10), 80)
    rows = imbalance.long_tail(labels, 40, seed=1)
    counts = np.bincount(labels[rows])
    assert counts[0] == 80
    assert counts[-1] == 2
    assert (np.diff(counts) < 0).all()
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(rows, imbalance.long_tail(labels, 40, seed=1))
    assert len(imbalance.long_tail(labels, 1)) == 800


@pytest.mark.parametrize("ratio", [-1, 0, 0.5, np.nan, "40"])
def test_a_ratio_below_one_is_refused(ratio: Any) -> None:
    with pytest.raises(ValueError, match="`ratio` must be a finite number >= 1"):
        imbalance.long_tail(LABELS, ratio)


# Weights


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    found = imbalance.class_weights("balanced", COUNTS)
    np.testing.assert_allclose(found, expected)
    rows = imbalance.sample_weights(LABELS, found)
    np.testing.assert_allclose(rows, compute_sample_weight("balanced", LABELS))
    np.testing.assert_allclose(imbalance.sample_weights(np.eye(3)[LABELS], found), rows)


@pytest.mark.parametrize("beta", [0.5, 0.99, 0.9999, 1 - 1e-12])
def test_effective_weights_are_the_closed_form_and_sum_to_c(beta: float) -> None:
    found = imbalance.class_weights("effective", COUNTS, beta=beta)
    # The sum of a geometric series, without the cancellation of 1 - beta^n.
    series = np.array([sum(beta**k for k in range(n)) for n in COUNTS])
    np.testing.assert_allclose(found, 3 / series / (1 / series).sum(), rtol=1e-6)
    assert found.sum() == pytest.approx(3)


def test_soft_rows_weigh_the_sum_over_their_classes() -> None:
    soft = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]])
    found = imbalance.sample_weights(soft, [1, 2, 4])
    np.testing.assert_allclose(found, [1.5, 0.1 + 0.4 + 2.8])


def test_given_weights_go_by_name_or_number() -> None:
    by_name = imbalance.class_weights({"cow": 4, "ant": 1, "bee": 2}, COUNTS, NAMES)
    np.testing.assert_array_equal(by_name, [1, 2, 4])
    by_number = imbalance.class_weights({np.int64(2): 4.0, 0: 1, 1: 2}, COUNTS, NAMES)
    np.testing.assert_array_equal(by_number, by_name)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"ant": 1, "bee": 2}, "a weight for every class. Missing: cow"),
        ({"ant": 1, "bee": 2, "cow": 3, "dog": 4}, "the classes are .*Received: weights='dog'"),
        ({0: 1, 1: 2, 2: 3, 3: 4}, "Received: weights=3"),
        ({0: 1, 1: 2, 2.0: 3}, r"keys are class names or numbers.*Received: weights=2\.0"),
        ({0: 1, 1: 2, 2: 3, "cow": 4}, "one weight for class 'cow', not two"),
        ({"ant": 1, "bee": 2, "cow": np.nan}, r"`weights\['cow'\]` must be a finite number > 0"),
        ({"ant": 1, "bee": -2, "cow": 3}, r"`weights\['bee'\]` must be a finite number > 0"),
        ({"ant": 0, "bee": 2, "cow": 3}, r"`weights\['ant'\]` must be a finite number > 0"),
        ({"ant": "1", "bee": 2, "cow": 3}, r"`weights\['ant'\]` must be a finite number > 0"),
        ([1, 2, 3], "`weights` must be a name or a mapping"),
        ("inverse", "`weights` must be one of 'balanced', 'effective'"),
    ],
)
def test_bad_weights_are_named(weights: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        imbalance.class_weights(weights, COUNTS, NAMES)


# Sampling


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("oversample", [100, 100, 100]),
        ("undersample", [10, 10, 10]),
        ("balanced", [47, 47, 46]),
        ("sqrt", 140 * np.sqrt(COUNTS) / np.sqrt(COUNTS).sum()),
    ],
)
def test_each_class_gets_its_number_of_rows(sampling: str, expected: Any) -> None:
    for epoch in range(3):
        rows = imbalance.epoch_rows(LABELS, sampling, epoch=epoch, seed=4)
        np.testing.assert_allclose(np.bincount(LABELS[rows]), expected, atol=1)
        # No row comes twice more than another of its class.
        times = np.bincount(rows, minlength=140)
        assert all(np.ptp(times[c == LABELS]) <= 1 for c in range(3))


def test_progressive_sampling_goes_from_the_data_to_balanced() -> None:
    counts = [
        np.bincount(LABELS[imbalance.epoch_rows(LABELS, "progressive", epoch=e, epochs=5)])
        for e in range(6)
    ]
    np.testing.assert_array_equal(counts[0], COUNTS)
    np.testing.assert_allclose(counts[2], (COUNTS + 140 / 3) / 2, atol=1)
    np.testing.assert_allclose(counts[4], 140 / 3, atol=1)
    np.testing.assert_array_equal(counts[5], counts[4])


@pytest.mark.parametrize("sampling", [*imbalance.SAMPLINGS, RandomUnderSampler()])
def test_a_draw_depends_on_seed_and_epoch_alone(sampling: Any) -> None:
    def draw(epoch: int, seed: int) -> list[int]:
        return imbalance.epoch_rows(LABELS, sampling, epoch=epoch, epochs=9, seed=seed).tolist()

    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = draw(2, 0)
    assert draw(2, 0) == first
    assert draw(3, 0) != first
    assert draw(2, 1) != first
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_undersampling_sees_the_majority_in_time() -> None:
    labels = np.repeat([0, 1], [1000, 100])
    seen: set[int] = set()
    for epoch in range(10):
        rows = imbalance.epoch_rows(labels, "undersample", epoch=epoch)
        assert len(rows) == 200
        seen |= set(rows[rows < 1000].tolist())
    assert len(seen) == 1000
    later = [imbalance.epoch_rows(labels, "undersample", epoch=e) for e in range(10, 20)]
    assert {*np.concatenate(later)[np.concatenate(later) < 1000]} == set(range(1000))
    # The next round is another one.
    assert set(later[0]) != set(imbalance.epoch_rows(labels, "undersample", epoch=0))


def test_a_large_index_is_quick() -> None:
    labels = np.random.default_rng(0).zipf(1.3, 1_000_000) % 1000
    times = []
    for epoch in range(3):
        started = time.perf_counter()
        rows = imbalance.epoch_rows(labels, "balanced", epoch=epoch)
        times.append(time.perf_counter() - started)
    np.testing.assert_array_equal(np.bincount(labels[rows]), 1000)
    assert min(times) < 1.0  # 0.2 on an idle machine; see benchmarks/imbalance.py


def test_soft_rows_come_by_the_shares_of_their_classes() -> None:
    hard = np.eye(3)[LABELS]
    soft = 0.9 * hard + 0.05 * np.roll(hard, 1, 1) + 0.05 * np.roll(hard, 2, 1)
    times = np.zeros(140)
    for epoch in range(300):
        rows = imbalance.epoch_rows(soft, "balanced", epoch=epoch)
        assert len(rows) == 140
        times += np.bincount(rows, minlength=140)
    rates = soft @ (soft.sum(0).mean() / soft.sum(0))
    np.testing.assert_allclose(times / 300, rates, atol=0.15)


@pytest.mark.parametrize("sampling", imbalance.SAMPLINGS)
def test_multi_label_rows_come_by_their_rarest_class(sampling: str) -> None:
    labels = several()
    drawn = [
        imbalance.epoch_rows(labels, sampling, epoch=e, epochs=50, multi_label=True)
        for e in range(50)
    ]
    assert len({len(rows) for rows in drawn}) == 1
    times = np.bincount(np.concatenate(drawn), minlength=len(labels)) / 50
    rare, common = times[labels[:, 2] == 1].mean(), times[(labels == [1, 0, 0]).all(1)].mean()
    assert rare > 1.3 * common
    # Images without a label are still shown.
    assert times[labels.sum(1) == 0].mean() == pytest.approx(common, rel=0.3)


@pytest.mark.parametrize("sampler", [RandomOverSampler(), RandomUnderSampler(random_state=3)])
def test_samplers_of_rows_balance_the_classes(sampler: Any) -> None:
    rows = imbalance.epoch_rows(LABELS, sampler, epoch=1)
    assert len(set(np.bincount(LABELS[rows]))) == 1
    assert sampler.get_params()["random_state"] in (None, 3)


class Beyond:
    """A sampler that returns a row too many."""

    def fit_resample(self, x: Any, y: Any) -> Any:
        return np.r_[x, [[len(x)]]], np.r_[y, 0]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (SMOTE(), r"selects rows in 0\.\.139; one that makes new rows belongs in `features`"),
        (ClusterCentroids(), "makes new rows belongs in `features`"),
        (Beyond(), r"returned row. Received: sampling=140\.0"),
        (3, "`sampling` must be a name or an imbalanced-learn sampler"),
        ("twice", "`sampling` must be one of 'oversample'"),
    ],
)
def test_rows_that_do_not_exist_are_refused(sampler: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        imbalance.epoch_rows(LABELS, sampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": -1}, "`epoch` must be an integer >= 0"),
        ({"epochs": 0}, "`epochs` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"labels": [1, 1]}, "no training samples of class '0'"),
        ({"labels": [0, 0]}, "two classes or more; there is only class '0'"),
    ],
)
def test_bad_arguments_of_a_draw(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imbalance.epoch_rows(**{"labels": LABELS, "sampling": "balanced", **options})


# Rows of features


@pytest.mark.parametrize("sampler", [*imbalance.SYNTHETIC, SMOTE(k_neighbors=2), ADASYN()])
def test_made_up_rows_level_the_classes(sampler: Any) -> None:
    x = np.random.default_rng(0).normal(size=(140, 4)) + LABELS[:, None] * 0.5
    made, labels = imbalance.resample(x, LABELS, sampler, seed=1)
    assert made.dtype == np.float32
    counts = np.bincount(labels)
    assert counts[0] == 100
    assert counts.min() > 60
    again, _ = imbalance.resample(x, LABELS, sampler, seed=1)
    np.testing.assert_array_equal(made, again)


def test_bad_features_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`features` must be \(N, F\) beside class numbers"):
        imbalance.resample(np.zeros((3, 2)), LABELS)
    with pytest.raises(ValueError, match="`sampler` must be one of 'smote'"):
        imbalance.resample(np.zeros((140, 2)), LABELS, "smoke")
    with pytest.raises(TypeError, match="`sampler` must be a name or an imbalanced-learn"):
        imbalance.resample(np.zeros((140, 2)), LABELS, 7)


# Adjustment


def test_adjusted_logits_are_those_less_the_log_prior() -> None:
    z = np.random.default_rng(0).normal(size=(5, 3))
    found = imbalance.adjust_logits(z, COUNTS, tau=0.5)
    p, expected = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (found, z))
    expected = expected / (COUNTS / 140) ** 0.5
    np.testing.assert_allclose(p, expected / expected.sum(1, keepdims=True))
    with pytest.raises(ValueError, match=r"`logits` must be of shape \(N, 3\)"):
        imbalance.adjust_logits(z[:, :2], COUNTS)


def test_a_shifted_prior_is_bayes_rule() -> None:
    prior, new = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.3, 0.5])
    likelihood = np.random.default_rng(0).random((6, 3))
    posterior = likelihood * prior / (likelihood * prior).sum(1, keepdims=True)
    expected = likelihood * new / (likelihood * new).sum(1, keepdims=True)
    np.testing.assert_allclose(imbalance.shift_prior(posterior, prior, new), expected)
    np.testing.assert_allclose(imbalance.shift_prior(posterior, prior, prior), posterior)
    yes = likelihood * prior / (likelihood * prior + 0.4 * (1 - prior))
    expected = likelihood * new / (likelihood * new + 0.4 * (1 - new))
    np.testing.assert_allclose(imbalance.shift_prior(yes, prior, new, True), expected)


@pytest.mark.parametrize("prior", [[0.5, 0.5], [0.5, 0.5, 0.5], [1, 0, 0], [np.nan, 0.5, 0.5]])
def test_a_bad_prior_is_refused(prior: Any) -> None:
    with pytest.raises(ValueError, match="`wanted` must be 3 shares above 0 and below 1 that sum"):
        imbalance.shift_prior(np.ones((1, 3)) / 3, [0.4, 0.3, 0.3], prior)


# Settings and what they come to


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "inverse"}, "`weights` must be one of 'balanced', 'effective'"),
        ({"weights": [1, 2]}, "`weights` must be None, a name or a mapping"),
        ({"sampling": "twice"}, "`sampling` must be one of 'oversample'"),
        ({"sampling": 2}, "`sampling` must be a name or an imbalanced-learn sampler"),
        ({"features": "smoke"}, "`features` must be one of 'smote'"),
        ({"loss": "hinge"}, "`loss` must be one of 'cross_entropy'"),
        ({"adjust": "all"}, "`adjust` must be one of None, 'logit', 'retrain'"),
        ({"beta": 1}, "`beta` must be a finite number > 0 and < 1"),
        ({"gamma": -1}, "`gamma` must be a finite number >= 0"),
        ({"tau": 0}, "`tau` must be a finite number > 0"),
        ({"margin": np.inf}, "`margin` must be a finite number > 0"),
    ],
)
def test_settings_are_checked_at_birth(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        tl.Imbalance(**options)


@pytest.mark.parametrize(
    ("options", "drop"),
    [
        ({"weights": "balanced", "sampling": "balanced"}, "drop weights='balanced'"),
        ({"loss": "logit_adjusted", "adjust": "logit"}, "drop adjust='logit'"),
        ({"weights": "effective", "adjust": "logit"}, "drop weights='effective'"),
        ({"weights": "effective", "loss": "balanced_focal"}, "drop weights='effective'"),
        ({"sampling": "sqrt", "loss": "ldam"}, "drop sampling='sqrt'"),
        ({"features": "smote", "adjust": "logit"}, "drop features='smote'"),
    ],
)
def test_correcting_twice_warns_and_says_what_to_drop(options: Any, drop: str) -> None:
    with pytest.warns(UserWarning, match=f"{drop}$") as caught:
        Imbalance(**options)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "options",
    [
        {"weights": {0: 1, 1: 5}, "sampling": "balanced"},
        {"loss": "focal", "adjust": "logit"},
        {"sampling": "balanced", "adjust": "retrain"},
        {"weights": "balanced", "loss": "ldam"},
    ],
)
def test_what_corrects_something_else_does_not_warn(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Imbalance(**options)


def test_auto_corrects_from_a_ratio_of_one_and_a_half() -> None:
    assert imbalance.choose([149, 100]) == Imbalance()
    assert imbalance.choose([150, 100]) == Imbalance(adjust="logit")
    assert imbalance.choose([150, 100], adjustable=False) == Imbalance(loss="logit_adjusted")


def test_a_sentence_says_what_is_done_with_the_counts() -> None:
    found = imbalance.correct("auto", LABELS, NAMES)
    assert str(found) == (
        "Imbalance: class ratio 10.0 (ant 100, bee 30, cow 10); "
        "logits adjusted by the training prior (tau 1)."
    )
    assert found.to_dict()["class_counts"] == {"ant": 100, "bee": 30, "cow": 10}
    even = imbalance.correct("auto", [0, 0, 1, 1], NAMES[:2])
    assert str(even).endswith("(ant 2, bee 2); nothing is corrected.")
    many = imbalance.correct("balanced", np.arange(30), [f"c{i}" for i in range(30)])
    assert "(c29 1, ..., c0 1); balanced class weights." in str(many)


@pytest.mark.parametrize("method", [m for m in imbalance.METHODS if m != "asymmetric"])
def test_what_the_outputs_assume(method: str) -> None:
    found = imbalance.correct(method, LABELS, NAMES)
    prior = COUNTS / 140
    expected = {
        **dict.fromkeys(("none", "focal", "retrain"), prior),
        "sqrt": np.sqrt(prior) / np.sqrt(prior).sum(),
        **dict.fromkeys(
            # The weights of LDAM are deferred to the last epoch, which is the only one here.
            ("effective", "balanced_focal", "ldam"),
            (prior * found._weights("effective")) / (prior * found._weights("effective")).sum(),
        ),
    }
    np.testing.assert_allclose(found.assumed_prior(), expected.get(method, 1 / 3), atol=1e-12)


def test_what_the_outputs_assume_goes_with_the_epoch() -> None:
    gradual = imbalance.correct("progressive", LABELS, NAMES)
    np.testing.assert_allclose(gradual.assumed_prior(0, 5), COUNTS / 140)
    np.testing.assert_allclose(gradual.assumed_prior(4, 5), 1 / 3)
    deferred = imbalance.correct(Imbalance(loss="ldam", weights="balanced"), LABELS, NAMES)
    np.testing.assert_allclose(deferred.assumed_prior(7, 10), COUNTS / 140)
    np.testing.assert_allclose(deferred.assumed_prior(8, 10), 1 / 3)
    np.testing.assert_allclose(deferred.assumed_prior(8, 10, solved=True), COUNTS / 140)


def test_multi_label_classes_are_levelled_among_each_other() -> None:
    labels = several(4000)
    for method in ("logit", "balanced"):
        found = imbalance.correct(method, labels, NAMES, multi_label=True)
        counts = labels.sum(0)
        odds = found.prior / (1 - found.prior) * counts.mean() / counts
        np.testing.assert_allclose(found.assumed_prior(), odds / (1 + odds))
    everywhere = np.c_[np.ones(50), np.arange(50) < 5].astype(int)
    found = imbalance.correct("logit", everywhere, NAMES[:2], multi_label=True)
    assert ((found.assumed_prior() > 0) & (found.assumed_prior() < 1)).all()


def test_a_solver_takes_rates_and_weights_as_one() -> None:
    one_hot = np.eye(3)[LABELS]
    sampled = imbalance.correct("undersample", LABELS, NAMES).solver_weights(one_hot)
    weighted = imbalance.correct("balanced", LABELS, NAMES).solver_weights(one_hot)
    expected = compute_sample_weight("balanced", LABELS)
    np.testing.assert_allclose(sampled, expected)
    np.testing.assert_allclose(weighted, expected)
    assert imbalance.correct("logit", LABELS, NAMES).solver_weights(one_hot) is None
    assert imbalance.correct("smote", LABELS, NAMES).solver_weights(one_hot, made_up=True) is None


@pytest.mark.parametrize(
    ("method", "labels", "several", "message"),
    [
        ("sqare", LABELS, False, "`imbalance` must be one of 'none', 'oversample'"),
        (3, LABELS, False, "`imbalance` must be a tl.Imbalance, 'auto' or the name of a method"),
        (Imbalance(weights={"ant": 1}), LABELS, False, "Missing: bee, cow"),
        ("auto", [0, 0, 2], False, "no training samples of class 'bee'"),
        ("balanced", [1, 1, 1], False, "no training samples of class 'ant', 'cow'"),
        ("undersample", [[1, 0, 0]], True, "no training samples of class 'bee', 'cow'"),
        ("asymmetric", LABELS, False, "'asymmetric' is for multi-label"),
        ("ldam", [[1, 1, 1]], True, "`loss` must be another one for multi-label data"),
        ("smote", [[1, 1, 1]], True, "`features` must be None for multi-label data"),
        (Imbalance(sampling=Beyond()), [[1, 1, 1]], True, "a name for multi-label data"),
        (Imbalance(sampling=Beyond()), LABELS, False, "a sampler that selects rows"),
    ],
)
def test_what_does_not_fit_the_labels(
    method: Any, labels: Any, several: bool, message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        imbalance.correct(method, labels, NAMES, several)


def test_a_single_class_is_named() -> None:
    with pytest.raises(ValueError, match="two classes or more; there is only class 'ant'"):
        imbalance.correct("auto", [0, 0], ["ant"])


def test_adjustment_helps_rare_digits_in_keras_free_code() -> None:
    x, y = load_digits(return_X_y=True)
    test = np.arange(len(y)) % 2 == 1
    train = np.flatnonzero(~test)[imbalance.long_tail(y[~test], 40)]
    model = LogisticRegression(max_iter=2000).fit(x[train] / 16, y[train])
    z = model.decision_function(x[test] / 16)
    adjusted = imbalance.adjust_logits(z, np.bincount(y[train]))
    recall = [
        np.mean([(found.argmax(1) == y[test])[y[test] == c].mean() for c in range(10)])
        for found in (z, adjusted)
    ]
    assert recall[1] > recall[0] + 0.05
