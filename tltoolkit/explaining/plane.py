"""Rows as points of a plane, to be looked at."""

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.explaining.nearest import Singles
from tltoolkit.explaining.terms import PCA, TSNE

BEFORE = 50  # dimensions that t-SNE and UMAP begin with, as van der Maaten and Hinton 2008
PERPLEXITY = 30.0  # neighbours that t-SNE looks at, scikit-learn's default
EACH = 3.0  # rows for each of them, so many at least: t-SNE looks three times as far
UMAP_NEIGHBOURS = 15  # umap-learn's default
FEWEST = 5  # rows that UMAP lays out: it begins with a spectrum of more than two dimensions


def flat(rows: Singles, method: str, seed: int) -> Singles:
    """(N, 2) points of rows (N, F); arguments and errors are those of `Embedding.map`."""
    if method == PCA:
        return principal(rows, 2, seed)
    if method == TSNE:
        return _tsne(principal(rows, BEFORE, seed), seed)
    with _checks.extra("method='umap' needs umap-learn", "umap"):
        from umap import UMAP
    if len(rows) < FEWEST:
        return principal(rows, 2, seed)
    # Of one thread, as UMAP is with a seed.
    near = min(UMAP_NEIGHBOURS, len(rows) - 1)
    layout = UMAP(n_neighbors=near, random_state=seed, n_jobs=1)
    return np.asarray(layout.fit_transform(principal(rows, BEFORE, seed)), np.float32)


def principal(rows: Singles, count: int, seed: int) -> Singles:
    """(N, D) rows along their `count` principal directions, or two or more where there are fewer.

    Beyond those that there are, the two that every plane has are zeros.
    """
    from sklearn import decomposition

    there = min(count, *rows.shape)
    made: npt.NDArray[np.float32] = np.zeros((len(rows), max(there, 2)), np.float32)
    # Of one row, or of equal ones, there is no variance to part.
    if len(rows) > 1 and np.ptp(rows, axis=0).any():
        made[:, :there] = decomposition.PCA(there, random_state=seed).fit_transform(rows)
    return made


def _tsne(rows: Singles, seed: int) -> Singles:
    from sklearn import manifold

    perplexity = min(PERPLEXITY, (len(rows) - 1) / EACH)
    # Of fewer than four rows no one has a neighbour more than another.
    if perplexity < 1 or not rows.any():
        return rows[:, :2]
    # Begun by PCA, by which far groups keep their places (Kobak and Berens 2019).
    layout = manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(layout.fit_transform(rows), np.float32)
