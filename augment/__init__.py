"""Image augmentation and feeding that need nothing else of the toolkit."""

if __name__ != "tltoolkit.augment":
    # A second copy under the bare name would register its classes with Keras twice.
    raise ImportError("import it as `tltoolkit.augment`: pip install tltoolkit")

import importlib
from typing import Any

from tltoolkit.augment.feeder import Batches, feed
from tltoolkit.augment.figure import preview
from tltoolkit.augment.images import resize
from tltoolkit.augment.mixing import cutmix, mixup
from tltoolkit.augment.pipeline import Pipeline, views
from tltoolkit.augment.preparation import Preparation
from tltoolkit.augment.presets import PRESETS, choose, preset

# The transforms load albumentations and the layers load Keras: only when first used.
_LAZY = {
    "GlobalContrast": "transforms",
    "LocalContrast": "transforms",
    "GlobalContrastNormalization": "layers",
    "LocalContrastNormalization": "layers",
}

__all__ = [
    "PRESETS",
    "Batches",
    "Pipeline",
    "Preparation",
    "choose",
    "cutmix",
    "feed",
    "mixup",
    "preset",
    "preview",
    "resize",
    "views",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"tltoolkit.augment.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'tltoolkit.augment' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
