"""Image augmentation and feeding that need nothing else of the toolkit."""

if __name__ != "tltoolkit.augment":
    # A second copy under the bare name would register its classes with Keras twice.
    raise ImportError("import it as `tltoolkit.augment`: pip install tltoolkit")

import lazy_loader

from tltoolkit.augment.feeder import Batches, feed
from tltoolkit.augment.figure import preview
from tltoolkit.augment.images import resize
from tltoolkit.augment.mixing import cutmix, mixup
from tltoolkit.augment.pipeline import Pipeline, views
from tltoolkit.augment.preparation import Preparation
from tltoolkit.augment.presets import PRESETS, choose, preset

# The transforms load albumentations and the layers load Keras: only when first used.
__getattr__, __dir__, _lazy = lazy_loader.attach(
    __name__,
    submod_attrs={
        "layers": ["GlobalContrastNormalization", "LocalContrastNormalization"],
        "transforms": ["GlobalContrast", "LocalContrast"],
    },
)

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
    *_lazy,
]
