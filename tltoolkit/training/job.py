"""What the stages of a run share, and what one stage works on."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tltoolkit import augment
from tltoolkit.imbalance import correct
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import Network
from tltoolkit.plans.stages import Stage
from tltoolkit.training import caching, features, made_up
from tltoolkit.training.caching import Examples, Features, Wanted

History = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all stages of a run share.

    Attributes:
        correction: What is done about class imbalance, an `imbalance.Correction`; None becomes
            one that does nothing.
    """

    network: Network
    train: Examples
    val: Examples | None
    plain: Any
    augmented: Any
    features: Features
    batch_size: int
    multi_label: bool
    callbacks: Sequence[Any]
    verbose: Any
    seed: int
    correction: Any = None

    def __post_init__(self) -> None:
        if self.correction is None:
            names = tuple(map(str, range(self.train.targets.shape[1])))
            plain = correct("none", self.train.targets, names, self.multi_label)
            # A frozen dataclass can set a field of its own in no other way.
            object.__setattr__(self, "correction", plain)

    @property
    def model(self) -> Any:
        """The flat model."""
        return self.network.model

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.correction.rows_per_epoch // self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One stage of a job, with the place where the model is cut for it.

    Attributes:
        first_epoch: Epochs of the stages before: the versions of the images are counted on.
        tensor: The freeze boundary, below which activations are stored; None for no cut.
        held_at: The same of the validation images, which are stored also where the training
            images are augmented anew in every epoch; None scores them from pixels.
        pipeline: What happens to the training images.
        views: Versions of each of them that are stored.
    """

    job: Job
    stage: Stage
    number: int
    first_epoch: int
    tensor: Any | None
    pipeline: Any
    views: int
    held_at: Any | None = None

    @property
    def seed(self) -> int:
        """Seed of this stage; the order of images does not depend on what is stored."""
        return self.job.seed + self.number

    @property
    def sample(self) -> Callable[[int], np.ndarray] | None:
        """From the epoch to the training images that it shows; None shows all."""
        return self.job.correction.sample(self.seed, self.stage.epochs)

    @cached_property
    def made_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Stored activations (1, M, F) with made-up rows, and their targets (M, C)."""
        stored, _ = self.stored()
        assert stored is not None  # `made_up.check_stage` asks for a stage that stores
        return made_up.rows(stored, self.job.correction, self.seed)

    def trainer(self) -> Any:
        """The part of the model that is computed at every step."""
        network = self.job.network
        if network.output is None:
            return network.model
        start = network.model.input if self.tensor is None else self.tensor
        return graph.part(network.model, start, network.output)

    def scorer(self, trainer: Any) -> Any:
        """The part of the model that is computed of the validation images in every epoch."""
        # The usual case: both are cut alike, and one model serves both.
        if self.held_at is self.tensor:
            return trainer
        return graph.part(self.job.network.model, self.held_at, self.job.network.output)

    def stored(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Activations of the training and of the validation images; None if not stored."""
        job, wanted = self.job, {}
        if self.tensor is not None:
            wanted["train"] = Wanted(
                examples=job.train,
                pipeline=self.pipeline,
                views=self.views,
                first=self.first_epoch,
            )
        if self.held_at is not None and job.val is not None:
            wanted["val"] = Wanted(examples=job.val, pipeline=job.plain)
        # Where both are stored, both are cut at the same place.
        cut = self.held_at if self.tensor is None else self.tensor
        found = job.features.get(job.model, cut, job.batch_size, list(wanted.values()))
        named = dict(zip(wanted, found, strict=True))
        return named.get("train"), named.get("val")

    def names(self, epoch: int, step: int) -> list[str]:
        """The training images of a step."""
        if self.job.correction.imbalance.features is not None:
            return ["rows that were made up among the stored features"]
        size = self.job.batch_size
        order = self._batches().order(epoch)[step * size : (step + 1) * size]
        return [self.job.train.source.name(int(i)) for i in order]

    def data(self, start: tuple[int, int] = (0, 0)) -> AbstractContextManager[tuple[Any, Any]]:
        """Training data for `fit`, from an epoch and a step of it on, and validation data."""
        job = self.job
        if self.tensor is None:
            return self._pixels(start)
        train, val = self.stored()
        assert train is not None  # there is a boundary
        targets, sample = job.train.targets, self.sample
        if job.correction.imbalance.features is not None:
            train, targets = self.made_up
            sample = made_up.sample(len(targets), len(job.train.targets), self.seed)
        fed = features.feed(train, targets, job.batch_size, self.seed, start, sample)
        return contextlib.nullcontext((fed, self._held(val)))

    def _held(self, stored: np.ndarray | None) -> Any:
        job = self.job
        if job.val is None or stored is None:
            return None
        return features.feed(stored, job.val.targets, job.batch_size, None)

    def _batches(self, start: tuple[int, int] = (0, 0)) -> augment.Batches:
        """The training images as pixels."""
        job, (epoch, step) = self.job, start
        return job.train.batches(
            self.pipeline,
            job.batch_size,
            shuffle=True,
            seed=self.seed,
            sample=self.sample,
            epochs_from=epoch,
            steps_from=step,
            # Versions of images are counted on over stages, their order is not.
            augment_from=self.first_epoch,
        )

    @contextlib.contextmanager
    def _pixels(self, start: tuple[int, int]) -> Iterator[tuple[Any, Any]]:
        """Data sets of pixels; an image that cannot be read raises its own error."""
        job = self.job
        with contextlib.ExitStack() as stack:

            def dataset(batches: augment.Batches) -> Any:
                # The error of a bad image names it; TensorFlow's own does not.
                stack.enter_context(batches.own_errors())
                made = batches.to_dataset()
                # A map is traced, and every batch goes through it.
                return made.map(job.network.as_input) if job.network.converts else made

            held = self._held(self.stored()[1]) if self.held_at is not None else None
            if held is None and job.val is not None:
                held = dataset(job.val.batches(job.plain, job.batch_size))
            yield dataset(self._batches(start)), held


def task_of(
    job: Job, stage: Stage, number: int, first_epoch: int, plan: Mapping[str, bool]
) -> Task:
    """Decide where to cut the model for a stage, and how many versions of images to store."""
    pipeline = _pipeline(job, stage)
    boundary = None
    if job.network.output is not None:
        boundary = freezing.boundary(job.model, plan, recalibrated(job, stage))
    # 0 asks for new images in every epoch, through the whole model.
    tensor = boundary if stage.cache_views != 0 else None
    views = 0 if tensor is None else _views(job, stage, pipeline, tensor)
    return Task(
        job=job,
        stage=stage,
        number=number,
        first_epoch=first_epoch,
        tensor=tensor,
        pipeline=pipeline,
        views=views,
        held_at=boundary if tensor is not None or _holds(job, stage, boundary) else None,
    )


def recalibrated(job: Job, stage: Stage) -> dict[str, Any]:
    """Label -> BatchNormalization, for those whose averages the stage estimates anew."""
    return freezing.recalibrated(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)


def _holds(job: Job, stage: Stage, boundary: Any | None) -> bool:
    """Whether to store validation images in a stage that stores no training images."""
    if job.val is None or boundary is None:
        return False
    storage = job.features.storage
    # Nobody asked for these to be stored: they must cost neither digits nor room on a disk, and
    # what is estimated anew after the stage may lie below the boundary.
    exact = storage.dtype == "float32" and stage.batch_norm != "recalibrate"
    return exact and _bytes(job, job.val, boundary) <= storage.memory_bytes


def _bytes(job: Job, examples: Examples, tensor: Any) -> int:
    """Room that one version of all images takes at a tensor."""
    itemsize = np.dtype(job.features.storage.dtype).itemsize
    return len(examples.source) * int(np.prod(tensor.shape[1:])) * itemsize


def _pipeline(job: Job, stage: Stage) -> Any:
    if stage.augment is None:
        return job.augmented
    if stage.augment == "none":
        return job.plain
    preset = augment.preset(stage.augment, job.plain.image_size, seed=job.seed)
    return preset.prepared(job.network.preparation)


def _views(job: Job, stage: Stage, pipeline: Any, tensor: Any) -> int:
    # Validation images are stored besides, and take their room first.
    held = 0 if job.val is None else _bytes(job, job.val, tensor)
    return caching.choose_views(
        stage.cache_views,
        augmented=pipeline.random,
        epochs=stage.epochs,
        view_bytes=_bytes(job, job.train, tensor),
        memory_bytes=job.features.storage.memory_bytes - held,
    )
