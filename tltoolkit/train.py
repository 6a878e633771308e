"""fine_tune: check everything, run the stages, keep the best epoch."""

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tltoolkit import _checks, freezing, plans, started
from tltoolkit import augment as augmentation
from tltoolkit import run_dir as run_dirs
from tltoolkit.data import ImageData
from tltoolkit.data.images import check_image_data
from tltoolkit.imbalance import Imbalance
from tltoolkit.network import Network, network_of
from tltoolkit.run import Run, joined
from tltoolkit.stages import Plan, Stage
from tltoolkit.training import correcting, given, solving
from tltoolkit.training.caching import Examples, Features
from tltoolkit.training.features import Storage
from tltoolkit.training.job import Job
from tltoolkit.training.progress import Progress, checkpoint_bytes
from tltoolkit.training.solving import linear_head
from tltoolkit.training.stage import run_stage


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
) -> Run:
    """Train a classifier stage by stage; its weights become those of the best epoch of all.

    The best epoch is the one of highest macro F1 on the validation split, which is exact: it is
    computed from all its images together. Without a validation split it is the last epoch.

    Args:
        model: From `tl.build_classifier`, or your own `keras.Model` from one square image of
            pixels 0..255 to one row of class scores. It is trained in place.
        data: An `ImageData` with the model's classes.
        plan: A `tl.Plan`, the name of a ready-made one from `tl.plans.PLANS`, or `"auto"`: the
            head first, then what its score and the number of images per class advise;
            `run.why` says it.
        augment: What happens to training images: a preset's name, an `augment.Pipeline`,
            anything that makes one (albumentations transforms, a callable), or `"auto"`, a
            preset chosen by the number of images. Stages may say otherwise.
        imbalance: What is done about classes of different size: a `tl.Imbalance`, the name of
            one of its methods such as `"balanced"` (weights), `"undersample"`, `"focal"` or
            `"logit"`, or `"auto"`: logit adjustment where the largest class has at least 1.5
            times the images of the smallest, else nothing. Validation images stay as they are.
        batch_size: Images per step, >= 1.
        callbacks: Keras callbacks for every stage that is fitted; a head that is solved has no
            epochs to call them in. They see the layers above what is frozen, ending in logits.
            The optimizer follows the stage's schedule, so that what sets its rate wants
            `schedule="constant"`; `tl.callbacks.ReduceLROnPlateau` works with any. With
            `tl.callbacks.MixedWeightAverage` the average is validated, kept and returned.
        run_dir: A new or empty directory that receives `started.json` (the command, settings,
            versions and fingerprint of the data), checkpoints while the run is under way, and
            in the end the trained classifier (`tl.load` reads it) and `run.json`, the record of
            the run. One process at a time works in it.
        resume: True goes on with the run that `run_dir` holds, or returns it if it is finished;
            False wants a new or empty directory; `"force"` goes on even though settings, data
            or library versions have changed, with the new ones.
        save_freq: Checkpoints are written at the end of each epoch and stage, and with a number
            also after so many steps.
        seed: Seed of order, augmentation and dropout. Same seed, same machine, same weights.
        cache_gb: Stored activations of the frozen part stay in memory up to so many GiB; more
            go to a file in `run_dir`, or else in the temporary directory.
        cache_dtype: `"float32"`, or `"float16"` to store them in half the room.
        verbose: As in `keras.Model.fit`.

    The same call again goes on where a killed one was, in the middle of a plan or an epoch, and
    ends with the same weights to the bit: weights, optimizer, the best epoch, random states and
    the state of callbacks are in a checkpoint (callbacks that cannot keep any, see
    `callbacks.Resume`, start afresh). Ctrl-C and SIGTERM finish the step and write a checkpoint;
    a second one stops at once.

    Returns:
        The `Run`.

    Raises:
        ValueError: An argument out of range, data with other classes than the model's, an image
            that cannot be read; all before the first step.
        ValueError: `run_dir` holds a run with other settings, data or versions.
        FileExistsError: `run_dir` holds something else, or anything with `resume=False`.
        BlockingIOError: Another process works in `run_dir`.
        OSError: `run_dir` cannot be written to or has no room for the checkpoints.
        FloatingPointError: The loss became NaN or infinite; the message says where.
        KeyboardInterrupt, SystemExit: After Ctrl-C; after SIGTERM, with the code 143.
    """
    network = network_of(model)
    _checks.integer("batch_size", batch_size, 1)
    _checks.integer("seed", seed, 0, 2**31 - 1)
    _checks.one_of("resume", resume, [True, False, run_dirs.FORCE])
    _check_save_freq(save_freq, run_dir)
    check_image_data(data)
    network.check_classes("data", data.class_names, data.multi_label)
    begun, why = plan_of(plan, network)
    correction = correcting.correction_of(imbalance, network, data, begun)
    if plan == "auto" and correction.imbalance.features is not None:
        rule = "'linear_probe', or another that trains a head only, with imbalance features"
        raise _checks.fail("plan", rule, plan)
    _check_stages(begun, network, data)
    more = [Stage("fine_tune")] if plan == "auto" else []
    given.check(callbacks, network, [*begun, *more], correction, data.val is not None)
    augmented = pipeline_of(augment, network.image_size, data.train.class_counts, seed)
    spill = None if run_dir is None else Path(run_dir)
    storage = Storage(memory_gb=cache_gb, dtype=cache_dtype, directory=spill)
    with run_dirs.claimed(run_dir, resume) as target:
        data = data.check()
        correction = correcting.correction_of(imbalance, network, data, begun)
        job = Job(
            network=network,
            train=Examples.of(data.train),
            val=None if data.val is None else Examples.of(data.val),
            plain=augmentation.Pipeline(None, network.image_size),
            augmented=augmented,
            features=Features(storage=storage),
            batch_size=batch_size,
            multi_label=data.multi_label,
            callbacks=callbacks,
            verbose=verbose,
            seed=seed,
            correction=correction,
        )
        settings = _settings(job, data)
        if target is None:
            return _train(model, job, plan, begun, why, Progress(), settings)
        asked = {
            "plan": plan if isinstance(plan, str) else plan.to_dict(),
            "augment": augment if isinstance(augment, str) else repr(augmented),
        }
        noted = started.record({**settings, **asked, **_details(job)}, data)
        if run_dirs.begin(target, noted, resume):
            print(f"{target} holds this run, and it is finished: nothing is trained")
            return run_dirs.finished(target, model)
        unfrozen = [stage.unfreeze for stage in begun] + ["all"] * (plan == "auto")
        run_dirs.reserve(target, checkpoint_bytes(job, unfrozen))
        progress = Progress(target / run_dirs.CHECKPOINTS, save_freq)
        with progress.interrupts.caught():
            if progress.go_on(job) and verbose:
                print(f"Going on with {target}, stage {len(progress.results) + 1}")
            run = _train(model, job, plan, begun, why, progress, settings)
            run = dataclasses.replace(run, run_dir=target)
            run_dirs.finish(target, run)
            return run


