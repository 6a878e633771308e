"""Scaled rows, with the products and sums that several heads on them share."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tltoolkit.solving.discriminant import Fits, Kind, as_logits
from tltoolkit.solving.ridge import Ints, Sums, inverse, left_out
from tltoolkit.solving.scaling import STREAMED, Floats, scale_of

# Name -> columns of the features that are scaled together.
Parts = Mapping[str, slice]


class Rows:
    """Rows of features with their targets.

    Args:
        features: (N, F).
        targets: (N, C) zeros and ones.
        weights: (N,), > 0.
        parts: Name -> columns that are scaled together.
        multi_label: Whether the C classes are independent.
    """

    def __init__(
        self,
        features: npt.NDArray[np.floating],
        targets: Floats,
        weights: Floats,
        parts: Parts,
        multi_label: bool,
    ) -> None:
        self.features, self.targets, self.weights = features, targets, weights
        self.parts, self.multi_label = parts, multi_label
        self.scales = {name: scale_of(features[:, columns]) for name, columns in parts.items()}
        self.counts = np.asarray(weights @ targets)
        # By part, as candidates share parts: the products of a sum are the sum of products.
        self._products: dict[str, npt.NDArray[np.float32]] = {}
        self._sums: dict[tuple[str, ...], Sums] = {}

    def held_out(
        self, names: Sequence[str], fold: Ints, strength: float, kinds: Sequence[Kind]
    ) -> Iterator[Floats]:
        """Logits (N, C) of a head of each kind on some parts; NaN where nothing is held out."""
        gram, length = self._gram(names)
        slack = strength * length / self.weights
        inv = inverse(gram, slack)
        found = [np.full(self.targets.shape, np.nan) for _ in kinds]
        for held, rest, out, fit in left_out(inv, slack, self.targets, fold):
            heavy = self.weights[rest, None] * self.targets[rest]
            fits = Fits(
                cross=heavy.T @ fit,
                whole=self.weights[rest] @ fit,
                counts=heavy.sum(0),
                weight=float(self.weights[rest].sum()),
            )
            for logits, kind in zip(found, kinds, strict=True):
                turned, bias = as_logits(fits, kind, self.multi_label)
                logits[held] = out @ turned + bias
        yield from found

    def solve(self, names: Sequence[str], strength: float, kind: Kind) -> tuple[Floats, Floats]:
        """Kernel (F, C) on raw features, zero outside of the parts, and bias (C,)."""
        # By whichever system is smaller: rows by rows, or features by features.
        few = len(self.features) < sum(len(self.scales[name].mean) for name in names)
        scaled, offset, fits = (self._by_products if few else self._by_sums)(names, strength)
        turned, bias = as_logits(fits, kind, self.multi_label)
        scaled, bias = scaled @ turned, offset @ turned + bias
        kernel, at = np.zeros((self.features.shape[1], len(bias))), 0
        for name in names:
            width = len(self.scales[name].mean)
            kernel[self.parts[name]], bias = self.scales[name].on_raw(scaled[at : at + width], bias)
            at += width
        return kernel, bias

    def _by_products(self, names: Sequence[str], strength: float) -> tuple[Floats, Floats, Fits]:
        gram, length = self._gram(names)
        slack = strength * length / self.weights
        dual = inverse(gram, slack) @ self.targets
        kernel = np.concatenate([self._scaled(name).T @ dual for name in names])
        fit = self.targets - slack[:, None] * dual
        offset = np.average(fit - gram @ dual, axis=0, weights=self.weights)
        heavy = self.weights[:, None] * self.targets
        fits = Fits(heavy.T @ fit, self.weights @ fit, self.counts, float(self.weights.sum()))
        return kernel, offset, fits

    def _by_sums(self, names: Sequence[str], strength: float) -> tuple[Floats, Floats, Fits]:
        key = tuple(names)
        if key not in self._sums:
            self._sums[key] = self._summed(names)
        return fitted(self._sums[key], strength)

    def _summed(self, names: Sequence[str]) -> Sums:
        """The sums of the rows, which stream: only these sums stay in memory."""
        total = None
        for first in range(0, len(self.features), STREAMED):
            part = slice(first, first + STREAMED)
            rows = np.concatenate([self._scaled(name, part) for name in names], axis=1)
            sums = Sums.of(rows, self.targets[part], self.weights[part])
            total = sums if total is None else total + sums
        assert total is not None
        return total

    def _gram(self, names: Sequence[str]) -> tuple[Floats, float]:
        """(N, N) products of the rows, and their mean squared length."""
        for name in names:
            if name not in self._products:
                rows = self._scaled(name).astype(np.float32)  # most of the time of a choice
                self._products[name] = rows @ rows.T
        gram = np.zeros((len(self.features),) * 2)
        for name in names:
            gram += self._products[name]
        return gram, float(np.average(np.diag(gram), weights=self.weights)) or 1.0

    def _scaled(self, name: str, rows: slice = slice(None)) -> Floats:
        return self.scales[name](self.features[rows, self.parts[name]])


def fitted(sums: Sums, strength: float) -> tuple[Floats, Floats, Fits]:
    """Kernel and bias of ridge on scaled rows of these sums, and what its fits add up to.

    Args:
        sums: Of the rows.
        strength: Of the ridge, as a share of the mean squared length of a row.
    """
    kernel, offset = sums.solve(strength * float(np.trace(sums.xx)) / sums.weight)
    cross = sums.xy.T @ kernel + np.outer(sums.y, offset)
    whole = sums.x @ kernel + sums.weight * offset
    return kernel, offset, Fits(cross, whole, sums.y, sums.weight)
