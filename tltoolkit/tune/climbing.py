"""climb: the smallest network of a family, then the next larger while that pays."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tltoolkit import _checks, backbones
from tltoolkit.artifacts.evaluating import evaluate
from tltoolkit.data import ImageData
from tltoolkit.data.images import check_image_data
from tltoolkit.evaluation import Report
from tltoolkit.evaluation.compare import Comparison, compare
from tltoolkit.model.classifier import build_classifier
from tltoolkit.plans.ready import WIDENED
from tltoolkit.plans.stages import Plan
from tltoolkit.runs.fine_tune import fine_tune
from tltoolkit.runs.record import Run
from tltoolkit.tune.bench import Weights, weights_of
from tltoolkit.tune.searching import check_weights, search
from tltoolkit.tune.terms import CLIMB

# By it `fine_tune` picks the best epoch, too.
METRIC = "f1_macro"
# One of so many parts of the training images validates where the plan learns from all it is given.
FOLDS = 5
# The middle 68.3 % of bootstrap draws reach one standard error to either side.
ONE_ERROR = 0.6827


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One network of a climb.

    Attributes:
        backbone: Its name.
        accuracy, f1_macro: On the validation split.
        seconds: Tuning and training.
        parameters: Weights of the whole classifier.
        gain: Its macro F1 against that of the best network before, on the same images; None for
            the first.
    """

    backbone: str
    accuracy: float
    f1_macro: float
    seconds: float
    parameters: int
    gain: Comparison | None

    @property
    def pays(self) -> bool:
        """Whether it is the first, or gained more than one standard error."""
        return self.gain is None or self.gain.low > 0


@dataclass(frozen=True, kw_only=True)
class Climb:
    """The outcome of `climb`. Prints as a table with its reason.

    Attributes:
        rungs: The networks that were trained, small to large.
        run: The run of the best of them.
        why: One sentence on where it ended.
    """

    rungs: tuple[Rung, ...]
    run: Run
    why: str

    @property
    def best(self) -> Rung:
        """The largest network that paid."""
        return next(rung for rung in self.rungs[::-1] if rung.pays)

    def __str__(self) -> str:
        return f"{table(self.rungs)}\n{self.why}"


def table(rungs: Iterable[Rung]) -> str:
    """Networks that were trained, a line for each."""
    lines = [f"{'backbone':20}{'accuracy':>9}{'macro F1':>10}{'seconds':>9}{'parameters':>12}"]
    lines += [
        f"{r.backbone:20}{r.accuracy:9.4f}{r.f1_macro:10.4f}{r.seconds:9.1f}"
        f"{r.parameters / 1e6:10.1f} M"
        for r in rungs
    ]
    return "\n".join(lines)


