"""What of some transforms is the same for every image, and what is random, found by trying."""

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks

# Tries that must agree: a turn by a random multiple of 90 degrees agrees once in 4^15 times.
TRIES = 16
# Pictures to try on, (height, width): odd, so that no crop happens to fit; the small one for
# what only happens to small images, the large one for crops that need more than the first has.
SIZES, LARGE = ((131, 97), (7, 11)), (1301, 1103)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One transform of several.

    Attributes:
        transform: the transform.
        fixed: whether it did the same to a picture in all tries; never with a probability below
            1, a parameter `rng`, or where it could not be tried.
        changed: whether it was seen to change a picture.
    """

    transform: Any
    fixed: bool
    changed: bool

    @property
    def alike(self) -> bool:
        """Whether it is taken to be the same for every image.

        A function that was never seen to change a picture may be one that seldom does.
        """
        return self.fixed and (self.changed or hasattr(self.transform, "set_random_state"))


def parts(transforms: Any) -> list[Part]:
    """Every transform that can happen, in order.

    Lists and compositions of albumentations that always run are looked into.
    """
    if transforms is None:
        return []
    # Only transforms of albumentations have it; all else is a function of somebody's.
    if not hasattr(transforms, "set_random_state"):
        return [_tried(transforms, _call(transforms), not takes_rng(transforms))]
    if getattr(transforms, "p", 1) <= 0:
        return []
    # Not at the top: functions have been dealt with above, and need no albumentations.
    from tltoolkit.augment._albumentations import A

    # By type: other compositions choose among their children.
    if type(transforms) in (A.Compose, A.Sequential) and transforms.p >= 1:
        return [part for child in transforms.transforms for part in parts(child)]
    return [_tried(transforms, _seeded(transforms), transforms.p >= 1)]


def takes_rng(function: Any) -> bool:
    """Whether a callable has a parameter `rng`."""
    return function is not None and _checks.takes(function, "rng")


# From a picture and the number of a try to what becomes of the picture.
Once = Callable[[NDArray[np.uint8], int], Any]


def _tried(transform: Any, once: Once, may_be_fixed: bool) -> Part:
    # Not tried: a probability below 1 is random, whatever some tries would show.
    if not may_be_fixed:
        return Part(transform=transform, fixed=False, changed=True)
    found = [outcome for size in SIZES if (outcome := _outcome(once, size)) is not None]
    if not found:
        # Only now, as sixteen tries on a large picture take a while.
        found = [outcome for outcome in [_outcome(once, LARGE)] if outcome is not None]
    fixed = bool(found) and all(same for same, _ in found)
    return Part(transform=transform, fixed=fixed, changed=any(changed for _, changed in found))


def _outcome(once: Once, size: tuple[int, int]) -> tuple[bool, bool] | None:
    """Whether all tries agree, and whether they changed the picture; None if it cannot be tried."""
    picture = _picture(size)
    try:
        # A copy for each: some transforms write into their input.
        first, *rest = (np.asarray(once(picture.copy(), i)) for i in range(TRIES))
    except Exception:  # a transform of anybody's may raise anything
        return None
    same = all(np.array_equal(first, other) for other in rest)
    return same, not np.array_equal(first, picture)


def _seeded(transform: Any) -> Once:
    # The user's own keeps its state, and may be in use in a thread.
    tried = copy.deepcopy(transform)

    def once(picture: NDArray[np.uint8], number: int) -> Any:
        tried.set_random_state(np.random.default_rng(number), random.Random(number))
        return tried(image=picture)["image"]

    return once


def _call(function: Any) -> Once:
    def once(picture: NDArray[np.uint8], number: int) -> Any:
        result = function(image=picture)
        return result["image"] if isinstance(result, Mapping) else result

    return once


def _picture(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Noise of a part of the range on a slope, so that whatever stretches contrast shows."""
    height, width = size
    noise = np.random.default_rng(0).integers(0, 90, (height, width, 3))
    slope = np.linspace(40, 110, width)[None, :, None]
    return (noise + slope).astype(np.uint8)
