"""How familiar rows are, against scikit-learn, plain NumPy and counts of held-out rows."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA

from tltoolkit.solving import familiarity
from tltoolkit.solving import ranks as ranking
from tltoolkit.solving.familiarity import RANK, SHRINK, Distance, Familiarity
from tltoolkit.solving.ranks import Ranks
from tltoolkit.solving.scaling import scale_of

PARTS = {"low": slice(0, 30), "high": slice(30, 200)}


def rows(count: int = 700, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 200) of two scales with a falling spectrum, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    axes = np.linalg.qr(np.random.default_rng(9).normal(size=(200, 200)))[0]
    means = np.random.default_rng(8).normal(size=(classes, 200)) @ axes
    found = rng.normal(size=(count, 200)) * 0.985 ** np.arange(200) @ axes + 0.3 * means[labels]
    found[:, 30:] = 10 * found[:, 30:] + 3
    return found.astype(np.float32), labels


def plain(x: np.ndarray, labels: np.ndarray, query: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The same by the textbook along the given axes: a covariance, one class after the other."""
    z, q = (scaled(x, part) for part in (x, query))
    left = [(part**2).sum(1) - ((part @ axes) ** 2).sum(1) for part in (z, q)]
    along = z @ axes
    means = np.stack([along[labels == c].mean(0) for c in range(4)])
    within = (along - means[labels]).T @ (along - means[labels]) / (len(x) - 4)
    within = (1 - SHRINK) * within + SHRINK * np.trace(within) / len(within) * np.eye(len(within))
    inverse = np.linalg.inv(within)
    differences = (q @ axes)[:, None] - means
    nearest = np.einsum("ncr,rs,ncs->nc", differences, inverse, differences).min(1)
    return np.asarray(nearest + left[1] / (left[0].mean() / (200 - along.shape[1])))


def scaled(x: np.ndarray, part: np.ndarray) -> np.ndarray:
    return np.concatenate([scale_of(x[:, c])(part[:, c]) for c in PARTS.values()], axis=1)


