"""fine_tune: check everything, run the stages, keep the best epoch."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.data import duplicates
from tltoolkit.data.seen import Seen
from tltoolkit.imbalance import Imbalance
from tltoolkit.layers import graph
from tltoolkit.model.classifier import note_preparation
from tltoolkit.plans import ready
from tltoolkit.plans.stages import Plan
from tltoolkit.runs import auto, directory, noting
from tltoolkit.runs.candidates import Candidates
from tltoolkit.runs.preparing import Prepared, prepare
from tltoolkit.runs.record import Run, joined
from tltoolkit.runs.terms import FINE_TUNE
from tltoolkit.training import arguments, correcting, known
from tltoolkit.training.progress import Progress, checkpoint_bytes
from tltoolkit.training.result import holding
from tltoolkit.training.stage import run_stages


def fine_tune(
    model: Any,
    data: Any,
    plan: str | Plan = "auto",
    augment: Any = "auto",
    imbalance: str | Imbalance = "none",
    *,
    batch_size: int = 32,
    callbacks: Sequence[Any] = (),
    run_dir: str | Path | None = None,
    resume: bool | str = True,
    save_freq: str | int = "epoch",
    seed: int = 0,
    cache_gb: float = 2.0,
    cache_dtype: str = "float32",
    verbose: str | int = "auto",
    from_logits: bool | str = "auto",
    budget: float | str | None = None,
    familiarity: bool | None = None,
    statistics: bool | None = None,
) -> Run:
    """Train a classifier stage by stage; its weights become those of the best epoch of all.

    The best epoch is the one of highest macro F1 on the validation split, which is exact: it is
    computed from all its images together. Without a validation split it is the last epoch.

    Args:
        model: From `tl.build_classifier`, or your own `keras.Model` from one square image of
            pixels 0..255 (RGB, or grey where it takes one channel) to one row of class scores:
            logits, a softmax, sigmoids for several labels per image, or one sigmoid or logit for
            two classes. It is trained in place.
        data: An `ImageData` with the model's classes.
        plan: A `tl.Plan`, the name of a ready-made one from `tl.plans.PLANS`, or `"auto"`: the
            head first, then what its score and the number of images per class advise;
            `run.why` says it.
        augment: What happens to training images: a preset's name, an `augment.Pipeline`,
            anything that makes one (albumentations transforms, a callable), or `"auto"`, a
            preset chosen by the number of images. Stages may say otherwise. What a pipeline does
            to every image alike (`fit`, transforms that are not random) becomes the model's, is
            done to validation images, too, and is stored with it.
        imbalance: What is done about classes of different size: a `tl.Imbalance`, the name of
            one of its methods such as `"balanced"` (weights), `"undersample"`, `"focal"` or
            `"logit"`, or `"auto"`: logit adjustment where the largest class has at least 1.5
            times the images of the smallest, else nothing. Validation images stay as they are.
        batch_size: Images per step, >= 1.
        callbacks: Keras callbacks for every stage that is fitted; a head that is solved has no
            epochs to call them in. They see the layers above what is frozen, ending in logits.
            It is not `fit` that validates, but the stage, from activations stored once;
            `on_test_begin`, `on_test_batch_end` and the like are called all the same,
            `ValidationMetrics` are scored, and all scores are in the logs when the epoch ends.
            The optimizer follows the stage's schedule, so that what sets its rate wants
            `schedule="constant"`; `tl.callbacks.ReduceLROnPlateau` works with any. With
            `tl.callbacks.MixedWeightAverage` the average is validated, kept and returned.
        run_dir: A new or empty directory that receives `started.json` (the command, settings,
            versions and fingerprint of the data), `images.npy` and `data.json` (the digests of its
            images and how the data was made, for `tltoolkit evaluate`), checkpoints while the
            run is under way, and in the end the trained classifier (`tl.load` reads it) and
            `run.json`, the record of the run. One process at a time works in it.
        resume: True goes on with the run that `run_dir` holds, or returns it if it is finished;
            False wants a new or empty directory; `"force"` goes on even though settings, data
            or library versions have changed, with the new ones, and lets a model with other
            start weights take those of the run.
        save_freq: Checkpoints are written at the end of each epoch and stage, and with a number
            also after so many steps.
        seed: Seed of order, augmentation and dropout. Same seed, same machine, same weights.
        cache_gb: Stored activations of the frozen part stay in memory up to so many GiB; more
            go to a file in `run_dir`, or else in the temporary directory.
        cache_dtype: `"float32"`, or `"float16"` to store them in half the room.
        verbose: 0 says nothing, 1 draws Keras' progress bars, 2 prints a line for each epoch;
            `"auto"` is 1 on a terminal and 2 elsewhere.
        from_logits: Whether the outputs of your own model are logits; `"auto"` tells by its graph
            and by what it says of a few test images, and warns where that is not certain.
        budget: Time that `plan="auto"` may take: seconds, or a text such as `"90s"`, `"5m"` or
            `"1h"`. It is a plan, not a limit: fine-tuning gets as many epochs as fit a forecast
            from the first pass over the images, or none. Less than that pass takes is an error,
            after its first batches. None leaves it to the plan.
        familiarity: Whether the classifier shall know how familiar images are, for
            `predict(min_familiarity=)`: distances of their features from those of the training
            images, and how far the validation images are, of which there must be 10 or more. It
            is for classifiers of `build_classifier`. None does it where the head that comes out
            was solved, whose features are at hand; True also where all layers were fitted, for
            one more pass over both splits.
        statistics: Whether the sums stay that a head in closed form was solved on, for
            `tl.add_class` and `tl.update`. They take 4 bytes for each pair of features that it
            reads: 7 MB for 1,280 of them, 11 MB for 1,632, 158 MB for all 6,288 of
            EfficientNet-Lite0. None keeps them up to 32 MiB. They do not know weights of
            classes: with `imbalance` there are none.

    The same call again goes on where a killed one was, in the middle of a plan or an epoch, and
    ends with the same weights to the bit: weights, optimizer, the best epoch, random states and
    the state of callbacks are in a checkpoint (callbacks that cannot keep any, see
    `callbacks.Resume`, start afresh). Ctrl-C and SIGTERM finish the step and write a checkpoint;
    a second one stops at once.

    The model changes only if the run succeeds: after an error or Ctrl-C its weights, and what of
    it is trainable, are as before the call. What was trained is in the checkpoint of `run_dir`;
    without one it is lost. A run goes on, or comes back when finished, only for a model with the
    weights that it began (or ended) with: those that start at random need a seed.

    Returns:
        The `Run`.

    Raises:
        ValueError: An argument out of range, data with other classes than the model's, an image
            that cannot be read; all before the first step.
        ValueError: `run_dir` holds a run with other settings, data or versions, or of a model
            with other start weights.
        FileExistsError: `run_dir` holds something else, or anything with `resume=False`.
        BlockingIOError: Another process works in `run_dir`.
        OSError: `run_dir` cannot be written to or has no room for the checkpoints.
        FloatingPointError: The loss became NaN or infinite; the message says where.
        KeyboardInterrupt, SystemExit: After Ctrl-C; after SIGTERM, with the code 143.
    """
    _checks.arguments(FINE_TUNE, locals())
    arguments.check_save_freq(save_freq, run_dir)
    prepared = prepare(
        model,
        data,
        plan,
        augment,
        imbalance,
        batch_size=batch_size,
        callbacks=callbacks,
        run_dir=run_dir,
        seed=seed,
        cache_gb=cache_gb,
        cache_dtype=cache_dtype,
        verbose=verbose,
        from_logits=from_logits,
        budget=budget,
    )
    with directory.claimed(run_dir, resume) as target:
        if familiarity:
            known.check(prepared.job)
        if statistics:
            known.check_statistics(prepared.job, prepared.begun, prepared.compares)
        asked = known.Asked(familiarity=familiarity, statistics=statistics)
        # Reading every image takes long: all that can be refused without comes before.
        # Those of the heads that are compared: near copies must not judge one another.
        hashes = prepared.compares and duplicates.tells_looks()
        run = prepared.on(data.check(hashes=hashes))
        # Around all that trains: the user's model changes only if the run succeeds.
        with correcting.put_back_on_failure(model):
            if target is None:
                done = _train(run, run.seen, Progress(), _start(run), asked)
            elif not directory.begin(target, run.noted(), resume):
                done = _in_directory(run, target, save_freq, asked)
            else:
                print(f"{target} holds this run, and it is finished: nothing is trained")
                done = directory.finished(target, run.trained)
                known.check_kept(done.model, asked)
            if done.model is model:
                return done
            # Its head was put on other blocks: the user's model takes over that graph, too.
            graph.become(model, done.model)
            return dataclasses.replace(done, model=model)


def _in_directory(run: Prepared, target: Path, save_freq: str | int, asked: known.Asked) -> Run:
    """Train with checkpoints, from the newest one on, and write what came out."""
    # What "auto" adds is not known yet: there shall be room for the most that it could be.
    unfrozen = [stage.unfreeze for stage in run.begun] + ["all"] * (run.plan == "auto")
    directory.reserve(target, checkpoint_bytes(run.job, unfrozen))
    seen = directory.note_images(target, run.seen)
    progress = Progress(target / directory.CHECKPOINTS, save_freq)
    with progress.interrupts.caught():
        # Before a checkpoint puts its own values in the place of these.
        before = _start(run)
        if progress.go_on(run.job) and run.job.verbose:
            print(f"Going on with {target}, stage {len(progress.results) + 1}")
        trained = _train(run, seen, progress, before, asked)
        done = dataclasses.replace(trained, run_dir=target)
        directory.finish(target, done)
        return done


def _start(run: Prepared) -> list[Any]:
    """The values that the model starts with, where the plan compares with them."""
    return auto.values(run.job.model) if run.compares else []


def _train(
    run: Prepared,
    seen: Seen,
    progress: Progress,
    before: Sequence[Any],
    asked: known.Asked,
) -> Run:
    """All stages, or those that are left, and the weights of what is best."""
    job, model = run.job, run.trained
    model.tltoolkit_seen = seen
    note_preparation(model, job.network.preparation)
    why, candidates = _stages(run, progress, before)
    # The model has the weights of the last epoch so far.
    progress.best.restore(job.model)
    # What a head in closed form assumes is what its stage, the first one, does.
    correcting.note_priors(model, job, progress.results, 0 if before else progress.best.epoch)
    kept, _ = holding(progress.results, progress.best.epoch)
    solved = run.compares or kept.stage.solved
    familiar = solved if asked.familiarity is None else asked.familiarity
    # First, as it asks for the features that the head was solved on.
    model.tltoolkit_statistics = known.statistics(job, progress, asked.statistics)
    model.tltoolkit_familiarity = known.familiarity(job, familiar)
    return Run(
        model=model,
        history=joined(progress.histories),
        best_epoch=progress.best.epoch,
        stages=tuple(progress.results),
        plan=Plan(tuple(result.stage for result in progress.results)),
        why=why,
        settings=run.settings,
        run_dir=None,
        options=noting.options(job),
        candidates=candidates,
    )


def _stages(run: Prepared, progress: Progress, before: Sequence[Any]) -> tuple[str, Candidates]:
    """Run the stages that are left; why these, and what "auto" compared."""
    job, begun = run.job, run.begun
    if job.verbose and job.correction.imbalance != Imbalance():
        print(job.correction)
    # Where a run goes on, its checkpoint has the shifted bias already.
    if not progress.results and progress.found is None:
        correcting.start(run.trained, job)
    if run.compares:
        tunes = run.plan == "auto"
        return auto.train(job, begun.stages, progress, before, tunes=tunes, budget=run.budget)
    run_stages(job, begun, 0, progress)
    count, why = len(begun), run.why
    if run.plan == "auto":
        classes = job.train.targets.shape[1]
        more, why = ready.after_head(len(job.train.source) / classes, progress.f1(count - 1))
        run_stages(job, more, count, progress)
        # Stages are numbered through, as seeds and checkpoints go by the number.
        count += len(more)
    run_stages(job, correcting.last_stages(job, begun), count, progress)
    return why, Candidates()
