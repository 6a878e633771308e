"""Heads in closed form against refitting, scikit-learn and plain sums."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.linear_model import Ridge

from tltoolkit.solving import choosing, heads
from tltoolkit.solving.discriminant import Fits, as_logits
from tltoolkit.solving.heads import LDA, RIDGE, Chosen
from tltoolkit.solving.ridge import Sums, inverse, left_out
from tltoolkit.solving.rows import Rows
from tltoolkit.solving.scaling import scale_of

CLASSES = 4
PARTS = {"low": slice(0, 6), "high": slice(6, 16)}


def rows(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, 16) of two scales, one-hot targets and weights."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    features = rng.normal(size=(count, 16)) + np.eye(CLASSES, 16)[labels] * 2
    features[:, 6:] = 10 * features[:, 6:] + 3 * labels[:, None]
    return features, np.eye(CLASSES)[labels], rng.integers(1, 4, count).astype(float)


class Solved:
    """A choice and its heads on all rows."""

    def __init__(self, features, targets, candidates, **options) -> None:
        choice = heads.choose(features, targets, PARTS, candidates, **options)
        self.table, self.chosen, self.held_out = choice.table, choice.chosen, choice.held_out
        rows = Rows(features, targets, np.ones(len(features)), PARTS, multi_label=False)
        self.kernel, self.bias = heads.average(rows, candidates, self.chosen)


def test_sums_of_parts_are_those_of_the_whole_and_solve_as_scikit_learn() -> None:
    features, targets, weights = rows()
    whole = Sums.of(features, targets, weights)
    added = Sums.of(features[:13], targets[:13], weights[:13]) + Sums.of(
        features[13:], targets[13:], weights[13:]
    )
    for name in ("weight", "x", "y", "xx", "xy"):
        np.testing.assert_allclose(getattr(added, name), getattr(whole, name), rtol=1e-9)
    kernel, bias = whole.solve(7.0)
    expected = Ridge(alpha=7.0).fit(features, targets, sample_weight=weights)
    np.testing.assert_allclose(kernel.T, expected.coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(bias, expected.intercept_, rtol=1e-8)


def test_what_is_left_out_is_fitted_as_without_it() -> None:
    features, targets, weights = rows(30)
    fold = np.arange(30) % 3
    fold[:4] = choosing.NOT_HELD
    slack = 5.0 / weights
    seen = []
    for held, rest, out, fit in left_out(
        inverse(features @ features.T, slack), slack, targets, fold
    ):
        alone = Ridge(alpha=5.0).fit(features[rest], targets[rest], sample_weight=weights[rest])
        np.testing.assert_allclose(out, alone.predict(features[held]), atol=1e-8)
        np.testing.assert_allclose(fit, alone.predict(features[rest]), atol=1e-8)
        seen += list(held)
    assert sorted(seen) == list(range(4, 30))


def plain_lda(x: np.ndarray, y: np.ndarray, w: np.ndarray, ridge: float, pull: float) -> np.ndarray:
    """Log posteriors (N, C) by the textbook: pooled scatter plus ridge, shrunk means, priors."""
    counts = w @ y
    centre = np.average(x, axis=0, weights=w)
    x = x - centre
    means = (y * w[:, None]).T @ x / counts[:, None]
    within = sum(w[i] * np.outer(d, d) for i, d in enumerate(x - y @ means))
    inv = np.linalg.inv(within + ridge * np.eye(x.shape[1])) * (counts.sum() - y.shape[1])
    means = means * (counts / (counts + pull))[:, None]
    logits = x @ inv @ means.T - 0.5 * np.einsum("ci,ij,cj->c", means, inv, means)
    return np.asarray(log_softmax(logits + np.log(counts / counts.sum()), axis=1))


@pytest.mark.parametrize("pull", [0.0, 3.0])
@pytest.mark.parametrize("count", [12, 60])  # fewer rows than features, and more
def test_the_discriminant_is_that_of_the_textbook(count: int, pull: float) -> None:
    features, targets, weights = rows(count)
    made = Rows(features, targets, weights, PARTS, multi_label=False)
    kernel, bias = made.solve(("low", "high"), 0.1, pull)
    scaled = np.concatenate([s(features[:, PARTS[n]]) for n, s in made.scales.items()], axis=1)
    length = np.average((scaled**2).sum(1), weights=weights)
    expected = plain_lda(scaled, targets, weights, 0.1 * length, pull)
    np.testing.assert_allclose(log_softmax(features @ kernel + bias, axis=1), expected, atol=1e-4)


@pytest.mark.parametrize("kind", [RIDGE, 3.0])
@pytest.mark.parametrize("multi_label", [False, True])
def test_held_out_logits_are_those_of_a_head_that_did_not_see_the_rows(
    kind: float | str, multi_label: bool
) -> None:
    features, targets, weights = rows(40)
    fold = np.arange(40) % 4
    made = Rows(features, targets, weights, PARTS, multi_label)
    (found,) = made.held_out(("low",), fold, 0.1, [kind])
    x = made.scales["low"](features[:, :6])
    length = np.average((x**2).sum(1), weights=weights)
    for number in range(4):
        held, rest = fold == number, fold != number
        model = Ridge(alpha=0.1 * length).fit(x[rest], targets[rest], sample_weight=weights[rest])
        fit, heavy = model.predict(x[rest]), weights[rest, None] * targets[rest]
        fits = Fits(heavy.T @ fit, weights[rest] @ fit, heavy.sum(0), weights[rest].sum())
        turned, bias = as_logits(fits, kind, multi_label)
        expected = model.predict(x[held]) @ turned + bias
        np.testing.assert_allclose(found[held], expected, rtol=1e-4, atol=1e-4)


def test_labels_that_are_independent_are_two_classes_each() -> None:
    features, _, weights = rows(50)
    targets = (features[:, :3] + np.random.default_rng(1).normal(size=(50, 3)) > 0).astype(float)
    kernel, bias = Rows(features, targets, weights, PARTS, True).solve(("low",), 0.1, 3.0)
    for c in range(3):
        pair = np.stack([1 - targets[:, c], targets[:, c]], axis=1)
        alone, offset = Rows(features, pair, weights, PARTS, False).solve(("low",), 0.1, 3.0)
        np.testing.assert_allclose(kernel[:, c], alone[:, 1] - alone[:, 0], atol=1e-6)
        assert bias[c] == pytest.approx(offset[1] - offset[0], abs=1e-6)


def test_a_weight_counts_as_so_many_rows() -> None:
    features, targets, weights = rows(20)
    times = weights.astype(int)
    again = [np.repeat(part, times, axis=0) for part in (features, targets)]
    one = Rows(features, targets, weights, {"low": slice(0, 6)}, False)
    many = Rows(*again, np.ones(times.sum()), {"low": slice(0, 6)}, False)
    many.scales = one.scales
    pairs = zip(one.solve(("low",), 0.1, 3.0), many.solve(("low",), 0.1, 3.0), strict=True)
    for got, expected in pairs:
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_rows_that_stream_give_the_same_head(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets, weights = rows(200)
    expected = Rows(features, targets, weights, PARTS, False).solve(("low", "high"), 0.1, 3.0)
    monkeypatch.setattr("tltoolkit.solving.rows.STREAMED", 7)
    got = Rows(features, targets, weights, PARTS, False).solve(("low", "high"), 0.1, 3.0)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_an_average_is_one_head() -> None:
    features, targets, weights = rows()
    made = Rows(features, targets, weights, PARTS, False)
    candidates = {"low": ("low",), "all": ("low", "high")}
    chosen = [Chosen("low", 0.1, 3.0, 0.25), Chosen("all", 1.0, RIDGE, 1.5)]
    kernel, bias = heads.average(made, candidates, chosen)
    expected = 0.0
    for one in chosen:
        alone = made.solve(candidates[one.candidate], one.strength, one.kind)
        expected = expected + one.share * (features @ alone[0] + alone[1])
    np.testing.assert_allclose(
        log_softmax(features @ kernel + bias, axis=1), log_softmax(expected, axis=1), atol=1e-8
    )


def test_groups_stay_together_and_a_class_of_one_group_has_no_say() -> None:
    labels = np.repeat([0, 1, 2], [20, 20, 2])
    groups = np.arange(42) // 2
    fold = choosing.deal(np.eye(3)[labels], groups)
    assert all(len(set(fold[groups == g])) == 1 for g in range(21))
    assert (fold[labels == 2] == choosing.NOT_HELD).all()
    for label in (0, 1):
        assert np.bincount(fold[labels == label]).tolist() == [4] * 5


def test_the_temperature_is_where_the_loss_is_least() -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(400, 3))
    drawn = np.array([rng.choice(3, p=np.exp(row)) for row in log_softmax(logits / 2, axis=1)])
    found = choosing.temperature(logits, np.eye(3)[drawn], multi_label=False)
    losses = {t: choosing.log_loss(logits / t, np.eye(3)[drawn], False) for t in (1.9, 2.1, found)}
    assert found == pytest.approx(2, abs=0.4)
    assert min(losses, key=losses.__getitem__) == found


def test_the_choice_reads_what_tells_the_classes_apart() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    features = rng.normal(size=(120, 16)).astype(np.float32)
    features[:, 6:] += 2 * np.eye(3, 10)[labels]
    candidates = {"low": ("low",), "high": ("high",), "all": ("low", "high")}
    found = Solved(features, np.eye(3)[labels], candidates)
    losses = {row.candidate: row.log_loss for row in found.table}
    assert losses["high"] < losses["all"] < losses["low"]
    assert found.held_out.shape == (120, 3)
    assert np.isfinite(found.held_out).all()
    assert sum(row.weight for row in found.table) == pytest.approx(1)
    best = next(row for row in found.table if row.candidate == "high")
    mixed = choosing.log_loss(found.held_out, np.eye(3)[labels], False)
    assert mixed <= best.log_loss + 1e-9


def test_one_kind_alone_can_be_asked_for() -> None:
    features, targets, _ = rows()
    for kind in (RIDGE, LDA):
        found = Solved(features, targets, {"all": tuple(PARTS)}, kinds=[kind])
        assert all((one.kind == RIDGE) == (kind == RIDGE) for one in found.chosen)


def test_more_rows_than_are_chosen_on_are_all_solved_on(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets, _ = rows(300)
    monkeypatch.setattr(heads, "MOST_ROWS", 100)
    found = Solved(features, targets, {"all": tuple(PARTS)})
    said = np.isfinite(found.held_out).all(1)
    assert 100 <= said.sum() < 160
    expected = heads.average(
        Rows(features, targets, np.ones(300), PARTS, False), {"all": tuple(PARTS)}, found.chosen
    )
    np.testing.assert_allclose(found.kernel, expected[0])


def test_a_class_without_rows_is_never_said() -> None:
    features, targets, _ = rows()
    more = np.concatenate([targets, np.zeros((len(targets), 1))], axis=1)
    found = Solved(features, more, {"all": tuple(PARTS)})
    said = features @ found.kernel + found.bias
    assert (log_softmax(said, axis=1)[:, -1] < -1e3).all()
    without = Solved(features, targets, {"all": tuple(PARTS)})
    np.testing.assert_allclose(
        log_softmax(said[:, :-1], axis=1),
        log_softmax(features @ without.kernel + without.bias, axis=1),
        atol=1e-3,
    )


def test_a_constant_feature_says_nothing() -> None:
    features, targets, _ = rows()
    features[:, 3] = 5.0
    found = Solved(features, targets, {"all": tuple(PARTS)})
    assert (found.kernel[3] == 0).all()
    assert scale_of(np.full((4, 2), 3.0)).factor.tolist() == [0, 0]


def test_what_is_not_finite_is_named() -> None:
    features, targets, _ = rows()
    features[7, 2] = np.nan
    with pytest.raises(ValueError, match="`features` must be finite. Received: 1 rows, first 7"):
        heads.choose(features, targets, PARTS, {"all": tuple(PARTS)})


def test_without_rows_to_hold_out_the_strongest_is_taken() -> None:
    features = rows(4)[0]
    found = Solved(features, np.eye(4), {"all": tuple(PARTS)})
    assert found.table == ()
    assert np.isnan(found.held_out).all()
    assert [(one.strength, one.share) for one in found.chosen] == [(1.0, 1.0)]
    assert ((features @ found.kernel + found.bias).argmax(1) == np.arange(4)).all()