def _train(
    model: Any,
    job: Job,
    plan: str | Plan,
    begun: Plan,
    why: str,
    progress: Progress,
    settings: Mapping[str, Any],
) -> Run:
    """All stages, or those that are left, and the weights of the best epoch."""
    if job.verbose and job.correction.imbalance != Imbalance():
        print(job.correction)
    if not progress.results and progress.found is None:
        correcting.start(job)
    _run(job, begun, 0, progress)
    count = len(begun)
    if plan == "auto":
        classes = job.train.targets.shape[1]
        more, why = plans.after_head(len(job.train.source) / classes, progress.f1(len(begun) - 1))
        _run(job, more, count, progress)
        count += len(more)
    _run(job, correcting.last_stages(job, begun), count, progress)
    progress.best.restore(job.model)
    correcting.note_priors(model, job, progress.results, progress.best.epoch)
    return Run(
        model=model,
        history=joined(progress.histories),
        best_epoch=progress.best.epoch,
        stages=tuple(progress.results),
        plan=Plan(tuple(result.stage for result in progress.results)),
        why=why,
        settings=settings,
        run_dir=None,
        options=_options(job),
    )


def _run(job: Job, stages: Iterable[Stage], first: int, progress: Progress) -> None:
    for number, stage in enumerate(stages, first):
        if number < len(progress.results):
            continue
        if job.verbose:
            print(f"Stage {number + 1}: {stage.name}, unfreeze={stage.unfreeze!r}")
        run_stage(correcting.for_stage(job, stage), stage, number, progress)


