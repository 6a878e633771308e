"""search: try many settings, keep what validation likes best."""

import importlib
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tltoolkit import _checks, backbones
from tltoolkit.data import ImageData
from tltoolkit.data.images import check_image_data
from tltoolkit.plans.stages import Plan
from tltoolkit.training.features import Storage
from tltoolkit.tune import space as spaces
from tltoolkit.tune.bench import Bench, Weights, weights_of
from tltoolkit.tune.terms import GRID, SEARCH


@dataclass(frozen=True, kw_only=True)
class Search:
    """The outcome of a search. Prints its best trials.

    Attributes:
        settings: Those of the best trial, as the space names them.
        score: Its validation macro F1. The best of many trials is a little too good to be
            true; the test split tells.
        plan: The plan of the best trial, for `fine_tune`.
        build_options: Its classifier, as arguments of `build_classifier`.
        batch_size: Its images per step.
        trials: A pandas table with one row per trial: `trial`, `score` (of its best epoch),
            `state` (`"complete"`, `"pruned"` or `"diverged"`), `seconds`, and its settings.
        study: The `optuna.Study` behind it.
    """

    settings: Mapping[str, Any]
    score: float
    plan: Plan
    build_options: Mapping[str, Any]
    batch_size: int
    trials: Any
    study: Any

    def __str__(self) -> str:
        states = ", ".join(
            f"{n} {state}" for state, n in self.trials["state"].value_counts().items()
        )
        best = self.trials.sort_values("score", ascending=False, kind="stable").head(5)
        return f"{len(self.trials)} trials: {states}\n{best.to_string(index=False)}"

    @cached_property
    def importance(self) -> dict[str, float]:
        """Setting -> its share of the variation of the scores, largest first (fANOVA).

        Empty where there is too little to tell: fewer than two complete trials, or equal scores.
        """
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        complete = self.trials["score"][self.trials["state"] == "complete"]
        if complete.nunique() < 2:
            return {}
        # A forest of random trees: with a seed two looks agree.
        evaluator = FanovaImportanceEvaluator(seed=0)
        found = get_param_importances(self.study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def plot(self) -> Any:
        """Scores in the order of the trials and the importance of settings, with matplotlib."""
        from tltoolkit.tune.plots import search_figure

        return search_figure(self.trials, self.importance)


def search(
    data: ImageData,
    space: Mapping[str, Any],
    *,
    trials: int | None = None,
    sampler: str = "random",
    storage: str | Path | None = None,
    name: str = "search",
    seed: int = 0,
    prune: bool = True,
    weights: Weights = "imagenet",
    cache_gb: float = 2.0,
    verbose: bool = True,
) -> Search:
    """Train classifiers with settings drawn from a space and keep the best.

    A trial trains the head alone, or first the head and then the layers that `unfreeze` names.
    What heads read is computed once for each backbone, image size and pooling, so that trials
    of heads cost seconds. A trial with an optimizer of `"lbfgs"` solves its head.

        tl.tune.search(data, {"learning_rate": (1e-4, 1e-1, "log"), "optimizer": ["adamw", "sgd"],
                              "dropout": (0.0, 0.5), "epochs": 15}, trials=50)

    Args:
        data: Images with a validation split, which judges; a test split is not touched.
        space: Setting -> a list of values, a range `(low, high)` or `(low, high, "log")` (of
            integers, if both ends are), or one fixed value. Settings are the arguments of
            `Stage`, of `Head`, and `backbone`, `image_size`, `trunk`, `fit`, `normalise` and
            `batch_size`.
        trials: How many there are in the end, an interrupted search's included; None is 20, or
            the whole grid.
        sampler: `"random"`, `"tpe"` (learns from the trials before; Bergstra et al. 2011) or
            `"grid"` (every combination, in random order).
        storage: A file that keeps the trials, so that the same call goes on after an
            interruption; one process at a time. Or a database address, such as
            `"postgresql://..."`, where several processes and machines work on one study.
        name: Name of the search in its storage.
        seed: Seed of what is drawn and of each training.
        prune: Whether to cut a trial short once its validation macro F1 is below the median of
            earlier ones at the same epoch.
        weights: What backbones start with, as in `build_classifier`, or a mapping from the name
            of each backbone of the space to it.
        cache_gb: Features in memory, as in `fine_tune`; for each backbone and pooling.
        verbose: Whether to show progress.

    Raises:
        ValueError: A setting that does not exist or has a value out of its range, data without
            validation split, a storage of another search; all before any training.
        RuntimeError: No trial came to its end.
        ImportError: Optuna is missing.
    """
    # First of all, as nothing goes without.
    studies, runs = _needing_optuna("study"), _needing_optuna("trials")
    _checks.arguments(SEARCH, locals())
    check_image_data(data)
    if data.val is None:
        raise _checks.fail("data", "an ImageData with a validation split", data)
    given = spaces.read(space)
    # Before images and weights: settings are quick to look at.
    spaces.check(given, data.class_names, data.multi_label)
    check_weights(weights, given.candidates().get("backbone", [spaces.BACKBONE]))
    total = _trials(trials, sampler, given)
    data = data.check()
    # What must be the same for trials of two processes to be comparable.
    identity = {
        "space": given.to_dict(),
        "data": studies.fingerprint(data),
        "sampler": sampler,
        "seed": seed,
        "prune": prune,
        "weights": repr(weights),
    }
    if sampler == GRID:
        # Earlier versions had another order, in which this one cannot go on.
        identity["order"] = "GridSampler"
    bench = Bench(data=data, weights=weights, seed=seed, storage=Storage(memory_gb=cache_gb))
    with studies.quiet():
        study = studies.opened(storage, name, identity, prune)
        asked = studies.Asked(study, given, sampler, seed, studies.address_of(storage)[1])
        runs.run(asked, bench, total, verbose)
    # By the study, which has trials of earlier calls, too.
    settings = runs.best(asked)
    return Search(
        settings=settings,
        score=study.best_value,
        plan=bench.plan(settings),
        build_options=_build_options(bench, settings),
        batch_size=spaces.batch_size(settings),
        trials=runs.table(asked),
        study=study,
    )


def _needing_optuna(name: str) -> Any:
    """A module of this package that imports Optuna.

    Optuna 4 keeps the exceptions of its optional imports that fail, and so, for ever, the frames
    of all who called and their variables: networks and images. A thread has no callers.
    """
    with _checks.extra("searches need Optuna", "tune"), ThreadPoolExecutor(1) as pool:
        found = pool.submit(importlib.import_module, f"tltoolkit.tune.{name}").result()
    return found


def check_weights(weights: Weights, names: list[str]) -> None:
    """Raise an error for weights that lack one of these backbones, or are known to be missing."""
    if isinstance(weights, Mapping):
        # For its error alone: a misspelt name.
        for one in weights:
            backbones.get(one)
        if missing := [one for one in names if one not in weights]:
            raise _checks.fail("weights", f"a mapping that has {', '.join(missing)}", dict(weights))
    for one in names:
        backbones.check_weights(one, weights_of(weights, one))


def _trials(trials: int | None, sampler: str, space: spaces.Space) -> int:
    if sampler != GRID:
        return 20 if trials is None else trials
    # More trials than combinations would only repeat some.
    size = math.prod(map(len, space.grid().values()))
    _checks.integer("trials", size if trials is None else trials, 1, size)
    return size if trials is None else trials


def _build_options(bench: Bench, settings: Mapping[str, Any]) -> dict[str, Any]:
    built = spaces.build_settings(settings, bench.data.class_names, bench.data.multi_label)
    names = ("backbone", "class_names", "image_size", "head", "trunk", "multi_label")
    return {
        **{name: getattr(built, name) for name in names},
        "fit": built.preparation.fit,
        "normalise": built.preparation.normalise,
        "weights": weights_of(bench.weights, built.backbone),
    }
