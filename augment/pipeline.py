"""Pipeline: random transforms that give the same image for the same seed, epoch and index."""

import copy
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment import images, keys

Transforms = Callable[..., Any] | Sequence[Any] | None

_ADVICE = (
    " after the transforms; leave out Normalize and ToTensorV2, a model here scales pixels itself"
)


class Pipeline:
    """Image in, augmented square image out, reproducible in any thread, process or resumed run.

    The random numbers of an image depend on (seed, epoch, index) alone. Within an image every
    transform draws its own, so that two flips of the same probability are independent.

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
        fit: how the final `resize` makes a square: "squash", "crop" or "pad".

    Raises:
        TypeError: for transforms of another kind.
        ValueError: for another image_size, seed or fit.
    """

    def __init__(
        self, transforms: Transforms, image_size: int, seed: int = 0, *, fit: str = "squash"
    ) -> None:
        _checks.integer("image_size", image_size, 1)
        _checks.integer("seed", seed, 0)
        _checks.one_of("fit", fit, images.FITS)
        self.transforms = _as_callable(transforms)
        self.image_size = int(image_size)
        self.seed = int(seed)
        self.fit = fit
        self._takes_rng = self.transforms is not None and _checks.takes(self.transforms, "rng")
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
        if self.transforms is not None:
            rng = keys.keyed(self.seed, keys.AUGMENT, epoch, index)
            image = self._transform(image, rng)
            images.check_image(image, _ADVICE)
        return images.resize(image, self.image_size, self.fit)

    def _transform(self, image: NDArray[np.uint8], rng: np.random.Generator) -> Any:
        transform = self._own_copy()
        if hasattr(transform, "set_random_state"):
            transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        result = transform(image=image, rng=rng) if self._takes_rng else transform(image=image)
        return result["image"] if isinstance(result, Mapping) else result

    def _own_copy(self) -> Any:
        # Transforms keep state during a call, so every thread works on a copy of its own.
        if not hasattr(self._local, "transforms"):
            self._local.transforms = copy.deepcopy(self.transforms)
        return self._local.transforms

    def to_yaml(self) -> str:
        """The pipeline, its seed and every parameter as YAML text.

        Raises:
            ValueError: if it holds anything but transforms of albumentations or this package.
        """
        from tltoolkit.augment import storage

        return storage.dump(self)

    @staticmethod
    def from_yaml(text: str) -> "Pipeline":
        """Build the pipeline that `to_yaml` wrote.

        Only plain data is read and only image transforms are built; whatever else the text asks
        for is refused.

        Raises:
            ValueError: for text that is not a pipeline; the message names the offending part.
        """
        from tltoolkit.augment import storage

        return storage.parse(text)

    def __repr__(self) -> str:
        head = f"Pipeline(image_size={self.image_size}, seed={self.seed}, fit={self.fit!r}"
        if self.transforms is None:
            return head + ")"
        return f"{head}, transforms={_shown(self.transforms)})"

    def __getstate__(self) -> dict[str, Any]:
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
        plain: whether the first version is the image itself, resized and not augmented.

    Returns:
        (n, image_size, image_size, 3) uint8. Version v is `pipeline(image, v, index)`, but for
        the plain one.

    Raises:
        ValueError: for another kind of image or n.
    """
    _checks.integer("n", n, 1)
    result = [pipeline(image, view, index) for view in range(int(plain), n)]
    if plain:
        result.insert(0, images.resize(image, pipeline.image_size, pipeline.fit))
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


def _shown(transforms: Any) -> str:
    from tltoolkit.augment import _albumentations

    known = hasattr(transforms, "set_random_state")
    return _albumentations.text(transforms) if known else _albumentations.anywhere(transforms)
