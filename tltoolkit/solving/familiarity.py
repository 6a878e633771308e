"""How far rows of features are from those of training, and how rare that is among known ones.

The distance is that to the nearest class mean in the covariance within classes (Mahalanobis; Lee
et al. 2018) along the leading principal directions, and beside them the energy that these leave
over, each direction of which counts as one (probabilistic PCA, Tipping and Bishop 1999; for
strangers ViM, Wang et al. 2022). So it takes F x 128 numbers in place of F x F.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit.solving import arrays as named
from tltoolkit.solving.ranks import Ranks
from tltoolkit.solving.rows import Parts
from tltoolkit.solving.scaling import Floats, scale_of, stripes

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.integer[Any]]

RANK = 128  # principal directions: 64 and 256 differed by less than 0.01 of AUROC on seven sets
ROWS_EACH = 4  # rows for each direction: of fewer, those that are left over seem empty
SHRINK = 0.1  # of the covariance within classes towards its mean variance
SKETCHED = 4096  # rows that the directions are looked for on
BESIDE, ROUNDS = 16, 3  # directions besides, and passes, of a randomised decomposition
TINY = np.finfo(np.float32).tiny
LEFT_OVER = 1e-3  # of the energy: of less a sum of float32 is not exact to three digits


@dataclass(frozen=True, eq=False)
class Distance:
    """The squared distance of rows of features (N, F) from what was trained on.

    Attributes:
        mean: (F,) of the training rows.
        factor: (F,) what brings features to a common scale.
        axes: (F, R) orthonormal principal directions of the scaled rows.
        white: (R, R) makes the covariance within classes the identity.
        means: (C, R) of the classes, so whitened; zeros of one without rows, which counts for none.
        counts: (C,) rows of each.
        rest: What the energy outside of the directions is multiplied by: one over its mean in a
            direction, or 0 where there is none.
    """

    mean: Singles
    factor: Singles
    axes: Singles
    white: Singles
    means: Singles
    counts: Singles
    rest: Singles

    @classmethod
    def of(
        cls, rows: npt.NDArray[np.floating], labels: Ints, parts: Parts, classes: int
    ) -> "Distance":
        """That of training rows.

        Args:
            rows: (N, F), N >= 1.
            labels: (N,) class of each; all alike where a row may have several.
            parts: Name -> columns that are scaled together.
            classes: How many there are, C.
        """
        from threadpoolctl import threadpool_limits

        mean, factor = (np.zeros(rows.shape[1], np.float32) for _ in range(2))
        for columns in parts.values():
            scale = scale_of(rows[:, columns])
            mean[columns], factor[columns] = scale.mean, scale.factor
        # As `heads.choose`: threads that wait for one another took ten times as long.
        with threadpool_limits(limits=1, user_api="blas"):
            axes = _principal(_some(rows, mean, factor))
            along, energy = _projected(rows, mean, factor, axes)
        counts = np.bincount(labels, minlength=classes)
        means = _sums(along, labels, classes) / np.maximum(counts, 1)[:, None]
        white = _whitening(along - means[labels], len(along) - int((counts > 0).sum()))
        left = rows.shape[1] - axes.shape[1]
        # Not by less than float32 can tell, where the directions leave next to nothing over.
        whole = LEFT_OVER * (energy + np.square(along).sum(1)).mean()
        beside = max(energy.mean(), whole) / left if left else 0.0
        return cls(
            mean=mean,
            factor=factor,
            axes=axes,
            white=white.astype(np.float32),
            means=(means @ white).astype(np.float32),
            counts=counts.astype(np.float32),
            rest=np.array([1 / beside if beside > TINY else 0.0], np.float32),
        )

    def __call__(self, rows: npt.NDArray[np.floating]) -> Floats:
        """(N,) squared distances of rows (N, F)."""
        along, energy = _projected(rows, self.mean, self.factor, self.axes)
        at, means = along @ self.white, self.centres.astype(np.float64)
        nearest = np.min([np.square(at - mean).sum(1) for mean in means], axis=0)
        return np.asarray(nearest + energy * self.rest)

    @property
    def centres(self) -> Singles:
        """(K, R) the means of the classes that have rows."""
        return self.means[self.counts > 0]

    def with_rows(self, rows: npt.NDArray[np.floating], labels: Ints) -> "Distance":
        """The same with class means that further rows count in; a new label makes a new class.

        Directions and covariance stay; a new class adds the one in which it lies outside of them.

        Args:
            rows: (N, F).
            labels: (N,) class of each.
        """
        classes = max(len(self.means), int(labels.max()) + 1)
        wide = self
        for label in range(len(self.means), classes):
            wide = wide.towards(rows[labels == label])
        along, _ = _projected(rows, wide.mean, wide.factor, wide.axes)
        counts = np.bincount(labels, minlength=classes).astype(np.float64)
        totals = _sums(along @ wide.white, labels, classes)
        totals[: len(wide.means)] += wide.means * wide.counts[:, None].astype(np.float64)
        counts[: len(wide.counts)] += wide.counts
        means = totals / np.maximum(counts, 1)[:, None]
        changed = {"means": means.astype(np.float32), "counts": counts.astype(np.float32)}
        return Distance(**{**vars(wide), **changed})

    def towards(self, rows: npt.NDArray[np.floating]) -> "Distance":
        """The same with one more direction, in which the mean of rows lies outside of the others.

        Nothing known varies there but by what is left over, and known classes lie at zero.
        """
        if not len(rows) or not self.rest[0]:
            return self
        mean = (rows.mean(0, dtype=np.float64) - self.mean) * self.factor
        # Twice: what rounding has left of the other directions goes, too.
        for _ in range(2):
            mean = mean - self.axes @ (self.axes.T @ mean)
        length = np.linalg.norm(mean)
        if not length:
            return self
        white = np.pad(self.white, (0, 1))
        white[-1, -1] = np.sqrt(self.rest[0])
        axes = np.hstack([self.axes, (mean / length)[:, None]]).astype(np.float32)
        means = np.pad(self.means, ((0, 0), (0, 1)))
        return Distance(**{**vars(self), "axes": axes, "white": white, "means": means})


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Both: from features to the share of known images that are at least as far."""

    distance: Distance
    ranks: Ranks

    def __call__(self, rows: npt.NDArray[np.floating]) -> Floats:
        """(N,) familiarity of rows of features (N, F), in 0..1."""
        return self.ranks(self.distance(rows))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Name -> array of all that it is."""
        ranks = {"knots": self.ranks.knots, "width": np.array([self.ranks.width])}
        return {**vars(self.distance), **ranks}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], width: int) -> "Familiarity":
        """The inverse of `arrays`, of a head that reads `width` features.

        Raises:
            ValueError: Arrays of other names or shapes, or numbers that cannot be.
        """
        given = dict(arrays)
        named.check(given, _shapes(given, width))
        knots, spread = given.pop("knots").astype(np.float64), float(given.pop("width")[0])
        if not (given["counts"] > 0).any():
            raise ValueError("counts must be those of one class or more")
        made = {name: array.astype(np.float32) for name, array in given.items()}
        return cls(Distance(**made), Ranks.checked(knots, spread))


def _shapes(arrays: Mapping[str, npt.NDArray[Any]], width: int) -> dict[str, tuple[int, ...]]:
    """What the shapes must be, by those that say how many directions, classes and knots."""
    missing = np.zeros((0, 0))
    rank = arrays.get("axes", missing).shape[-1]
    classes = len(arrays.get("means", missing))
    return {
        "mean": (width,),
        "factor": (width,),
        "axes": (width, rank),
        "white": (rank, rank),
        "means": (classes, rank),
        "counts": (classes,),
        "rest": (1,),
        "knots": (len(arrays.get("knots", missing)),),
        "width": (1,),
    }


def _sums(rows: Floats, labels: Ints, classes: int) -> Floats:
    """(C, R) sums of the rows (N, R) of each class."""
    sums = np.zeros((classes, rows.shape[1]))
    # Unbuffered: plain indexing would count a label that comes twice once.
    np.add.at(sums, labels, rows)
    return sums


def _some(rows: npt.NDArray[np.floating], mean: Singles, factor: Singles) -> Singles:
    """Scaled rows, not too many of them."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:SKETCHED]
    return np.asarray((rows[np.sort(chosen)] - mean) * factor, np.float32)


