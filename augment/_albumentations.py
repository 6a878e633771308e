"""albumentations, imported in one place because what it does when imported must be stopped first.

It is pinned and no longer maintained; replacing it means replacing this file, `nodes`, the tables
of `presets` and the two classes of `transforms`.
"""

import os
from collections.abc import Sequence
from typing import Any

# Without this the import asks the network for a newer version (2.0.8).
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A  # noqa: N812

from tltoolkit import _checks

__all__ = ["KINDS", "A", "compose"]

# Both are needed: a Compose is no BasicTransform.
KINDS = (A.BasicTransform, A.BaseCompose)


def compose(transforms: Sequence[Any]) -> Any:
    """One Compose of a list of albumentations transforms, in this order."""
    for transform in transforms:
        if not isinstance(transform, KINDS):
            raise TypeError(
                str(_checks.fail("transforms", "a list of albumentations transforms", transform))
            )
    return A.Compose(list(transforms))
