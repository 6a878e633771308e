"""learning_curve: what the score would be with fewer images, and so with more."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.data import ImageData
from tltoolkit.data.images import check_image_data
from tltoolkit.evaluation import Report
from tltoolkit.evaluation.intervals import (
    Bootstrap,
    group_sums,
    join_counts,
    row_weights,
)
from tltoolkit.model.builders import fresh
from tltoolkit.plans.stages import Plan
from tltoolkit.tune import power_law
from tltoolkit.tune.heads import heads, trainings
from tltoolkit.tune.power_law import FloatArray, PowerLaw
from tltoolkit.tune.subsets import check_sizes, default_sizes, nested
from tltoolkit.tune.terms import LEARNING_CURVE

# Enough for quantiles at 95 %: five draws lie beyond either end.
DRAWS = 200
# A gain that is worth the work of collecting and labelling.
WORTH = 0.01


@dataclass(frozen=True, kw_only=True)
class Point:
    """One size of a learning curve.

    Attributes:
        size: Training images.
        score: Mean over the repeats.
        low, high: Its interval.
        scores: One score per repeat, each on other images.
    """

    size: int
    score: float
    low: float
    high: float
    scores: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a number of training images would bring.

    Attributes:
        size: Training images.
        score: The expected score.
        low, high: Its interval.
        gain: Expected score minus that of all the images there are.
        gain_low, gain_high: Its interval.
    """

    size: int
    score: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """The outcome of `learning_curve`. Prints as a table with its advice.

    Attributes:
        points: One per size, small to large.
        law: The power law fitted to their errors.
        metric: What the scores are.
        level: Share of the bootstrap draws inside each interval.
        images: Training images that there are.
        spread: Standard deviation of the score between trainings on different images, as the
            largest sizes below all show it.
        laws: The law fitted to each bootstrap draw, behind the intervals.
    """

    points: tuple[Point, ...]
    law: PowerLaw
    metric: str
    level: float
    images: int
    spread: float
    laws: tuple[PowerLaw, ...] = field(repr=False)

    @property
    def doubled(self) -> Forecast:
        """The forecast for twice the images that there are."""
        return self.forecast(2 * self.images)

    def forecast(self, size: int) -> Forecast:
        """What one training on `size` images would bring; the farther, the less sure it is."""
        _checks.integer("size", size, 1)
        scores = np.array([law.score(size) for law in self.laws])
        # Within each draw, as the errors of both ends go together.
        gains = scores - [law.score(self.images) for law in self.laws]
        expected = float(self.law.score(size))
        # Of the law and not of the measured point, whose luck would be taken for a trend.
        gain = expected - float(self.law.score(self.images))
        # Seeded by the size, so that the same question has the same answer.
        chance = np.random.default_rng(size).normal(0, self.spread, len(scores))
        low, high = _interval((scores + chance).clip(0, 1), self.level, expected)
        # Without the chance of one training, which no further images take away.
        gain_low, gain_high = _interval(gains, self.level, gain)
        return Forecast(
            size=size,
            score=expected,
            low=low,
            high=high,
            gain=gain,
            gain_low=gain_low,
            gain_high=gain_high,
        )

    @property
    def advice(self) -> str:
        """One sentence on whether more images are worth it."""
        then = self.doubled
        brought = (
            f"twice the images ({then.size:,}) would bring {self.metric} to about "
            f"{then.score:.3f} ({self.level:.0%} interval {then.low:.3f} to {then.high:.3f})"
        )
        if then.gain_low >= WORTH:
            return f"More images are worth it: {brought}."
        if then.gain_high < WORTH:
            return f"More images would hardly help: {brought}; a better network or plan may."
        return f"More images may help: {brought}, a gain of {then.gain:+.3f} that is not sure."

    def plot(self) -> Any:
        """Scores on a log scale of sizes, the law and the forecast, with matplotlib."""
        from tltoolkit.tune.plots import curve_figure

        return curve_figure(self.points, self.law, self.doubled, self.metric)

    def __str__(self) -> str:
        lines = [f"{'images':>8}{self.metric:>12}   {self.level:.0%} interval"]
        lines += [
            f"{p.size:>8,}{p.score:>12.4f}   {p.low:.4f} to {p.high:.4f}" for p in self.points
        ]
        return "\n".join([*lines, str(self.law), self.advice])


