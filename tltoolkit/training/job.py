"""What the stages of a run share, and what one stage works on."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tltoolkit import augment, freezing, graph
from tltoolkit.imbalance import correct
from tltoolkit.network import Network
from tltoolkit.stages import Stage
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
        tensor: The freeze boundary, below which activations are stored; None for no cut.
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
        return made_up.rows(self.stored()[0], self.job, self.seed)

    def trainer(self) -> Any:
        """The part of the model that is computed at every step."""
        network = self.job.network
        if network.output is None:
            return network.model
        start = network.model.input if self.tensor is None else self.tensor
        return graph.part(network.model, start, network.output)

    def stored(self) -> list[np.ndarray]:
        """Activations of the training images and, if there are any, of the validation images."""
        job = self.job
        wanted = [Wanted(examples=job.train, pipeline=self.pipeline, views=self.views)]
        if job.val is not None:
            wanted.append(Wanted(examples=job.val, pipeline=job.plain))
        return job.features.get(job.model, self.tensor, job.batch_size, wanted)

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
        train, *val = self.stored()
        targets, sample = job.train.targets, self.sample
        if job.correction.imbalance.features is not None:
            train, targets = self.made_up
            sample = made_up.sample(len(targets), len(job.train.targets), self.seed)
        fed = features.feed(train, targets, job.batch_size, self.seed, start, sample)
        held = job.val and features.feed(val[0], job.val.targets, job.batch_size, None)
        return contextlib.nullcontext((fed, held))

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
        )

    @contextlib.contextmanager
    def _pixels(self, start: tuple[int, int]) -> Iterator[tuple[Any, Any]]:
        """Data sets of pixels; an image that cannot be read raises its own error."""
        job = self.job
        with contextlib.ExitStack() as stack:

            def dataset(batches: augment.Batches) -> Any:
                stack.enter_context(batches.own_errors())
                return batches.to_dataset().map(job.network.as_input)

            train = dataset(self._batches(start))
            yield train, job.val and dataset(job.val.batches(job.plain, job.batch_size))


def task_of(
    job: Job, stage: Stage, number: int, first_epoch: int, plan: Mapping[str, bool]
) -> Task:
    """Decide where to cut the model for a stage, and how many versions of images to store."""
    pipeline = _pipeline(job, stage)
    tensor, views = None, 0
    if job.network.output is not None and stage.cache_views != 0:
        tensor = freezing.boundary(job.model, plan, recalibrated(job, stage))
    if tensor is not None:
        views = _views(job, stage, pipeline, tensor)
    return Task(
        job=job,
        stage=stage,
        number=number,
        first_epoch=first_epoch,
        tensor=tensor,
        pipeline=pipeline,
        views=views,
    )


def recalibrated(job: Job, stage: Stage) -> dict[str, Any]:
    """Label -> BatchNormalization, for those whose averages the stage estimates anew."""
    return freezing.recalibrated(job.model, job.network.blocks, stage.unfreeze, stage.batch_norm)


def _pipeline(job: Job, stage: Stage) -> Any:
    if stage.augment is None:
        return job.augmented
    if stage.augment == "none":
        return job.plain
    preset = augment.preset(stage.augment, job.plain.image_size, seed=job.seed)
    return preset.prepared(job.network.preparation)


def _views(job: Job, stage: Stage, pipeline: Any, tensor: Any) -> int:
    storage = job.features.storage
    itemsize = np.dtype(storage.dtype).itemsize
    return caching.choose_views(
        stage.cache_views,
        augmented=pipeline.random,
        epochs=stage.epochs,
        view_bytes=len(job.train.source) * int(np.prod(tensor.shape[1:])) * itemsize,
        memory_bytes=storage.memory_gb * 2**30,
    )
