"""All that a head in closed form was solved on, as sums: further rows add to them.

The head that comes of the sums of all rows is the one that solving on all rows at once gives, with
the same features, strengths and kinds; the scale of the features is found anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit.solving import arrays as named
from tltoolkit.solving import heads
from tltoolkit.solving.discriminant import RIDGE, Kind, as_logits
from tltoolkit.solving.heads import Candidates, Chosen
from tltoolkit.solving.ridge import Sums
from tltoolkit.solving.rows import Parts, fitted
from tltoolkit.solving.scaling import STREAMED, Floats, scale_by, stripes

# In the place of the pull of an LDA, which is 0 or more, where all are numbers.
NO_PULL = -1.0
KEPT = 32 * 2**20  # bytes of sums that are kept unasked: about what a small network itself takes


@dataclass(frozen=True)
class Read:
    """One head of an average.

    Attributes:
        parts: Places, in `Statistics.parts`, of what it reads.
        strength: Of its ridge.
        kind: `RIDGE`, or the pull of an LDA.
        share: What its logits are multiplied by.
    """

    parts: tuple[int, ...]
    strength: float
    kind: Kind
    share: float


@dataclass(frozen=True, eq=False)
class Statistics:
    """Which heads are solved, and the sums of all their rows.

    Attributes:
        heads: Those that are averaged.
        parts: (first, end) columns of the features that are scaled together, as far as they are
            read, from left to right.
        weight: Rows, N.
        shift: (U,) what the columns that are read have less before they are summed: near their
            means, so that squares keep their digits.
        x: (U,) sum of the rows.
        y: (C,) sum of the targets.
        triangle: (U (U + 1) / 2,) the lower triangle of the sum of the rows' products, row by row.
        xy: (U, C) sum of the products of rows and targets.
    """

    heads: tuple[Read, ...]
    parts: tuple[tuple[int, int], ...]
    weight: float
    shift: Floats
    x: Floats
    y: Floats
    triangle: Floats
    xy: Floats

    @classmethod
    def of(
        cls,
        rows: npt.NDArray[np.floating],
        targets: npt.NDArray[np.floating],
        parts: Parts,
        candidates: Candidates,
        chosen: Sequence[Chosen],
    ) -> "Statistics":
        """Those of rows (N, F) with targets (N, C), each of the weight 1; names as in `Rows`."""
        names = names_read(parts, candidates, chosen)
        places = {name: i for i, name in enumerate(names)}
        read = tuple(
            Read(
                tuple(sorted(places[name] for name in candidates[one.candidate])),
                one.strength,
                one.kind,
                one.share,
            )
            for one in chosen
        )
        bounds = tuple((parts[name].start, parts[name].stop) for name in names)
        columns = _columns(bounds)
        count, classes = len(columns), targets.shape[1]
        empty = cls(
            heads=read,
            parts=bounds,
            weight=0.0,
            shift=np.asarray(rows[:STREAMED, columns].mean(0, dtype=np.float64)),
            x=np.zeros(count),
            y=np.zeros(classes),
            triangle=np.zeros(count * (count + 1) // 2),
            xy=np.zeros((count, classes)),
        )
        return empty.with_rows(rows, targets)

    def with_rows(
        self, rows: npt.NDArray[np.floating], targets: npt.NDArray[np.floating]
    ) -> "Statistics":
        """The same with further rows (N, F) and their targets (N, C)."""
        columns, total = _columns(self.parts), None
        for part, target in zip(stripes(rows), stripes(targets), strict=True):
            shifted = part[:, columns].astype(np.float64) - self.shift
            sums = Sums.of(shifted, target.astype(np.float64))
            total = sums if total is None else total + sums
        if total is None:
            return self
        return replace(
            self,
            weight=self.weight + total.weight,
            x=self.x + total.x,
            y=self.y + total.y,
            triangle=self.triangle + _packed(total.xx),
            xy=self.xy + total.xy,
        )

    def with_class(self) -> "Statistics":
        """The same with one more class, which no row so far has."""
        return replace(self, y=np.append(self.y, 0.0), xy=np.pad(self.xy, ((0, 0), (0, 1))))

    def solve(self, width: int, multi_label: bool) -> tuple[Floats, Floats]:
        """Kernel (F, C) and bias (C,) on raw features of `width` F."""
        from threadpoolctl import threadpool_limits

        centre = self.x / self.weight
        within = _unpacked(self.triangle, len(self.x))
        within -= np.outer(self.x, centre)
        cross = self.xy - np.outer(centre, self.y)
        std = np.sqrt(np.maximum(np.diag(within), 0) / self.weight)
        # One thread, as in `heads.choose`.
        with threadpool_limits(limits=1, user_api="blas"):
            solved = [
                self._head(one, (centre, std, within, cross), width, multi_label)
                for one in self.heads
            ]
        return heads.added(solved, [one.share for one in self.heads], self.y, multi_label)

    def _head(
        self, one: Read, about: tuple[Floats, Floats, Floats, Floats], width: int, several: bool
    ) -> tuple[Floats, Floats]:
        centre, std, within, cross = about
        own = [_columns([self.parts[i]]) for i in range(len(self.parts))]
        ends = np.cumsum([0, *map(len, own)])
        mine = np.concatenate([np.arange(ends[i], ends[i + 1]) for i in one.parts])
        scales = [
            scale_by((self.shift + centre)[ends[i] : ends[i + 1]], std[ends[i] : ends[i + 1]])
            for i in one.parts
        ]
        factor = np.concatenate([scale.factor for scale in scales])
        xx = within[np.ix_(mine, mine)]
        xx *= factor[:, None]
        xx *= factor
        sums = Sums(self.weight, np.zeros(len(mine)), self.y, xx, factor[:, None] * cross[mine])
        scaled, offset, fits = fitted(sums, one.strength)
        turned, bias = as_logits(fits, one.kind, several)
        scaled, bias = scaled @ turned, offset @ turned + bias
        kernel, at = np.zeros((width, len(bias))), 0
        for i, scale in zip(one.parts, scales, strict=True):
            kernel[own[i]], bias = scale.on_raw(scaled[at : at + len(own[i])], bias)
            at += len(own[i])
        return kernel, bias

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Name -> array of all that it is."""
        reads = np.zeros((len(self.heads), len(self.parts)), np.uint8)
        for row, one in zip(reads, self.heads, strict=True):
            row[list(one.parts)] = 1
        kinds = [NO_PULL if one.kind == RIDGE else float(one.kind) for one in self.heads]
        sums = {name: getattr(self, name) for name in ("shift", "x", "y", "triangle", "xy")}
        return {
            "reads": reads,
            "strengths": np.array([one.strength for one in self.heads]),
            "kinds": np.array(kinds),
            "shares": np.array([one.share for one in self.heads]),
            "parts": np.array(self.parts, np.int64),
            "weight": np.array([self.weight]),
            **sums,
        }

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, npt.NDArray[Any]], width: int, classes: int
    ) -> "Statistics":
        """The inverse of `arrays`, of a head of `width` features and so many classes.

        Raises:
            ValueError: Arrays of other names or shapes, or numbers that cannot be.
        """
        given = dict(arrays)
        _check(given, width, classes)
        rows = zip(
            *(given[name] for name in ("reads", "strengths", "kinds", "shares")), strict=True
        )
        read = tuple(
            Read(
                tuple(np.flatnonzero(row).tolist()),
                float(strength),
                RIDGE if kind == NO_PULL else float(kind),
                float(share),
            )
            for row, strength, kind, share in rows
        )
        names = ("shift", "x", "y", "triangle", "xy")
        return cls(
            heads=read,
            parts=tuple((int(first), int(end)) for first, end in given["parts"]),
            weight=float(given["weight"][0]),
            **{name: given[name].astype(np.float64) for name in names},
        )


