"""The names of this room, for type checkers and for `lazy_loader`, which reads them here."""

from .feeder import Batches, feed
from .figure import preview
from .images import resize
from .layers import GlobalContrastNormalization, LocalContrastNormalization
from .mixing import cutmix, mixup
from .pipeline import Pipeline, views
from .preparation import Preparation
from .presets import choose, preset
from .terms import PRESETS
from .transforms import GlobalContrast, LocalContrast

__all__ = [
    "PRESETS",
    "Batches",
    "GlobalContrast",
    "GlobalContrastNormalization",
    "LocalContrast",
    "LocalContrastNormalization",
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
]
