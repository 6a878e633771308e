"""Stored activations of the frozen part, by what they depend on."""

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.augment.labels import as_targets
from tltoolkit.layers import graph
from tltoolkit.training import features
from tltoolkit.training.features import Storage

# Batches after which the time of a pass is told; the first one waits for the graph.
LOOKED = 4
# An augmented image is shown about so often before its next version, if nobody says otherwise.
EPOCHS_PER_VIEW = 3


@dataclass(frozen=True, kw_only=True)
class Examples:
    """A split as training reads it: images and float32 targets (N, C)."""

    source: Any
    targets: np.ndarray

    @classmethod
    def of(cls, split: Any) -> "Examples":
        """The images of a split with its labels."""
        return cls(source=split, targets=as_targets(split, None))

    def batches(self, pipeline: Any, batch_size: int, **options: Any) -> augment.Batches:
        """Batches of pixels."""
        return augment.Batches(
            self.source, pipeline, targets=self.targets, batch_size=batch_size, **options
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Activations that a stage asks for: so many versions of these images.

    Attributes:
        first: Number of the first version, which the pipeline makes in the epoch of this number.
    """

    examples: Examples
    pipeline: Any
    views: int = 1
    first: int = 0


@dataclass
class Features:
    """Stored activations, kept from one stage to the next as long as they would be the same.

    Attributes:
        seconds: What the first pass may take; None for any time.
    """

    storage: Storage
    seconds: float | None = None
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    # Those of what is kept: the place in memory of one that is gone may be that of another.
    pipelines: list[Any] = field(default_factory=list)

    def get(
        self, model: Any, cut: Any, batch_size: int, wanted: Sequence[Wanted]
    ) -> list[np.ndarray]:
        """Activations (views, N, ...) at `cut` for each of `wanted`; all others are let go."""
        keys = [key_of(model, cut, one, self.storage) for one in wanted]
        self.pipelines = [one.pipeline for one in wanted]
        # Before computing: room of what is not asked for is wanted for what is.
        self.kept = {key: value for key, value in self.kept.items() if key in keys}
        # By key, so that what is asked for twice is computed once.
        missing = {k: one for k, one in zip(keys, wanted, strict=True) if k not in self.kept}
        if missing:
            # Not by what is missing: a resumed run has to compute as the interrupted one did.
            images = max(len(one.examples.source) for one in wanted)
            function = features.frozen_function(model, cut, images)
            for key, one in missing.items():
                self.kept[key] = self._compute(function, one, batch_size)
        return [self.kept[key] for key in keys]

    @property
    def taken(self) -> int:
        """Bytes of memory that what is kept takes."""
        return sum(v.nbytes for v in self.kept.values() if not isinstance(v, np.memmap))

    def _compute(self, function: Any, one: Wanted, batch_size: int) -> np.ndarray:
        count = len(one.examples.source)
        # Later ones come when there is work to lose.
        seconds, self.seconds = self.seconds, None
        passes = [
            in_time(
                one.examples.batches(one.pipeline, batch_size, epochs_from=view),
                -(-count // batch_size),
                seconds,
            )
            for view in range(one.first, one.first + one.views)
        ]
        return features.compute(function, passes, count, self.storage, self.taken)


def in_time(batches: Iterable[Any], steps: int, seconds: float | None) -> Iterator[Any]:
    """The batches, as long as all of them would take no more than so many seconds.

    Raises:
        ValueError: They would; told after a few of them.
    """
    began = 0.0
    for step, batch in enumerate(batches):
        if step == 1:
            began = time.perf_counter()
        if step == 1 + LOOKED and seconds is not None:
            needed = (time.perf_counter() - began) / LOOKED * steps
            if needed > seconds:
                rule = f"at least {needed:.0f} s here, which one pass over the images takes"
                raise _checks.fail("budget", rule, seconds)
        yield batch


def key_of(model: Any, cut: Any, wanted: Wanted, storage: Storage) -> str:
    """SHA-256 of all that activations depend on: weights, graph, augmentation, seed, data."""
    digest = hashlib.sha256()
    for node in graph.nodes_below(model, cut):
        # The configuration too: layers without weights also decide.
        digest.update(f"{node.layer.name} {_config(node.layer)}".encode())
        for variable in getattr(node.layer, "variables", ()):
            digest.update(np.ascontiguousarray(variable.numpy()).data)
    split = wanted.examples.source
    # By identity, which holds as long as the run: it keeps its images.
    digest.update(f"{id(split.source)} {split.indices.tolist()}".encode())
    digest.update(f"{_images_of(wanted)} {wanted.views} {storage!r}".encode())
    return digest.hexdigest()


def _images_of(wanted: Wanted) -> str:
    """What the pipeline makes of images: the same text, the same images."""
    pipeline = wanted.pipeline
    normalise = () if pipeline.first is None else pipeline.first.normalise or ()
    # What a function does is not to be read from its text.
    functions = [id(one) for one in normalise if not isinstance(one, dict)]
    if pipeline.transforms is None:
        return f"plain {pipeline.image_size} {pipeline.fit} {normalise} {functions}"
    try:
        said = pipeline.to_yaml()
    except ValueError:
        said = f"{pipeline!r} {id(pipeline.transforms)} {functions}"
    # The number of the first version, by which augmentation is keyed; of plain images none.
    return f"{said} {wanted.first}"


def choose_views(
    cache_views: int | None, augmented: bool, epochs: int, view_bytes: int, memory_bytes: float
) -> int:
    """How many versions of each image to store; 0 stores none.

    Args:
        cache_views: What the stage says; None decides here.
        augmented: Whether the versions differ.
        epochs: Epochs of the stage.
        view_bytes: Room that one version of all images takes.
        memory_bytes: Room that there is in memory.

    Returns:
        `cache_views`, or 1 without augmentation, or else one for every three epochs, as far as
        they fit the memory.
    """
    if cache_views is not None:
        return cache_views if augmented else min(cache_views, 1)
    if not augmented:
        return 1
    # One at least, which goes to a file where the memory does not hold it.
    return max(1, min(math.ceil(epochs / EPOCHS_PER_VIEW), int(memory_bytes // view_bytes)))


def _config(layer: Any) -> str:
    try:
        return repr(layer.get_config())
    # Keras 3.15.1 raises it for a layer whose arguments it cannot write down.
    except NotImplementedError:
        return repr(id(layer))
