"""refit: after early stopping, train on the validation images too."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit._checks import Instance, Integer, Number, OneOf, Table
from tltoolkit.artifacts.inference import predict_proba
from tltoolkit.augment.labels import as_targets
from tltoolkit.data import ImageData, Split
from tltoolkit.data.images import check_image_data
from tltoolkit.layers import graph
from tltoolkit.model import classifier
from tltoolkit.model.network import network_of
from tltoolkit.plans.stages import Plan, Stage
from tltoolkit.runs import directory as run_dirs
from tltoolkit.runs.fine_tune import fine_tune
from tltoolkit.runs.record import Run
from tltoolkit.training import correcting, probe
from tltoolkit.training.best import BEST_BY
from tltoolkit.training.frozen import lasting
from tltoolkit.training.limits import StopAfter, UntilLoss
from tltoolkit.training.result import StageResult

REFIT: Table = {
    "run": Instance(Run, "a Run, as tl.fine_tune returns it"),
    "how": OneOf("repeat", "continue"),
    "epochs": Integer(1),
    "learning_rate": Number(above=0) | None,
}
# Rate of "continue", as a part of the stage's peak: schedules end low.
GENTLE = 0.1


def refit(
    run: Run,
    data: ImageData,
    how: str = "repeat",
    *,
    build: Callable[[], Any] | None = None,
    epochs: int = 20,
    learning_rate: float | None = None,
    **options: Any,
) -> Run:
    """Train on training and validation images together, as a finished run tells how long.

    `"repeat"` begins anew and takes as many optimizer steps as the run did until its best epoch
    (Goodfellow et al. 2016, Deep Learning, algorithm 7.2). `"continue"` goes on from the run's
    weights until the loss on the former validation images is down to the loss that the run had
    on its training images (algorithm 7.3), which may never happen: `epochs` is the cap.

    **No validation figure is left**: nothing that the new model says about those images tells
    how good it is. The honest figure is that of the test split, measured once; without one, the
    run's own validation figure is the best guess, on the safe side by the images gained and on
    the other by the choice of its best epoch. `run.why` says so.

    Args:
        run: From `fine_tune`, with a validation split.
        data: The same data.
        how: `"repeat"` or `"continue"`.
        build: Makes the model as it was before the run; None builds it as `build_classifier` did.
        epochs: Most epochs of `"continue"`.
        learning_rate: Of `"continue"`, constant; None is a tenth of the peak rate of the run's
            last gradient stage.
        **options: Arguments of `fine_tune`; those not given are the run's.

    Returns:
        A new Run with a new model; `run` and its model stay as they are.

    Raises:
        ValueError: Other data than the run's, or without validation split; a model that cannot
            be built again; a run to continue that was not trained by gradient descent; one of
            `plan="auto"` or `"solve"` that solved its head on all of those images already.
    """
    _checks.arguments(REFIT, locals())
    if run.candidates:
        # Its stages alone would tune under a head on all blocks, which spoils what that reads.
        rule = "of stated stages: plan='auto' and 'solve' end with a head solved on all images"
        raise _checks.fail("run", rule, "a run that compared heads by itself")
    check_image_data(data)
    data = _checked(run, data)
    both = replace(data, train=joined(data), val=None)
    # From the record: `options` are empty for a run that was read from its directory.
    known = {name: run.settings[name] for name in ("batch_size", "seed")}
    given = {**known, **run.options, **options}
    for name in ("augment", "imbalance"):
        if name not in given:
            rule = "given as to fine_tune, since the run was read from its directory"
            raise _checks.fail(name, rule, None)
    fresh = _fresh(run, build)
    network = network_of(fresh, given.get("from_logits", "auto"), data.multi_label)
    correction = correcting.correction_of(given["imbalance"], network, both, ())
    if correction.imbalance.adjust == "retrain":
        raise _checks.fail("imbalance", "one without adjust='retrain'", correction.imbalance)
    if how == "repeat":
        # Of the new, longer epoch, by which epochs are converted.
        steps = -(-correction.rows_per_epoch // given["batch_size"])
        again, why = _repeat(run, fresh, both, steps, given)
    else:
        again, why = _continue(run, fresh, data, both, epochs, learning_rate, given)
    if not again.options:
        return again  # read from its directory, where an earlier call finished it
    again = replace(again, why=f"{why}; {_honest(run, data)}")
    if again.run_dir is not None:
        # Once more, since the record that fine_tune wrote has another `why`.
        run_dirs.finish(again.run_dir, again)
    return again


def loss_of(classifier: Any, split: Split, from_logits: bool | str = "auto") -> float:
    """Mean cross-entropy on a split, without augmentation, dropout, smoothing and weights."""
    several = split.multi_label
    said = predict_proba(classifier, split, multi_label=several, from_logits=from_logits)
    return probe.log_loss(said, as_targets(split, None), split.multi_label)


def joined(data: ImageData) -> Split:
    """Training and validation images as one split."""
    train, val = data.train, data.val
    assert val is not None
    return train.joined(val)


def _checked(run: Run, data: ImageData) -> ImageData:
    if data.val is None:
        raise _checks.fail("data", "an ImageData with a validation split", data)
    data = data.check()
    images = {name: len(split) for name, split in data.splits.items()}
    if images != run.settings["images"]:
        raise _checks.fail("data", f"that of the run, with {run.settings['images']}", images)
    return data


def _fresh(run: Run, build: Callable[[], Any] | None) -> Any:
    """The model as the run found it."""
    if build is not None:
        fresh = build()
    elif hasattr(run.model, "tltoolkit_weights"):
        # What training noted is no part of what it began with.
        settings = replace(classifier.settings_of(run.model), train_prior=None, output_prior=None)
        fresh = classifier.build(settings, run.model.tltoolkit_weights)
        fresh.tltoolkit_weights = run.model.tltoolkit_weights
    else:
        rule = "given, since the model does not come from tl.build_classifier"
        raise _checks.fail("build", rule, None)
    if not _same_where_untouched(run, fresh):
        rule = "given and make the model as the run found it: layers that never trained differ"
        raise _checks.fail("build", rule, build)
    return fresh


def _same_where_untouched(run: Run, fresh: Any) -> bool:
    """Whether what no stage changed has the same values in both models, place by place."""
    changed = {path for result in run.stages for path in result.changed}
    old, new, paths = lasting(run.model), lasting(fresh), graph.paths(run.model)
    return len(old) == len(new) and all(
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(old, new, strict=True)
        if paths[id(a)] not in changed
    )


def _repeat(
    run: Run, fresh: Any, both: ImageData, steps: int, given: Mapping[str, Any]
) -> tuple[Run, str]:
    """Train with as many steps as the run; an epoch now has `steps`."""
    before = run.settings["steps_per_epoch"]
    counted = list(_until_best(run))
    # StopAfter counts each `fit`, and a stage that is solved has none.
    limits = [epochs * before for result, epochs in counted if not result.stage.solved]
    plan = Plan(tuple(stretched(result, before / steps) for result, _ in counted))
    callbacks = (*given.get("callbacks", ()), *([StopAfter(limits)] if limits else []))
    done = fine_tune(fresh, both, plan, **{**given, "callbacks": callbacks})
    why = (
        f"trained anew on training and validation images, {len(both.train):,} in all, for "
        f"{sum(limits):,} steps, as many as the first run took to its best epoch"
    )
    return done, why


def stretched(result: StageResult, shorter: float) -> Stage:
    """A stage of a run with epochs that are longer, and so fewer, but as many steps.

    The schedule is that of the whole stage, however early its best epoch was; whole epochs make
    it longer by less than one.
    """
    stage = result.stage
    if stage.solved:
        return stage
    return replace(
        stage,
        epochs=max(1, math.ceil(stage.epochs * shorter)),
        warmup=stage.warmup * shorter,
        learning_rate=result.learning_rate,
        # No validation images are left to stop by.
        early_stopping=None,
    )


def _continue(
    run: Run,
    fresh: Any,
    data: ImageData,
    both: ImageData,
    epochs: int,
    learning_rate: float | None,
    given: Mapping[str, Any],
) -> tuple[Run, str]:
    *_, (result, _) = _until_best(run)
    if result.stage.solved:
        raise _checks.fail("how", "'repeat' where the best epoch is a solved head", "continue")
    # A new model, since the run's own must stay as it is.
    fresh.set_weights(run.model.get_weights())
    fresh.tltoolkit_seen = getattr(run.model, "tltoolkit_seen", None)
    correcting.copy_priors(run.model, fresh)
    assert data.val is not None
    former = data.val
    meaning = given.get("from_logits", "auto")
    target = loss_of(run.model, data.train, meaning)
    until = UntilLoss(lambda: loss_of(fresh, former, meaning), target)
    stage = replace(
        result.stage,
        epochs=epochs,
        learning_rate=learning_rate or result.learning_rate * GENTLE,
        schedule="constant",
        warmup=0.0,
        early_stopping=None,
    )
    callbacks = (*given.get("callbacks", ()), until)
    done = fine_tune(fresh, both, Plan((stage,)), **{**given, "callbacks": callbacks})
    reached = "which was reached" if until.loss <= until.target else "which was not reached"
    why = (
        f"trained on for {done.stages[0].epochs} of at most {epochs} epochs with the validation "
        f"images, towards a loss on those of {until.target:.4f}, that on the training images "
        f"before, {reached} ({until.loss:.4f})"
    )
    return done, why


def _until_best(run: Run) -> Iterator[tuple[StageResult, int]]:
    """The stages up to the one with the best epoch, and the epochs of each that count."""
    done = 0
    for result in run.stages:
        # Estimating BatchNorm anew is written down as an epoch, but takes no steps.
        trained = result.epochs - (result.stage.batch_norm == "recalibrate")
        inside = run.best_epoch < done + result.epochs
        yield result, min(run.best_epoch - done + 1, trained) if inside else trained
        if inside:
            return
        done += result.epochs


def _honest(run: Run, data: ImageData) -> str:
    if data.test is not None:
        return "no validation figure is left, the honest one is that of the test split"
    had = run.history[BEST_BY][run.best_epoch]
    return (
        "no validation figure is left and there is no test split; the first run's validation "
        f"macro F1 of {had:.3f} is the best guess"
    )
