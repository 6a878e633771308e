"""The audit: what is wrong with the data, and what follows from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from tltoolkit import _checks
from tltoolkit.data import suspects
from tltoolkit.data.duplicates import (
    Group,
    alike,
    copies,
    crosses_classes,
    crosses_splits,
    describe,
)
from tltoolkit.data.split import Split
from tltoolkit.data.verdicts import Verdict, inspect

# Numbers of training images of a class. With the default fifth for val, 20 come with 5 to judge by,
# each 20 points of the class's recall; 100 with 25, where 80 % has a standard error of 8 points.
# Around 5,000 labelled examples per category make deep learning acceptable without more ado:
# Goodfellow, Bengio, Courville 2016, "Deep Learning", 1.2.2.
TINY, FEW, PLENTY = 20, 100, 5000
# Between two classes this uneven, one who always names the larger is right in 91 %.
UNEVEN = 10.0
# Lines of one kind: a common fault must not push the other kinds off the screen.
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with the data.

    Attributes:
        kind: "unreadable", "duplicate" (same content, same class, same split), "conflict" (same
            content, different classes), "leak" (same content in several splits), "near duplicate"
            (a group of images that look alike, or are linked by others that do), one of
            `suspects.KINDS`, "tiny class" or "imbalance".
        text: what and where, for a reader.
        where: names of the images or classes.
    """

    kind: str
    text: str
    where: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What `ImageData.audit` found; print it, or read `problems`.

    Attributes:
        class_names: the C classes.
        class_counts: (C,) images per class, for each split.
        skipped: what was passed over while looking for images: {reason: count}.
        heights, widths: smallest, median and largest in pixels, of the readable images.
        aspect_ratios: smallest, median and largest width / height.
        imbalance_ratio: images of the largest class / of the smallest, in train.
        problems: all that is wrong.
        advice: what follows for training.
    """

    class_names: tuple[str, ...]
    class_counts: dict[str, tuple[int, ...]]
    skipped: dict[str, int]
    heights: tuple[float, ...]
    widths: tuple[float, ...]
    aspect_ratios: tuple[float, ...]
    imbalance_ratio: float
    problems: tuple[Problem, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(chain(self._table(), self._summary(), self._problem_lines(), self.advice))

    def _table(self) -> Iterator[str]:
        width = max(map(len, ("images per class", *self.class_names)))
        yield f"{'images per class':<{width}}" + "".join(f"{s:>8}" for s in self.class_counts)
        for c, name in enumerate(self.class_names):
            numbers = "".join(f"{counts[c]:>8}" for counts in self.class_counts.values())
            yield f"{name:<{width}}{numbers}"

    def _summary(self) -> Iterator[str]:
        for what, values in (
            ("height", self.heights),
            ("width", self.widths),
            ("width / height", self.aspect_ratios),
        ):
            if values:
                low, middle, high = values
                yield f"{what}: {low:g} to {high:g}, median {middle:g}"
        yield f"largest class / smallest class in train: {self.imbalance_ratio:.1f}"
        if self.skipped:
            yield "skipped: " + ", ".join(f"{n} {reason}" for reason, n in self.skipped.items())

    def _problem_lines(self) -> Iterator[str]:
        yield f"problems: {len(self.problems)}"
        for kind in dict.fromkeys(problem.kind for problem in self.problems):
            same = [problem for problem in self.problems if problem.kind == kind]
            yield from (f"  {problem}" for problem in same[:_SHOWN])
            if len(same) > _SHOWN:
                yield f"  {kind}: and {len(same) - _SHOWN} more"


def audited(
    splits: dict[str, Split], skipped: Mapping[str, int], *, near_duplicates: bool
) -> Audit:
    """See `ImageData.audit`."""
    if near_duplicates:
        # Now, not after minutes of decoding.
        _need_imagehash()
    train = splits["train"]
    rows = inspect(list(splits.values()), hashes=near_duplicates)
    verdicts = dict(zip(splits, rows, strict=True))
    readable = [verdict for row in rows for verdict in row if verdict.reason is None]
    counts = train.class_counts
    ratio = float(counts.max() / counts.min())
    problems = [*_unreadable(splits, verdicts), *_copied(splits, verdicts)]
    if near_duplicates:
        problems += [_of_images("near duplicate", group, splits) for group in alike(verdicts)]
    problems += _suspected(splits, verdicts)
    return Audit(
        class_names=train.class_names,
        class_counts={name: tuple(split.class_counts.tolist()) for name, split in splits.items()},
        skipped=dict(skipped),
        heights=_spread([verdict.height for verdict in readable]),
        widths=_spread([verdict.width for verdict in readable]),
        aspect_ratios=_spread([verdict.width / verdict.height for verdict in readable]),
        imbalance_ratio=ratio,
        problems=(*problems, *_of_classes(train, ratio)),
        advice=_advice(int(counts.min()), ratio),
    )


def _unreadable(splits: dict[str, Split], verdicts: dict[str, list[Verdict]]) -> Iterator[Problem]:
    for name, row in verdicts.items():
        for i, verdict in enumerate(row):
            if verdict.reason is not None:
                image = splits[name].name(i)
                yield Problem(kind="unreadable", text=f"{image}: {verdict.reason}", where=(image,))


def _copied(splits: dict[str, Split], verdicts: dict[str, list[Verdict]]) -> Iterator[Problem]:
    for group in copies(verdicts):
        leak, conflict = crosses_splits(group), crosses_classes(group, splits)
        # Both can be true of one group, and each asks for another remedy.
        if leak:
            yield _of_images("leak", group, splits)
        if conflict:
            yield _of_images("conflict", group, splits)
        if not leak and not conflict:
            yield _of_images("duplicate", group, splits)


def _suspected(splits: dict[str, Split], verdicts: dict[str, list[Verdict]]) -> Iterator[Problem]:
    usual = suspects.Usual.of([v for row in verdicts.values() for v in row if v.reason is None])
    for name, row in verdicts.items():
        for i, verdict in enumerate(row):
            for kind, why in suspects.of(verdict, usual):
                image = splits[name].name(i)
                text = f"{image} ({name}, {splits[name].label_text(i)}): {why}"
                yield Problem(kind=kind, text=text, where=(image,))


def _of_images(kind: str, group: Group, splits: dict[str, Split]) -> Problem:
    names = tuple(splits[member.split].name(member.i) for member in group)
    return Problem(kind=kind, text=describe(group, splits), where=names)


def _of_classes(train: Split, ratio: float) -> Iterator[Problem]:
    for name, count in zip(train.class_names, train.class_counts.tolist(), strict=True):
        if count < TINY:
            text = f"{name} has {count} training images, fewer than {TINY}"
            yield Problem(kind="tiny class", text=text, where=(name,))
    if ratio > UNEVEN:
        text = f"the largest class has {ratio:.1f} times the training images of the smallest"
        yield Problem(kind="imbalance", text=text, where=())


def _advice(smallest: int, ratio: float) -> tuple[str, ...]:
    rules = (
        (smallest < FEW, "Few images per class: judge by k-fold cross-validation, not one split."),
        (smallest < PLENTY, "Far below 5,000 images per class: augment and regularise."),
        (ratio > UNEVEN, "Uneven classes: judge by macro F1, not by accuracy."),
    )
    return tuple(text for holds, text in rules if holds)


def _spread(values: list[float]) -> tuple[float, ...]:
    return tuple(np.quantile(values, (0, 0.5, 1)).tolist()) if values else ()


def _need_imagehash() -> None:
    with _checks.extra("near duplicates need imagehash", "audit"):
        import imagehash  # noqa: F401