def climb(
    data: ImageData,
    family: str = "resnet",
    *,
    plan: str | Plan = "auto",
    space: Mapping[str, Any] | None = None,
    trials: int = 12,
    weights: Weights = "imagenet",
    image_size: int | None = None,
    fit: str | None = None,
    normalise: Any = None,
    seed: int = 0,
    **options: Any,
) -> Climb:
    """Train a family of backbones from the smallest on, as long as the next larger pays.

    It pays if its macro F1 on validation is better by more than the uncertainty of the
    difference: one standard error by a bootstrap over the images, which both networks share.

    Args:
        data: Images with a validation split, which judges; a test split is not touched.
        family: A family of `tl.backbones`: `"resnet"`, `"resnetv2"`, `"densenet"`, `"vgg"`, ...
        plan: What `fine_tune` does with each network. The default tunes itself to it, by a fifth
            of the training images: solved heads learn from validation images as well.
        space: If given, each network is tuned by a random `search` of this space, and then
            trained by the best plan found.
        trials: Trials of each search.
        weights: As in `build_classifier`, or a mapping from the name of each backbone to it.
        image_size: Side of the square input in pixels; None takes each backbone's own.
        fit: How images become square, as in `build_classifier`.
        normalise: What is done to their pixels before, as in `build_classifier`.
        seed: Seed of searches and trainings.
        **options: Further arguments of `fine_tune`, such as `augment`.

    Raises:
        ValueError: An unknown family, weights that lack one of it, data without validation
            split; what `search` and `fine_tune` raise.
    """
    _checks.arguments(CLIMB, locals())
    names = family_of(family)
    check_image_data(data)
    if data.val is None:
        raise _checks.fail("data", "an ImageData with a validation split", data)
    check_weights(weights, names)
    # A search finds the plan; one that was given would be ignored.
    if space is not None and plan != "auto":
        raise _checks.fail("plan", "left out where a space is searched", plan)
    if space is not None and "backbone" in space:
        raise _checks.fail("space", "one without a backbone, which the family gives", dict(space))
    rungs: list[Rung] = []
    best: tuple[Run, Report] | None = None
    learned = _without_judges(data, plan)
    for name in names:
        started = time.perf_counter()
        built: dict[str, Any] = {
            "backbone": name,
            "class_names": data.class_names,
            "weights": weights_of(weights, name),
            "image_size": image_size,
            "fit": fit,
            "normalise": normalise,
            "multi_label": data.multi_label,
        }
        if space is None:
            run = fine_tune(build_classifier(**built), learned, plan, seed=seed, **options)
        else:
            run = _tuned(data, space, trials, built, seed, options)
        seconds = time.perf_counter() - started
        # On the same rows for all, which a paired comparison takes.
        report = evaluate(run.model, data.val)
        rungs.append(rung_of(name, run, report, seconds, best and best[1], seed))
        if not rungs[-1].pays:
            break
        # Only one that pays: it is what comes back in the end.
        best = run, report
    assert best is not None
    return Climb(rungs=tuple(rungs), run=best[0], why=_why(rungs, family))


def rung_of(
    name: str, run: Run, report: Report, seconds: float, best: Report | None, seed: int
) -> Rung:
    """What a network brought, against the best before it."""
    return Rung(
        backbone=name,
        accuracy=float(report.accuracy),
        f1_macro=float(report.f1_macro),
        seconds=seconds,
        parameters=run.model.count_params(),
        gain=None if best is None else compare(best, report, METRIC, level=ONE_ERROR, seed=seed),
    )


def family_of(family: str) -> list[str]:
    """Names of the backbones of a family, small to large."""
    rows = [backbones.get(name) for name in backbones.names()]
    _checks.one_of("family", family, dict.fromkeys(row.family for row in rows))
    members = [row for row in rows if row.family == family]
    larger = {row.next for row in members}
    # It begins with the one that nobody calls the next.
    chain = [next(row for row in members if row.name not in larger)]
    while chain[-1].next is not None:
        chain.append(backbones.get(chain[-1].next))
    return [row.name for row in chain]


def _without_judges(data: ImageData, plan: str | Plan) -> ImageData:
    """The data to train on: without the images that judge, where the plan would learn from them."""
    if plan not in WIDENED:
        return data
    alone = replace(data, val=None, test=None)
    few = alone.train.class_counts.min() < FOLDS
    return alone if few or plan == "solve" else replace(next(alone.kfold(FOLDS)), test=None)


def _tuned(
    data: ImageData,
    space: Mapping[str, Any],
    trials: int,
    built: Mapping[str, Any],
    seed: int,
    options: Mapping[str, Any],
) -> Run:
    """The run of the best settings of a search with one backbone."""
    names = ("backbone", "image_size", "fit", "normalise")
    fixed = {name: built[name] for name in names if built[name] is not None}
    found = search(data, {**space, **fixed}, trials=trials, weights=built["weights"], seed=seed)
    # Options of the caller last: what is said explicitly counts.
    tuned = {"batch_size": found.batch_size, "seed": seed, **options}
    return fine_tune(build_classifier(**found.build_options), data, found.plan, **tuned)


def _why(rungs: list[Rung], family: str) -> str:
    last = rungs[-1]
    if last.pays:
        return f"{last.backbone} is the best, and the largest of the family {family!r}."
    assert last.gain is not None
    return (
        f"{rungs[-2].backbone} is the best: {last.backbone} changed macro F1 by "
        f"{last.gain.difference:+.3f}, which is not more than its uncertainty "
        f"({last.gain.low:+.3f} to {last.gain.high:+.3f}, one standard error to either side)."
    )