def _principal(rows: Singles) -> Singles:
    """(F, R) leading right singular vectors of centred rows, by a randomised decomposition.

    Halko, Martinsson and Tropp 2011, with passes that sharpen it.
    """
    count, width = rows.shape
    rank = max(1, min(RANK, width, count // ROWS_EACH))
    drawn = np.random.default_rng(0).normal(size=(width, min(rank + BESIDE, width, count)))
    found = drawn.astype(np.float32)
    for _ in range(ROUNDS):
        found = np.linalg.qr(rows.T @ (rows @ found))[0].astype(np.float32)
    _, _, turned = np.linalg.svd((rows @ found).astype(np.float64), full_matrices=False)
    return np.asarray(np.linalg.qr(found @ turned[:rank].T)[0], np.float32)


def _projected(
    rows: npt.NDArray[np.floating], mean: Singles, factor: Singles, axes: Singles
) -> tuple[Floats, Floats]:
    """Places (N, R) of rows along the axes, and the energy (N,) that these leave over."""
    along, energy = [], []
    for part in stripes(rows):
        scaled = (part.astype(np.float64) - mean) * factor
        along.append(scaled @ axes)
        energy.append(np.square(scaled).sum(1) - np.square(along[-1]).sum(1))
    return np.concatenate(along), np.maximum(np.concatenate(energy), 0)


def _whitening(within: Floats, freedom: int) -> Floats:
    """(R, R) that makes the shrunk covariance of rows around their class means the identity."""
    scatter = within.T @ within / max(freedom, 1)
    mean = float(np.trace(scatter)) / len(scatter)
    if mean <= 0:  # one row in each class: nothing is known of how they vary
        return np.eye(len(scatter))
    shrunk = (1 - SHRINK) * scatter + SHRINK * mean * np.eye(len(scatter))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(shrunk)))