def _options(job: Job) -> dict[str, Any]:
    return {
        "augment": job.augmented,
        "imbalance": job.correction.imbalance,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "cache_gb": job.features.storage.memory_gb,
        "cache_dtype": job.features.storage.dtype,
        "verbose": job.verbose,
    }


def _settings(job: Job, data: ImageData) -> dict[str, Any]:
    return {
        "images": {name: len(split) for name, split in data.splits.items()},
        "class_names": list(data.class_names),
        "image_size": job.network.image_size,
        "augment": repr(job.augmented),
        "batch_size": job.batch_size,
        "steps_per_epoch": job.steps,
        "seed": job.seed,
        "imbalance": job.correction.to_dict(),
    }


def _details(job: Job) -> dict[str, Any]:
    """What else must be the same for a run to go on."""
    settings, weights = job.network.settings, job.model.weights
    # What an earlier run noted of its labels is no setting of this one.
    own = settings and dataclasses.replace(settings, train_prior=None, output_prior=None)
    return {
        "model": [list(w.shape) for w in weights] if own is None else own.to_dict(),
        "callbacks": [type(callback).__name__ for callback in job.callbacks],
        "cache_gb": job.features.storage.memory_gb,
        "cache_dtype": job.features.storage.dtype,
    }


def plan_of(plan: str | Plan, network: Network) -> tuple[Plan, str]:
    """The stages that `plan` begins with in `fine_tune`, and why; "auto" has more later."""
    if isinstance(plan, Plan):
        return plan, "the plan was given"
    _checks.one_of("plan", plan, ["auto", *plans.PLANS])
    if plan == "auto":
        return plans.first(linear_head(network) is not None), ""
    return plans.PLANS[plan](), f"plan={plan!r} was asked for"


def pipeline_of(augment: Any, image_size: int, class_counts: Any, seed: int) -> Any:
    """The pipeline that `augment` stands for in `fine_tune`."""
    if isinstance(augment, augmentation.Pipeline):
        if augment.image_size != image_size:
            rule = f"a pipeline with the model's image_size {image_size}"
            raise _checks.fail("augment", rule, augment.image_size)
        return augment
    if augment is None or not isinstance(augment, str):
        return augmentation.Pipeline(augment, image_size, seed=seed)
    _checks.one_of("augment", augment, ["auto", *augmentation.PRESETS])
    name = augmentation.choose(class_counts) if augment == "auto" else augment
    return augmentation.preset(name, image_size, seed=seed)


def _check_stages(plan: Plan, network: Network, data: ImageData) -> None:
    for stage in plan:
        solving.check_stage(network, stage)
        freezing.freeze_plan(network.model, network.blocks, stage.unfreeze, stage.batch_norm)
        if stage.early_stopping is not None and data.val is None:
            rule = f"None in stage {stage.name!r}, since the data has no validation split"
            raise _checks.fail("early_stopping", rule, stage.early_stopping)
    if network.output is None:
        warnings.warn(
            f"the graph of {network.model.name} is not known, because it is a subclassed model: "
            "its frozen part is computed in every epoch",
            stacklevel=3,
        )


def _check_save_freq(save_freq: str | int, run_dir: str | Path | None) -> None:
    if save_freq == "epoch":
        return
    _checks.integer("save_freq", save_freq, 1)
    if run_dir is None:
        rule = "left out without run_dir, where checkpoints would be written"
        raise _checks.fail("save_freq", rule, save_freq)
