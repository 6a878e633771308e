"""What the stages of a run share, and what one stage works on."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tltoolkit import augment, freezing
from tltoolkit.network import Network
from tltoolkit.stages import Stage
from tltoolkit.training import caching, features
from tltoolkit.training.caching import Examples, Features, Wanted

History = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all stages of a run share."""

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

    @property
    def model(self) -> Any:
        """The flat model."""
        return self.network.model

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.train.source) // self.batch_size)


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

    def trainer(self) -> Any:
        """The part of the model that is computed at every step."""
        network = self.job.network
        if network.output is None:
            return network.model
        start = network.model.input if self.tensor is None else self.tensor
        return keras.Model(start, network.output)

    def stored(self) -> list[np.ndarray]:
        """Activations of the training images and, if there are any, of the validation images."""
        job = self.job
        wanted = [Wanted(examples=job.train, pipeline=self.pipeline, views=self.views)]
        if job.val is not None:
            wanted.append(Wanted(examples=job.val, pipeline=job.plain))
        return job.features.get(job.model, self.tensor, job.batch_size, wanted)

    def data(self) -> AbstractContextManager[tuple[Any, Any]]:
        """Training and validation data for `fit`."""
        job = self.job
        if self.tensor is None:
            return self._pixels()
        train, *val = self.stored()
        fed = features.feed(train, job.train.targets, job.batch_size, self.seed)
        held = job.val and features.feed(val[0], job.val.targets, job.batch_size, None)
        return contextlib.nullcontext((fed, held))

    @contextlib.contextmanager
    def _pixels(self) -> Iterator[tuple[Any, Any]]:
        """Data sets of pixels; an image that cannot be read raises its own error."""
        job = self.job
        with contextlib.ExitStack() as stack:

            def dataset(examples: Examples, pipeline: Any, **options: Any) -> Any:
                batches = examples.batches(pipeline, job.batch_size, **options)
                stack.enter_context(batches.own_errors())
                return batches.to_dataset().map(job.network.as_input)

            train = dataset(job.train, self.pipeline, shuffle=True, seed=self.seed)
            yield train, job.val and dataset(job.val, job.plain)


def task_of(
    job: Job, stage: Stage, number: int, first_epoch: int, plan: Mapping[str, bool]
) -> Task:
    """Decide where to cut the model for a stage, and how many versions of images to store."""
    pipeline = _pipeline(job, stage)
    tensor, views = None, 0
    if job.network.output is not None and stage.cache_views != 0:
        tensor = freezing.boundary(job.model, plan)
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


def _pipeline(job: Job, stage: Stage) -> Any:
    if stage.augment is None:
        return job.augmented
    if stage.augment == "none":
        return job.plain
    return augment.preset(stage.augment, job.plain.image_size, seed=job.seed)


def _views(job: Job, stage: Stage, pipeline: Any, tensor: Any) -> int:
    storage = job.features.storage
    itemsize = np.dtype(storage.dtype).itemsize
    return caching.choose_views(
        stage.cache_views,
        augmented=pipeline.transforms is not None,
        epochs=stage.epochs,
        view_bytes=len(job.train.source) * int(np.prod(tensor.shape[1:])) * itemsize,
        memory_bytes=storage.memory_gb * 2**30,
    )
