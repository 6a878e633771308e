"""Heads solved again from sums that grow, against solving on all rows at once."""

import numpy as np
import pytest

from tltoolkit.solving import heads, statistics
from tltoolkit.solving.discriminant import RIDGE
from tltoolkit.solving.heads import Chosen
from tltoolkit.solving.rows import Rows
from tltoolkit.solving.statistics import Statistics

PARTS = {"low": slice(0, 6), "unread": slice(6, 10), "middle": slice(10, 16), "high": slice(16, 40)}
CANDIDATES = {"both": ("low", "high"), "some": ("low", "middle")}
CHOSEN = (
    Chosen("both", 0.1, 3.0, 0.5),
    Chosen("some", 0.03, RIDGE, 2.0),
    Chosen("both", 0.3, 10.0, 0.25),
)
RTOL = 1e-6


def rows(
    count: int = 300, classes: int = 4, several: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """float32 features (N, 40) of different scales, far from zero, one never varies; targets."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    features = rng.normal(size=(count, 40)) + 2 * np.eye(classes, 40)[labels]
    features[:, 16:] = 0.01 * features[:, 16:] + 5
    targets = np.eye(classes)[labels]
    if several:
        targets = (features[:, :classes] + rng.normal(size=(count, classes)) > 1).astype(float)
    features[:, 3] = 7
    return features.astype(np.float32), targets


def at_once(
    features: np.ndarray, targets: np.ndarray, several: bool
) -> tuple[np.ndarray, np.ndarray]:
    made = Rows(features, targets, np.ones(len(features)), PARTS, several)
    return heads.average(made, CANDIDATES, CHOSEN)


def same(found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=RTOL, atol=RTOL * np.abs(other).max())


@pytest.mark.parametrize("several", [False, True])
def test_sums_that_grow_give_the_head_of_all_rows(several: bool) -> None:
    features, targets = rows(several=several)
    first = Statistics.of(features[:100], targets[:100], PARTS, CANDIDATES, CHOSEN)
    same(first.solve(40, several), at_once(features[:100], targets[:100], several))
    grown = first.with_rows(features[100:101], targets[100:101])
    grown = grown.with_rows(features[101:], targets[101:])
    same(grown.solve(40, several), at_once(features, targets, several))
    kernel, _ = grown.solve(40, several)
    assert not kernel[6:10].any()
    assert not kernel[3].any()


@pytest.mark.parametrize("several", [False, True])
def test_a_new_class_gives_the_head_of_all_rows(several: bool) -> None:
    features, targets = rows(several=several)
    old = targets[:, 3] == 0
    first = Statistics.of(features[old], targets[old, :3], PARTS, CANDIDATES, CHOSEN)
    grown = first.with_class().with_rows(features[~old], targets[~old])
    same(grown.solve(40, several), at_once(features, targets, several))
    logits = features @ grown.solve(40, several)[0] + grown.solve(40, several)[1]
    right = (logits > 0) == (targets > 0) if several else logits.argmax(1) == targets.argmax(1)
    assert right.mean() > 0.7


def test_sums_stream_and_take_a_triangle(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = rows()
    whole = Statistics.of(features, targets, PARTS, CANDIDATES, CHOSEN)
    monkeypatch.setattr("tltoolkit.solving.scaling.STREAMED", 7)
    same(
        Statistics.of(features, targets, PARTS, CANDIDATES, CHOSEN).solve(40, False),
        whole.solve(40, False),
    )
    names = statistics.names_read(PARTS, CANDIDATES, CHOSEN)
    assert names == ["low", "middle", "high"]
    assert whole.triangle.nbytes == statistics.size(PARTS, names) == 8 * 36 * 37 // 2
    assert whole.with_rows(features[:0], targets[:0]) is whole


def made() -> Statistics:
    return Statistics.of(*rows(), PARTS, CANDIDATES, CHOSEN)


def test_arrays_make_the_same_again() -> None:
    first = made()
    again = Statistics.of_arrays(first.arrays(), 40, 4)
    assert again.heads == first.heads
    assert again.parts == first.parts
    for one, other in zip(again.solve(40, False), first.solve(40, False), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"triangle": np.zeros(9)}, "triangle must have the shape"),
        ({"xy": np.zeros((36, 5))}, r"xy must have the shape \(36, 4\)"),
        ({"x": np.full(36, np.inf)}, "x holds NaN or infinite"),
        ({"y": None}, "it must hold"),
        ({"more": np.zeros(2)}, "it must hold"),
        ({"parts": np.array([[0, 6], [10, 16], [17, 41]])}, "parts must be 36 of 40 columns"),
        ({"parts": np.array([[10, 16], [0, 6], [16, 40]])}, "parts must be 36 of 40 columns"),
        ({"parts": np.array([[-6, 0], [10, 16], [16, 40]])}, "parts must be 36 of 40 columns"),
        ({"parts": np.array([[0, 2**60], [2**60, 2**61], [2**61, 2**62]])}, "parts must be"),
        ({"reads": np.zeros((3, 3), np.uint8)}, "each must read something"),
        ({"strengths": np.array([0.1, 0.0, 0.1])}, "strengths and weight must be above 0"),
        ({"weight": np.array([0.0])}, "strengths and weight must be above 0"),
        ({"kinds": np.array([3.0, -2.0, 10.0])}, "kinds not below"),
        (
            {name: np.zeros(0) for name in ("strengths", "kinds", "shares")}
            | {"reads": np.zeros((0, 3))},
            "there must be a head",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    arrays = {k: v for k, v in {**made().arrays(), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        Statistics.of_arrays(arrays, 40, 4)