def names_read(parts: Parts, candidates: Candidates, chosen: Sequence[Chosen]) -> list[str]:
    """The parts that some heads read, in the order of `parts`."""
    wanted = {name for one in chosen for name in candidates[one.candidate]}
    return [name for name in parts if name in wanted]


def size(parts: Parts, names: Sequence[str]) -> int:
    """Bytes that the sums of some parts take, those of the targets aside."""
    count = sum(parts[name].stop - parts[name].start for name in names)
    return 8 * (count * (count + 1) // 2)


def _check(given: Mapping[str, npt.NDArray[Any]], width: int, classes: int) -> None:
    count, parts = (len(given.get(name, np.zeros(0))) for name in ("strengths", "parts"))
    used = len(given.get("shift", np.zeros(0)))
    shapes = {
        "reads": (count, parts),
        "strengths": (count,),
        "kinds": (count,),
        "shares": (count,),
        "parts": (parts, 2),
        "weight": (1,),
        "shift": (used,),
        "x": (used,),
        "y": (classes,),
        "triangle": (used * (used + 1) // 2,),
        "xy": (used, classes),
    }
    named.check(given, shapes)
    bounds = given["parts"].ravel()
    rising = (np.diff(bounds) >= 0).all() and (np.diff(given["parts"], axis=1) > 0).all()
    if not rising or bounds[0] < 0 or bounds[-1] > width or len(_columns(given["parts"])) != used:
        raise ValueError(f"parts must be {used} of {width} columns, from left to right")
    kinds, above = given["kinds"], np.append(given["strengths"], given["weight"])
    if not count or not given["reads"].any(1).all():
        raise ValueError("there must be a head, and each must read something")
    if (above <= 0).any() or ((kinds < 0) & (kinds != NO_PULL)).any():
        raise ValueError("strengths and weight must be above 0, kinds not below")


def _columns(parts: Any) -> npt.NDArray[np.intp]:
    return np.concatenate([np.arange(first, end) for first, end in parts])


def _packed(square: Floats) -> Floats:
    return np.concatenate([row[: i + 1] for i, row in enumerate(square)])


def _unpacked(triangle: Floats, count: int) -> Floats:
    square, at = np.empty((count, count)), 0
    for i in range(count):
        square[i, : i + 1] = square[: i + 1, i] = triangle[at : at + i + 1]
        at += i + 1
    return square
