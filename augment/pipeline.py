"""Pipeline: random transforms that give the same image for the same seed, epoch and index."""

import copy
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment import images, keys, parts
from tltoolkit.augment.preparation import Preparation
from tltoolkit.augment.terms import PIPELINE, SQUASH

Transforms = Callable[..., Any] | Sequence[Any] | None

_ADVICE = (
    " after the transforms; leave out Normalize and ToTensorV2, a model here scales pixels itself"
)


class Pipeline:
    """Image in, augmented square image out, reproducible in any thread, process or resumed run.

    The random numbers of an image depend on (seed, epoch, index) alone. Within an image every
    transform draws its own, so that two flips of the same probability are independent.

    What it does to every image alike, its `preparation`, becomes part of the classifier that is
    trained with it, and so reaches validation, evaluation and prediction, too.

    Args:
        transforms: what happens before the final resize. None; a list of albumentations
            transforms; an `albumentations.Compose`, used as it is (a seed of its own is
            overridden); or any callable that takes `image=` and returns an array or a mapping
            with the key "image". A callable with a parameter `rng` gets a `numpy` Generator
            there and is reproducible too; randomness from elsewhere is its own affair. From
            files they get a large JPEG at reduced scale, both sides still twice `image_size` or
            more, see `labels.Source`.
        image_size: side of the result in pixels, >= 1.
        seed: integer >= 0.
        fit: how the final `resize` makes a square: "squash", "crop" or "pad". None leaves it
            to the classifier, and is "squash" where that says nothing either.
        first: what happens before the transforms, which are then for training alone, all of
            them. None looks which of them do the same to every image, by trying.

    Raises:
        TypeError: for transforms of another kind.
        ValueError: for another image_size, seed or fit.
    """

    def __init__(
        self,
        transforms: Transforms,
        image_size: int,
        seed: int = 0,
        *,
        fit: str | None = None,
        first: Preparation | None = None,
    ) -> None:
        _checks.arguments(PIPELINE, locals())
        if first is not None:
            _checks.instance("first", first, Preparation, "an augment.Preparation")
            if fit is not None:
                raise _checks.fail("fit", "left out where `first` is given", fit)
            fit = first.fit
        self.transforms = _as_callable(transforms)
        self.image_size = int(image_size)
        self.seed = int(seed)
        self.fit = fit
        self.first = first
        self._takes_rng = parts.takes_rng(self.transforms)
        # Copies are made at first use: a pipeline is also made where none will run.
        self._local = threading.local()

    def __call__(
        self, image: NDArray[np.uint8], epoch: int = 0, index: int = 0
    ) -> NDArray[np.uint8]:
        """Augment one image.

        Args:
            image: (H, W, 3) uint8.
            epoch: which pass over the data, >= 0.
            index: which image of the data, >= 0.

        Returns:
            (image_size, image_size, 3) uint8.

        Raises:
            ValueError: if the image, or what the transforms make of it, is of another kind.
        """
        images.check_image(image)
        normalise, transforms = self._own_copies()
        for transform in normalise:
            # Whatever is done to every image alike is done with the same numbers.
            image = _transformed(transform, image, keys.keyed(0, keys.AUGMENT))
        if transforms is not None:
            if self.first is not None:
                # Square first: the transforms then work on what validation shows.
                image = images.square(image, self._fit)
            rng = keys.keyed(self.seed, keys.AUGMENT, epoch, index)
            image = _transformed(transforms, image, rng, self._takes_rng)
        # Last, so that transforms see all of the picture's detail.
        return images.resize(image, self.image_size, self._fit)

    @property
    def _fit(self) -> str:
        return self.fit or SQUASH

    def _own_copies(self) -> tuple[list[Any], Any]:
        # Transforms keep state during a call, so every thread works on copies of its own.
        if not hasattr(self._local, "copies"):
            normalise = [] if self.first is None else self.first.transforms
            self._local.copies = copy.deepcopy((normalise, self.transforms))
        copies: tuple[list[Any], Any] = self._local.copies
        return copies

    @cached_property
    def preparation(self) -> Preparation:
        """What it says of every image alike: its `fit`, and transforms that are not random."""
        if self.first is not None:
            return self.first
        alike = [part.transform for part in self._parts if part.alike]
        return Preparation(fit=self.fit, normalise=alike or None)

    @property
    def random(self) -> bool:
        """Whether there is more to it than its preparation."""
        if self.first is not None:
            return self.transforms is not None
        return not all(part.alike for part in self._parts)

    @cached_property
    def _parts(self) -> list[parts.Part]:
        return parts.parts(self.transforms)

    @property
    def plain(self) -> "Pipeline":
        """What it does without anything random."""
        return Pipeline(None, self.image_size, first=self.preparation)

    def prepared(self, preparation: Preparation) -> "Pipeline":
        """The same transforms for images of a classifier with this preparation; see `settle`."""
        said = self.preparation
        if preparation == said:
            return self
        if self.first is None and said.normalise is not None:
            return Pipeline(self.transforms, self.image_size, self.seed, fit=preparation.fit)
        return Pipeline(self.transforms, self.image_size, self.seed, first=preparation)

    def to_yaml(self) -> str:
        """The pipeline, its seed and every parameter as YAML text.

        Raises:
            ValueError: if it holds anything but transforms of albumentations or this package.
        """
        from tltoolkit.augment import storage

        return storage.dump(
            self.transforms, self.first, image_size=self.image_size, seed=self.seed, fit=self.fit
        )

    @staticmethod
    def from_yaml(text: str) -> "Pipeline":
        """Build the pipeline that `to_yaml` wrote.

        Only plain data is read and only image transforms are built; whatever else the text asks
        for is refused.

        Raises:
            ValueError: for text that is not a pipeline; the message names the offending part.
        """
        from tltoolkit.augment import storage

        return Pipeline(**storage.parse(text))

    def __repr__(self) -> str:
        head = f"Pipeline(image_size={self.image_size}, seed={self.seed}, fit={self._fit!r}"
        if self.first is not None and self.first.normalise:
            head += f", normalise={list(self.first.normalise)}"
        if self.first is not None and self.first.fit is not None and self.transforms is not None:
            head += ", square first"
        if self.transforms is None:
            return head + ")"
        from tltoolkit.augment import nodes

        return f"{head}, transforms={nodes.text(self.transforms)})"

    def __getstate__(self) -> dict[str, Any]:
        # A `threading.local` cannot be pickled, and holds copies only.
        return {key: value for key, value in self.__dict__.items() if key != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()


def views(
    image: NDArray[np.uint8], pipeline: Pipeline, n: int, *, index: int = 0, plain: bool = True
) -> NDArray[np.uint8]:
    """Several versions of one image, for test-time augmentation and for cached features.

    Args:
        image: (H, W, 3) uint8.
        pipeline: what makes the versions.
        n: how many, >= 1.
        index: which image of the data it is; another index draws other versions.
        plain: whether the first version is the image with nothing random, as evaluation and
            prediction show it.

    Returns:
        (n, image_size, image_size, 3) uint8. Version v is `pipeline(image, v, index)`, but for
        the plain one.

    Raises:
        ValueError: for another kind of image or n.
    """
    _checks.integer("n", n, 1)
    result = [pipeline(image, view, index) for view in range(int(plain), n)]
    if plain:
        # In place of version 0, whose number it takes.
        result.insert(0, pipeline.plain(image))
    return np.stack(result)


def _as_callable(transforms: Transforms) -> Callable[..., Any] | None:
    if isinstance(transforms, Sequence) and not isinstance(transforms, str):
        from tltoolkit.augment import _albumentations

        composed: Callable[..., Any] = _albumentations.compose(transforms)
        return composed
    if transforms is None or callable(transforms):
        return transforms
    raise TypeError(
        str(_checks.fail("transforms", "None, a list of transforms or a callable", transforms))
    )


def _transformed(
    transform: Any, image: NDArray[np.uint8], rng: np.random.Generator, takes_rng: bool = False
) -> Any:
    if hasattr(transform, "set_random_state"):
        # Not A.Compose(seed=...): in albumentations 2.0.8 it gives every child the same stream, and
        # two flips of the same probability then always happen together.
        transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    result = transform(image=image, rng=rng) if takes_rng else transform(image=image)
    result = result["image"] if isinstance(result, Mapping) else result
    images.check_image(result, _ADVICE)
    return result
