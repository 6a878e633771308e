"""Where many trials are trained: networks built once, features of the frozen part kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit import augment
from tltoolkit.data import ImageData
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.classifier import build, note_preparation, with_head
from tltoolkit.model.head import Head
from tltoolkit.model.network import network_of
from tltoolkit.model.settings import Settings
from tltoolkit.plans.stages import Plan, Stage
from tltoolkit.training.caching import Features
from tltoolkit.training.features import Storage
from tltoolkit.training.job import Job
from tltoolkit.training.progress import Progress
from tltoolkit.training.stage import run_stage
from tltoolkit.training.trial import job_of
from tltoolkit.tune import space

Weights = str | Path | None | Mapping[str, str | Path | None]


def weights_of(weights: Weights, backbone: str) -> str | Path | None:
    """The weights that a backbone starts with; a mapping has them by its name."""
    return weights[backbone] if isinstance(weights, Mapping) else weights


@dataclass
class Bench:
    """Trains trial after trial on the same data, each as `fine_tune` would.

    A backbone is built once for each image size and trunk, and each trial starts from its first
    weights. What a trained head reads is computed once for each backbone, pooling and taps.
    """

    data: ImageData
    weights: Weights
    seed: int
    storage: Storage
    # With the values of all variables: trials train in place.
    networks: dict[Any, tuple[Any, list[np.ndarray]]] = field(default_factory=dict)
    features: dict[Any, Features] = field(default_factory=dict)
    pipelines: dict[Any, Any] = field(default_factory=dict)

    @property
    def augment(self) -> str:
        """The preset that suits the number of images."""
        return augment.choose(self.data.train.class_counts)

    def score(self, values: space.Values, callbacks: Sequence[Any]) -> float:
        """Train a trial; the validation macro F1 of its best epoch.

        Raises:
            FloatingPointError: The loss became NaN or infinite.
        """
        settings = space.build_settings(values, self.data.class_names, self.data.multi_label)
        # Else the network's layers would hold the heads of all trials (Keras 3.15.1).
        with graph.nodes_forgotten(self._network(settings)):
            return self._score(settings, values, callbacks)

    def _score(self, settings: Settings, values: space.Values, callbacks: Sequence[Any]) -> float:
        progress = Progress()
        job = self._job(settings, space.batch_size(values), callbacks)
        for number, stage in enumerate(space.plan_of(values, self.augment)):
            # For each stage: only those that train nothing but a head share features.
            shared, its_job = self._shared(stage, job)
            run_stage(its_job, shared, number, progress)
        # Of the best epoch of all stages, as `fine_tune` would keep it.
        return progress.best.score[0]

    def plan(self, values: space.Values) -> Plan:
        """The plan of a trial, for `fine_tune`."""
        return space.plan_of(values, self.augment)

    def _job(self, settings: Settings, batch_size: int, callbacks: Sequence[Any]) -> Job:
        made = job_of(
            network_of(self._model(settings)),
            self.data.train,
            self.data.val,
            batch_size=batch_size,
            seed=self.seed,
            features=Features(storage=self.storage),
            callbacks=callbacks,
        )
        # Features are known by their pipeline, which therefore has to be the same one.
        plain = self._pipeline(None, settings)
        return replace(made, plain=plain, augmented=plain)

    def _shared(self, stage: Stage, job: Job) -> tuple[Stage, Job]:
        """The same with features that trials have in common, if only a head trains."""
        # What lies below the cut has changed by then, so that its features are nobody else's.
        if stage.unfreeze != freezing.HEAD:
            return stage, job
        settings = job.network.settings
        # A bench builds its own classifiers.
        assert settings is not None
        shown = stage.augment, repr(settings.preparation)
        head = settings.head
        key = (*_key(settings), head.pooling, head.taps, head.statistics, *shown)
        kept = self.features.setdefault(key, Features(storage=self.storage))
        augmented = self._pipeline(stage.augment, settings)
        # The pipeline moves from the stage to the job: one object for all trials.
        return replace(stage, augment=None), replace(job, features=kept, augmented=augmented)

    def _model(self, settings: Settings) -> Any:
        """The classifier of `settings`, on that network."""
        # A head is new for each trial, with weights by its seed; the network is not.
        made = with_head(self._network(settings), settings.head)
        note_preparation(made, settings.preparation)
        return made

    def _network(self, settings: Settings) -> Any:
        """The network that is built once for `settings`, with its first weights."""
        key = _key(settings)
        if key not in self.networks:
            # All blocks, whichever the head of this trial reads.
            whole = replace(settings, head=Head())
            model = build(whole, weights_of(self.weights, settings.backbone))
            self.networks[key] = model, [v.numpy() for v in model.variables]
        model, first = self.networks[key]
        for variable, value in zip(model.variables, first, strict=True):
            variable.assign(value)
        return model

    def _pipeline(self, preset: str | None, settings: Settings) -> Any:
        name, size, first = preset or "none", settings.image_size, settings.preparation
        key = name, size, repr(first)
        if key not in self.pipelines:
            made = augment.preset(name, size, seed=self.seed)
            self.pipelines[key] = made.prepared(first)
        return self.pipelines[key]


def _key(settings: Settings) -> tuple[Any, ...]:
    return settings.backbone, settings.image_size, settings.trunk