def learning_curve(
    build: Callable[[], Any],
    data: ImageData,
    sizes: Sequence[int] | None = None,
    repeats: int = 3,
    *,
    plan: str | Plan | None = None,
    on: str = "val",
    metric: str = "f1_macro",
    level: float = 0.95,
    seed: int = 0,
    from_logits: bool | str = "auto",
    **options: Any,
) -> LearningCurve:
    """Train on ever more of the training images, and say what still more would bring.

    Without a plan only the head is trained: solved to its optimum on features that are computed
    once, so that the whole curve costs about one pass over the images. A repeat takes other
    images; within a repeat every size holds the images of the smaller ones, and every class has
    its share. Intervals come from drawing repeats and scored images anew (bootstrap).

    Args:
        build: Makes a new, untrained model, such as
            `lambda: tl.build_classifier("resnet50", data.class_names)`.
        data: Images with a validation split, which picks the strength of the head's penalty or
            the best epoch.
        sizes: At least 3 different numbers of training images, none below the number of
            classes; None takes 6, evenly spaced on a log scale up to all.
        repeats: Trainings per size, >= 2.
        plan: What `fine_tune` does for each size and repeat; None trains the head alone.
        on: The split that scores: `"val"`, or `"test"` for figures that nothing was picked by.
        metric: `"f1_macro"` or `"accuracy"`.
        level: Share of the draws inside each interval, in (0, 1).
        seed: Seed of the subsets, of the draws and of training.
        from_logits: As in `tl.fine_tune`.
        **options: Further arguments of `fine_tune`, with a plan.

    Raises:
        ValueError: An argument out of range, a size larger than the data; a model whose head is
            not one dense layer, without a plan. All before any training.
    """
    _checks.arguments(LEARNING_CURVE, locals())
    # Before anything is spent: a model that comes trained makes any curve flat.
    build = fresh(build)
    check_image_data(data)
    for name in ("val", on):
        if name not in data.splits:
            raise _checks.fail("data", f"an ImageData with a {name} split", data)
    if plan is None and options:
        raise _checks.fail("options", "given with a plan alone", sorted(options))
    if sizes is not None:
        # Twice: bad images may be left out by the check, and with them some of the size.
        check_sizes(sizes, data.train)
    data = data.check()
    chosen = check_sizes(default_sizes(data.train) if sizes is None else sizes, data.train)
    orders = [nested(data.train, seed + repeat) for repeat in range(repeats)]
    if plan:
        train = trainings(build, data, plan, on, {**options, "from_logits": from_logits})
    else:
        train = heads(build(), data, on, from_logits)
    reports = []
    for size in chosen:
        # All images are the same in every repeat, and so is the head that is solved on them.
        different = orders[:1] if plan is None and size == len(data.train) else orders
        trained = [train(order[:size], seed + r) for r, order in enumerate(different)]
        reports.append(trained * (repeats // len(trained)))
    return summarise(chosen, reports, len(data.train), metric=metric, level=level, seed=seed)


def summarise(
    sizes: Sequence[int],
    reports: Sequence[Sequence[Report]],
    images: int,
    *,
    metric: str = "f1_macro",
    level: float = 0.95,
    seed: int = 0,
) -> LearningCurve:
    """The learning curve of reports, (sizes, repeats), all on the same rows."""
    repeats = len(reports[0])
    flat = [report for row in reports for report in row]
    # The same draws of rows for all: their luck cancels between sizes.
    drawn = _drawn(flat, metric, seed).reshape(len(sizes), repeats, -1)
    scores = np.array([[float(getattr(report, metric)) for report in row] for row in reports])
    rng = np.random.default_rng(seed)
    means = _resampled(drawn, rng)
    alike = np.ptp(scores, axis=1) == 0
    # Of the largest two, as small sizes scatter more.
    variances = scores[~alike].var(axis=1, ddof=1)[-2:]
    spread = float(np.sqrt(variances.mean())) if len(variances) else 0.0
    # There is but one set of all images, which may be a lucky one too.
    means[alike] += rng.normal(0, spread, (int(alike.sum()), means.shape[1]))
    # Equal draws have a deviation of 0, by which the fit would divide.
    deviations = np.maximum(means.std(axis=1), 1e-3)
    x = np.asarray(sizes, float)
    points = []
    for size, row, draws in zip(sizes, scores, means, strict=True):
        low, high = _interval(draws, level, row.mean())
        mean = float(row.mean())
        points.append(Point(size=size, score=mean, low=low, high=high, scores=tuple(row.tolist())))
    return LearningCurve(
        points=tuple(points),
        law=power_law.fit(x, 1 - scores.mean(axis=1), deviations),
        metric=metric,
        level=level,
        images=images,
        spread=spread,
        laws=tuple(power_law.fit(x, 1 - errors, deviations) for errors in means.T),
    )


def _drawn(reports: Sequence[Report], metric: str, seed: int) -> FloatArray:
    """(reports, draws) scores on test sets drawn from their common rows, the same for all."""
    first = reports[0]
    if first.multi_label:
        # Equal seeds draw equal rows.
        return np.stack(
            [Bootstrap(report=r, draws=DRAWS, seed=seed).values(metric) for r in reports]
        )
    rows, classes = len(first.labels), len(first.class_names)

    def scores(weights: Any) -> Iterable[FloatArray]:
        for report in reports:
            # From counts: drawing rows for each report and draw would copy them each time.
            sums = group_sums(weights, first.labels, report.rows.predicted, classes)
            yield getattr(join_counts([sums], rows), metric)

    # In blocks, as the weights of all draws may not fit the memory.
    blocks = row_weights(rows, DRAWS, seed)
    return np.concatenate([np.stack([*scores(w.T.astype(np.int64))]) for w in blocks], axis=1)


def _resampled(drawn: FloatArray, rng: np.random.Generator) -> FloatArray:
    """(sizes, draws) means over repeats drawn anew, from scores (sizes, repeats, draws).

    Means of R values drawn from R vary too little by a factor of (R - 1) / R in their variance.
    """
    repeats = drawn.shape[1]
    means = drawn.mean(axis=1)
    picked = np.take_along_axis(drawn, rng.integers(0, repeats, drawn.shape), axis=1).mean(axis=1)
    return np.asarray(means + (picked - means) * np.sqrt(repeats / (repeats - 1)))


def _interval(draws: FloatArray, level: float, value: float) -> tuple[float, float]:
    """The middle `level` of the draws, widened to the value itself where it lies outside."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return min(float(low), float(value)), max(float(high), float(value))
