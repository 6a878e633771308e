"""choose_backbone: the one of those that are on this machine which a short climb prefers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tltoolkit import _checks, backbones
from tltoolkit.artifacts.evaluating import evaluate
from tltoolkit.data import ImageData
from tltoolkit.data.images import check_image_data
from tltoolkit.evaluation import Report
from tltoolkit.model.classifier import build_classifier
from tltoolkit.runs.fine_tune import fine_tune
from tltoolkit.runs.terms import BARE, seconds_of
from tltoolkit.tune import climbing
from tltoolkit.tune.bench import Weights, weights_of
from tltoolkit.tune.climbing import Rung
from tltoolkit.tune.searching import check_weights
from tltoolkit.tune.subsets import nested
from tltoolkit.tune.terms import CHOOSE_BACKBONE


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The outcome of `choose_backbone`. Prints as a table with its reason.

    Attributes:
        backbone: The name of the one that is preferred.
        rungs: Those that were tried, quick to slow.
        why: One sentence on what decided.
    """

    backbone: str
    rungs: tuple[Rung, ...]
    why: str

    def __str__(self) -> str:
        return f"{climbing.table(self.rungs)}\n{self.why}"


def choose_backbone(
    data: ImageData,
    *,
    candidates: Sequence[str] | None = None,
    budget: float | str = "2m",
    images: int = 1000,
    weights: Weights = "imagenet",
    image_size: int | None = None,
    fit: str | None = None,
    normalise: Any = None,
    seed: int = 0,
) -> Choice:
    """Try backbones on some of the images, from the quickest on, and name the one to train.

    Each gets a head solved on all its blocks (`plan="solve"`), which takes little more than a
    look at each image. A slower one is preferred if its macro F1 on validation images is better
    by more than one standard error of the difference, by a bootstrap over the images.

    Args:
        data: Images with a validation split, which judges; a test split is not touched.
        candidates: Names of backbones; None takes those whose weights are on this machine.
        budget: Time: seconds, or a text such as `"90s"`, `"5m"` or `"1h"`. The quickest is tried
            in any case; then each that fits what is left, by the time of the one before and the
            multiply-adds of both.
        images: At most so many of the training images are learned from, and of the validation
            images looked at; each class has its share.
        weights: As in `climb`.
        image_size: Side of the square input in pixels; None takes each backbone's own.
        fit: How images become square, as in `build_classifier`.
        normalise: What is done to their pixels before, as in `build_classifier`.
        seed: Which images are taken.

    Raises:
        ValueError: An argument out of range, an unknown backbone, weights that are missing, data
            without a validation split, fewer images than classes.
    """
    _checks.arguments(CHOOSE_BACKBONE, locals())
    names = _quick_first(candidates)
    check_image_data(data)
    if data.val is None:
        raise _checks.fail("data", "an ImageData with a validation split", data)
    if images < len(data.class_names):
        raise _checks.fail("images", f"at least the {len(data.class_names)} classes", images)
    check_weights(weights, names)
    left = seconds_of(budget, "auto") or 0.0
    small = _some(data, images, seed)
    assert small.val is not None
    rungs: list[Rung] = []
    best: Report | None = None
    for name in names:
        if rungs and _forecast(rungs[-1], name, image_size) > left:
            break
        started = time.perf_counter()
        model = build_classifier(
            name,
            data.class_names,
            weights=weights_of(weights, name),
            image_size=image_size,
            fit=fit,
            normalise=normalise,
            multi_label=data.multi_label,
        )
        # Without the validation images, on which a solved head would be solved, too.
        learned = replace(small, val=None)
        run = fine_tune(model, learned, "solve", seed=seed, verbose=0, **BARE)
        report = evaluate(run.model, small.val)
        seconds = time.perf_counter() - started
        left -= seconds
        rungs.append(climbing.rung_of(name, run, report, seconds, best, seed))
        best = report if rungs[-1].pays else best
    chosen = next(rung for rung in rungs[::-1] if rung.pays).backbone
    why = _why(chosen, names, rungs, small)
    return Choice(backbone=chosen, rungs=tuple(rungs), why=why)


def _quick_first(candidates: Sequence[str] | None) -> list[str]:
    here = [name for name in backbones.names() if backbones.weights_here(name)]
    names = here if candidates is None else list(candidates)
    if isinstance(candidates, str) or not names:
        raise _checks.fail("candidates", "one or more names of backbones", candidates)
    return sorted(names, key=lambda name: backbones.get(name).multiply_adds)


def _some(data: ImageData, images: int, seed: int) -> ImageData:
    assert data.val is not None
    parts = [split.subset(nested(split, seed)[:images]) for split in (data.train, data.val)]
    return replace(data, train=parts[0], val=parts[1], test=None).check()


def _forecast(before: Rung, name: str, image_size: int | None) -> float:
    """Seconds that a backbone will take; they are nearly all its own, at each image."""
    work = []
    for one in (before.backbone, name):
        row = backbones.get(one)
        work.append(row.multiply_adds * ((image_size or row.image_size) / row.image_size) ** 2)
    return before.seconds * work[1] / work[0]


def _why(chosen: str, names: list[str], rungs: list[Rung], data: ImageData) -> str:
    assert data.val is not None
    said = (
        f"{chosen} is preferred among {len(rungs)} of {len(names)} backbones, by macro F1 on "
        f"{len(data.val)} validation images after {len(data.train)} to learn from"
    )
    if len(rungs) == len(names):
        return f"{said}."
    return f"{said}; the budget left no time for {', '.join(names[len(rungs) :])}."
