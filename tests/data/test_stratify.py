"""Dealing images out: shares, rare labels, several labels per image."""

import numpy as np
import pytest

from tltoolkit.data.stratify import deal


@pytest.mark.parametrize("shares", [(0.8, 0.2, 0.0), (0.6, 0.3, 0.1), (0.25, 0.25, 0.5)])
def test_every_class_has_its_shares(shares: tuple[float, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 5, 1000)
    parts = deal(labels, shares, seed=3)
    for label in range(5):
        counts = np.bincount(parts[labels == label], minlength=3)
        assert np.abs(counts - np.array(shares) * (labels == label).sum()).max() <= 1


def test_folds_differ_by_at_most_one_image_per_class() -> None:
    labels = np.repeat(np.arange(4), (5, 7, 23, 101))
    parts = deal(labels, [0.2] * 5, seed=0)
    for label in range(4):
        counts = np.bincount(parts[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(parts).max() - np.bincount(parts).min() <= 4


def test_the_seed_alone_decides() -> None:
    labels = np.arange(100) % 3
    np.testing.assert_array_equal(deal(labels, (0.7, 0.3), 5), deal(labels, (0.7, 0.3), 5))
    assert (deal(labels, (0.7, 0.3), 5) != deal(labels, (0.7, 0.3), 6)).any()


def test_several_labels_per_image_are_spread() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((2000, 6)) < (0.5, 0.3, 0.1, 0.05, 0.02, 0.01)).astype(np.uint8)
    parts = deal(labels, (0.7, 0.2, 0.1), seed=0)
    sizes = np.bincount(parts, minlength=3) / len(labels)
    np.testing.assert_allclose(sizes, (0.7, 0.2, 0.1), atol=0.02)
    totals = labels.sum(axis=0)
    for part, share in enumerate((0.7, 0.2, 0.1)):
        assert np.abs(labels[parts == part].sum(axis=0) - share * totals).max() <= 12
    # Rare labels, which chance would spread badly, are nearly exact.
    assert np.abs(labels[parts == 1][:, 5].sum() - 0.2 * totals[5]) <= 1
