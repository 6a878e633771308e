"""Settings found by measuring: rate, batch size, amount of data, plan and backbone.

Names are imported when they are first used. A module here never has the name of a function,
because Python would put the module in its place.
"""

import importlib
from typing import Any

_LAZY = {
    "climb": "climbing",
    "find_batch_size": "batch_size",
    "find_lr": "rate",
    "learning_curve": "curve",
    "search": "searching",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"tltoolkit.tune.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'tltoolkit.tune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
