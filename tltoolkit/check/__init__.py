"""What to ask when training does not work: of the network, of its gradients, of the data.

Names are imported when they are first used. A module here never has the name of a function,
because Python would put the module in its place.
"""

import importlib
from typing import Any

_LAZY = {"capacity": "overfitting", "data": "first_batch", "gradients": "derivatives"}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"tltoolkit.check.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'tltoolkit.check' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
