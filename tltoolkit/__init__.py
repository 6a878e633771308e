"""Transfer learning for images with Keras 3.

Every name is imported when it is first used, so that `import tltoolkit` loads neither
TensorFlow nor Keras.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "augment",
    "backbones",
    "callbacks",
    "check",
    "data",
    "evaluation",
    "foreign",
    "imbalance",
    "losses",
    "plans",
    "surgery",
    "tune",
)
_NAMES = {
    "Head": "head",
    "Imbalance": "imbalance",
    "Plan": "stages",
    "Report": "evaluation",
    "Stage": "stages",
    "blocks": "model",
    "build_classifier": "model",
    "cross_validate": "cross_validation",
    "evaluate": "evaluating",
    "fine_tune": "train",
    "freeze": "model",
    "load": "artifact",
    "preparation_of": "model",
    "refit": "refitting",
    "save": "artifact",
}

__all__ = sorted([*_ROOMS, *_NAMES])


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"tltoolkit.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"tltoolkit.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'tltoolkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
