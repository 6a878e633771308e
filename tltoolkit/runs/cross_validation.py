"""Train and score on every fold: the honest figure of a small data set."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tltoolkit._checks import Table, arguments
from tltoolkit.artifacts.evaluating import evaluate
from tltoolkit.data import ImageData
from tltoolkit.data.dealing import units
from tltoolkit.data.folds import set_aside
from tltoolkit.data.images import check_image_data
from tltoolkit.data.terms import KFOLD
from tltoolkit.evaluation import Report
from tltoolkit.model.builders import fresh
from tltoolkit.runs.fine_tune import fine_tune
from tltoolkit.runs.terms import BARE, PREPARED

CROSS_VALIDATE: Table = {
    "n_splits": KFOLD["n_splits"],
    "seed": PREPARED["seed"],
    "run_dir": PREPARED["run_dir"],
}
# Share of each fold's training images that picks the best epoch.
HELD = 0.2
# What a reader looks for first; all else is in `reports`.
SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "log_loss")


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """The outcome of `cross_validate`. Prints as a table.

    Attributes:
        reports: One report per fold, on images that its training did not see.
    """

    reports: tuple[Report, ...]

    def mean(self, name: str) -> float:
        """Mean over the folds of a scalar of the report, such as `"f1_macro"`."""
        return statistics.mean(self._values(name))

    def deviation(self, name: str) -> float:
        """Standard deviation over the folds of a scalar of the report."""
        return statistics.stdev(self._values(name))

    @property
    def pooled(self) -> Report:
        """One report over all images, each predicted by the model that did not train on it."""
        return Report.pooled(self.reports)

    def __str__(self) -> str:
        lines = [f"{len(self.reports)} folds{'mean':>20}{'deviation':>12}"]
        lines += [f"{name:20}{self.mean(name):11.4f}{self.deviation(name):12.4f}" for name in SHOWN]
        return "\n".join(lines)

    def _values(self, name: str) -> list[float]:
        return [float(getattr(report, name)) for report in self.reports]


def cross_validate(
    build: Callable[[], Any],
    data: ImageData,
    n_splits: int = 5,
    *,
    seed: int = 0,
    run_dir: str | Path | None = None,
    **options: Any,
) -> CrossValidation:
    """Train a new model for every fold and score it on the images left out.

    The folds are made of the training and validation images together; a test split is not
    touched. No image that scores a fold has a copy, or another one of its group, in its
    training, and none picks its best epoch: a fifth of the other images does that, with one of
    each class that has two or more as far as a fifth goes.

    Args:
        build: Makes a new, untrained model, such as
            `lambda: tl.build_classifier("resnet50", data.class_names)`.
        data: The images.
        n_splits: Number of folds, >= 2.
        seed: Seed of the folds and of each training.
        run_dir: A new directory that receives one run directory per fold, or None.
        **options: Further arguments of `fine_tune`, such as `plan`.

    Raises:
        ValueError: A class with fewer different images than folds; what `fine_tune` raises.
    """
    arguments(CROSS_VALIDATE, locals())
    check_image_data(data)
    # A model that another fold has trained knows the images that score this one.
    build = fresh(build)
    how, reports = {**(BARE if run_dir is None else {}), **options}, []
    for number, fold in enumerate(data.check().kfold(n_splits, seed), 1):
        assert fold.val is not None
        # The images that score are taken out, since a validation split picks the best epoch.
        inner = with_held(replace(fold, val=None, test=None), seed)
        directory = None if run_dir is None else Path(run_dir) / f"fold_{number}"
        run = fine_tune(build(), inner, seed=seed, run_dir=directory, **how)
        meaning = options.get("from_logits", "auto")
        reports.append(evaluate(run.model, fold.val, from_logits=meaning))
    return CrossValidation(reports=tuple(reports))


def with_held(data: ImageData, seed: int) -> ImageData:
    """The data with a fifth of its training images as validation split, copies together.

    None is held out of so few images that a fifth is not one.
    """
    train = data.train
    together = units(train.source, train.indices, train.groups)
    held = set_aside(train.labels, together, HELD, seed)
    val = train.subset(held) if held.any() else None
    return replace(data, train=train.subset(~held), val=val)