@pytest.mark.parametrize("count", [120, 700])  # fewer rows than features, and more
def test_distances_are_those_of_the_textbook(count: int) -> None:
    x, labels = rows(count)
    query = np.concatenate([rows(50, seed=1)[0], 3 * rows(5, seed=2)[0]])
    made = Distance.of(x, labels, PARTS, 4)
    expected = plain(x, labels, query, made.axes.astype(np.float64))
    np.testing.assert_allclose(made(query), expected, rtol=1e-4)
    assert made.axes.shape == (200, min(RANK, count // 4))


@pytest.mark.parametrize("sketched", [300, 4096])
def test_the_axes_hold_what_the_best_ones_hold(
    sketched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(familiarity, "SKETCHED", sketched)
    x, labels = rows(700)
    axes = Distance.of(x, labels, PARTS, 4).axes.astype(np.float64)
    np.testing.assert_allclose(axes.T @ axes, np.eye(len(axes.T)), atol=1e-5)
    z = scaled(x, x)
    best = PCA(len(axes.T), svd_solver="full").fit(z).explained_variance_.sum() * 699
    assert ((z @ axes) ** 2).sum() >= best * (0.99 if sketched > 700 else 0.95)


def test_few_features_leave_nothing_over_and_single_rows_say_little() -> None:
    x, labels = rows(40)
    made = Distance.of(x[:, :6], labels, {"features": slice(0, 6)}, 4)
    assert made.axes.shape == (6, 6)
    assert made.rest == 0
    # One row of each class: no variance within classes, and no division by it.
    alone = Distance.of(x[:4], np.arange(4), PARTS, 4)
    assert np.isfinite(alone(x)).all()
    same = np.ones((8, 200), np.float32)
    assert np.isfinite(Distance.of(same, np.zeros(8, int), PARTS, 1)(x)).all()


def test_a_class_without_rows_is_near_to_nothing() -> None:
    x, labels = rows(200)
    with_gap = Distance.of(x, np.where(labels >= 2, labels + 1, labels), PARTS, 6)
    np.testing.assert_array_equal(with_gap(x), Distance.of(x, labels, PARTS, 4)(x))
    assert with_gap.counts[[2, 5]].tolist() == [0, 0]


def test_further_rows_count_in_the_means_and_a_new_class_is_near() -> None:
    x, labels = rows(400)
    first = Distance.of(x[:300], labels[:300], PARTS, 4)
    more = first.with_rows(x[300:], labels[300:])
    place = (x - first.mean) * first.factor @ first.axes @ first.white
    for c in range(4):
        np.testing.assert_allclose(more.means[c], place[labels == c].mean(0), rtol=1e-3, atol=1e-4)
    assert more.counts.sum() == 400


def test_a_new_class_becomes_familiar_and_strangers_stay_strange() -> None:
    x, labels = rows(400)
    first = Distance.of(x[:300], labels[:300], PARTS, 4)
    ranks = Ranks.of(first(x[300:]))
    # Both lie outside of the directions in which known rows vary.
    shifts = np.random.default_rng(7).normal(size=(2, 200)) * x.std(0)
    one = rows(200, seed=3)[0][rows(200, seed=3)[1] == 0][:40]
    new, strange = (one + shift.astype(np.float32) for shift in shifts)
    assert max(np.median(ranks(first(new))), np.median(ranks(first(strange)))) < 0.01
    grown = first.with_rows(new[:20], np.full(20, 4))
    assert grown.means.shape[0] == 5
    assert np.median(ranks(grown(new[20:]))) > 0.1
    assert np.median(ranks(grown(strange))) < 0.01
    np.testing.assert_allclose(grown(x[300:]), first(x[300:]), rtol=0.05)
    assert first.means.shape[0] == 4


def test_the_share_of_known_rows_that_are_refused_is_the_one_asked_for() -> None:
    x, labels = rows(3000)
    distance = Distance.of(x[:1000], labels[:1000], PARTS, 4)
    ranks = Ranks.of(distance(x[1000:2000]))
    known = ranks(distance(x[2000:]))
    for share in (0.01, 0.05, 0.1, 0.5):
        # Three standard deviations of the counts, of both held-out parts.
        slack = 3 * np.sqrt(2 * share * (1 - share) / 1000)
        assert np.mean(known < share) == pytest.approx(share, abs=slack)
    assert ranks(distance(rows(20, seed=4)[0] + 60)).max() < 1e-4


def test_ranks_are_a_smoothed_count_that_goes_on_falling() -> None:
    distances = np.exp(np.random.default_rng(0).normal(size=40))
    ranks = Ranks.of(distances)
    logs = np.sort(np.log(distances))
    spread = min(logs.std(), (np.quantile(logs, 0.75) - np.quantile(logs, 0.25)) / 1.34)
    assert ranks.width == pytest.approx(0.9 * spread * 40**-0.2)
    asked = np.array([0.0, 0.5, 1.0, 30.0, 300.0])
    expected = [np.mean(norm.cdf((logs - np.log(max(d, 1e-38))) / ranks.width)) for d in asked]
    np.testing.assert_allclose(ranks(asked), expected)
    assert (np.diff(ranks(asked)) < 0).all()
    assert ranks(asked)[0] == 1
    assert ranks(np.array([np.inf]))[0] == 0
    # All alike: a step, and no division by nothing.
    assert Ranks.of(np.ones(12))(np.array([0.9, 1.1])) == pytest.approx([1, 0])


def test_of_many_distances_some_are_kept() -> None:
    distances = np.exp(np.random.default_rng(0).normal(size=5000))
    ranks = Ranks.of(distances)
    assert len(ranks.knots) == ranking.KNOTS
    asked = np.quantile(distances, [0.1, 0.5, 0.99])
    np.testing.assert_allclose(ranks(asked), [0.9, 0.5, 0.01], atol=0.01)


def made() -> Familiarity:
    x, labels = rows(200)
    distance = Distance.of(x[:100], labels[:100], PARTS, 4)
    return Familiarity(distance, Ranks.of(distance(x[100:])))


def test_arrays_make_the_same_again() -> None:
    first, x = made(), rows(20, seed=5)[0]
    again = Familiarity.of_arrays(first.arrays(), 200)
    np.testing.assert_array_equal(again(x), first(x))
    plain = Ranks.from_dict(first.ranks.to_dict())
    np.testing.assert_array_equal(plain(np.arange(9.0)), first.ranks(np.arange(9.0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": np.zeros((199, 25))}, r"axes must have the shape \(200, 25\)"),
        ({"white": np.zeros((3, 3))}, "white must have the shape"),
        ({"mean": np.full(200, np.nan)}, "mean holds NaN"),
        ({"mean": None}, "it must hold"),
        ({"more": np.zeros(3)}, "it must hold"),
        ({"knots": np.array([2.0, 1.0])}, "knots must be sorted"),
        ({"knots": np.zeros(0)}, "knots must be sorted"),
        ({"width": np.array([0.0])}, "width a number above 0"),
        ({"counts": np.zeros(4)}, "one class or more"),
        ({"means": np.zeros((2, 25))}, r"counts must have the shape \(2,\)"),
        ({"axes": np.zeros(200)}, "must have the shape"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    arrays = {k: v for k, v in {**made().arrays(), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        Familiarity.of_arrays(arrays, 200)


def test_what_a_card_says_of_ranks_is_checked() -> None:
    for wrong in (
        {"knots": [], "width": 1.0},
        {"knots": [1.0, float("nan")], "width": 1.0},
        {"knots": [[1.0]], "width": 1.0},
        {"knots": [1.0], "width": -1},
    ):
        with pytest.raises(ValueError, match="knots must be sorted numbers"):
            Ranks.from_dict(wrong)
