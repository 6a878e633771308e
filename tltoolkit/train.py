"""fine_tune: check everything, run the stages, keep the best epoch."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tltoolkit import _checks, artifact, freezing, plans
from tltoolkit import augment as augmentation
from tltoolkit.augment.labels import as_targets
from tltoolkit.data import ImageData
from tltoolkit.network import Network, network_of
from tltoolkit.run import Run, StageResult, joined
from tltoolkit.stages import Plan, Stage
from tltoolkit.training.best import BEST_BY, Best
from tltoolkit.training.caching import Examples, Features
from tltoolkit.training.features import Storage
from tltoolkit.training.job import History, Job
from tltoolkit.training.solving import linear_head
from tltoolkit.training.stage import run_stage

RECORD = "run.json"


def fine_tune(
    model: Any,
    data: Any,
    plan: str | Plan = "auto",
    augment: Any = "auto",
    *,
    batch_size: int = 32,
    callbacks: Sequence[Any] = (),
    run_dir: str | Path | None = None,
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
        batch_size: Images per step, >= 1.
        callbacks: Keras callbacks for every stage. They see a model that ends in logits.
        run_dir: A new or empty directory that receives the trained classifier (`tl.load` reads
            it) and `run.json`, the record of the run.
        seed: Seed of order, augmentation and dropout. Same seed, same machine, same weights.
        cache_gb: Stored activations of the frozen part stay in memory up to so many GiB; more
            go to a file in `run_dir`, or else in the temporary directory.
        cache_dtype: `"float32"`, or `"float16"` to store them in half the room.
        verbose: As in `keras.Model.fit`.

    Returns:
        The `Run`.

    Raises:
        ValueError: An argument out of range, data with other classes than the model's, an image
            that cannot be read; all before the first step.
        FileExistsError: `run_dir` holds something already.
        FloatingPointError: The loss became NaN or infinite.
    """
    network = network_of(model)
    _checks.integer("batch_size", batch_size, 1)
    _checks.integer("seed", seed, 0, 2**31 - 1)
    _check_callbacks(callbacks)
    _checks.instance("data", data, ImageData, "an ImageData, as tl.data makes it")
    network.check_classes("data", data.class_names, data.multi_label)
    begun, why = _plan(plan, network)
    for stage in begun:
        freezing.freeze_plan(network.model, network.blocks, stage.unfreeze, stage.batch_norm)
        if stage.early_stopping is not None and data.val is None:
            rule = f"None in stage {stage.name!r}, since the data has no validation split"
            raise _checks.fail("early_stopping", rule, stage.early_stopping)
    augmented = _augmented(augment, network.image_size, data.train.class_counts, seed)
    spill = None if run_dir is None else Path(run_dir)
    storage = Storage(memory_gb=cache_gb, dtype=cache_dtype, directory=spill)
    target = None if run_dir is None else artifact.claim(run_dir)
    data = data.check()
    if network.output is None:
        warnings.warn(
            f"the graph of {model.name} is not known, because it is a subclassed model: its frozen "
            "part is computed in every epoch",
            stacklevel=2,
        )
    job = Job(
        network=network,
        train=_examples(data.train),
        val=None if data.val is None else _examples(data.val),
        plain=augmentation.Pipeline(None, network.image_size),
        augmented=augmented,
        features=Features(storage=storage),
        batch_size=batch_size,
        multi_label=data.multi_label,
        callbacks=callbacks,
        verbose=verbose,
        seed=seed,
    )
    done = _Done()
    _run(job, begun, done)
    if plan == "auto":
        more, why = plans.after_head(len(data.train) / len(data.class_names), done.f1)
        _run(job, more, done)
    done.best.restore(job.model)
    run = done.as_run(model, why, _settings(job, data), target)
    if target is not None:
        artifact.write_json(target / RECORD, run.to_dict())
        artifact.write(model, target)
    return run


@dataclass
class _Done:
    """The stages so far."""

    best: Best = field(default_factory=Best)
    results: list[StageResult] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)

    @property
    def f1(self) -> float | None:
        """The best validation macro F1 of the last stage."""
        scores = self.histories[-1].get(BEST_BY)
        return max(scores) if scores else None

    def as_run(
        self, model: Any, why: str, settings: Mapping[str, Any], run_dir: Path | None
    ) -> Run:
        return Run(
            model=model,
            history=joined(self.histories),
            best_epoch=self.best.epoch,
            stages=tuple(self.results),
            plan=Plan(tuple(result.stage for result in self.results)),
            why=why,
            settings=settings,
            run_dir=run_dir,
        )


def _settings(job: Job, data: ImageData) -> dict[str, Any]:
    return {
        "images": {name: len(split) for name, split in data.splits.items()},
        "class_names": list(data.class_names),
        "image_size": job.network.image_size,
        "augment": repr(job.augmented),
        "batch_size": job.batch_size,
        "seed": job.seed,
    }


def _run(job: Job, stages: Iterable[Stage], done: _Done) -> None:
    for stage in stages:
        number = len(done.results)
        if job.verbose:
            print(f"Stage {number + 1}: {stage.name}, unfreeze={stage.unfreeze!r}")
        first_epoch = sum(result.epochs for result in done.results)
        result, history = run_stage(job, stage, number, done.best, first_epoch)
        done.results.append(result)
        done.histories.append(history)


def _plan(plan: str | Plan, network: Network) -> tuple[Plan, str]:
    if isinstance(plan, Plan):
        return plan, "the plan was given"
    _checks.one_of("plan", plan, ["auto", *plans.PLANS])
    if plan == "auto":
        return plans.first(linear_head(network) is not None), ""
    return plans.PLANS[plan](), f"plan={plan!r} was asked for"


def _augmented(augment: Any, image_size: int, class_counts: Any, seed: int) -> Any:
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


def _check_callbacks(callbacks: Sequence[Any]) -> None:
    for callback in callbacks:
        _checks.instance("callbacks", callback, keras.callbacks.Callback, "Keras callbacks")


def _examples(split: Any) -> Examples:
    return Examples(source=split, targets=as_targets(split, None))
