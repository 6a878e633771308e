"""One table of pretrained image backbones: what each is made of, and how to build it.

`build`, `check_weights` and `milliseconds` load Keras; the others read the table and need none.
"""

from typing import TYPE_CHECKING, Any

from tltoolkit.backbones.origins import weights_here
from tltoolkit.backbones.row import Backbone
from tltoolkit.backbones.table import blocks_of, get, names, taps_of

if TYPE_CHECKING:
    from tltoolkit.backbones.assemble import build, check_weights
    from tltoolkit.backbones.measuring import milliseconds

__all__ = [
    "Backbone",
    "blocks_of",
    "build",
    "check_weights",
    "get",
    "milliseconds",
    "names",
    "taps_of",
    "weights_here",
]


def __getattr__(name: str) -> Any:
    if name in ("build", "check_weights"):
        from tltoolkit.backbones import assemble

        return getattr(assemble, name)
    if name == "milliseconds":
        from tltoolkit.backbones import measuring

        return measuring.milliseconds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
