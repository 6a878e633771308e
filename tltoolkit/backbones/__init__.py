"""One table of pretrained image backbones: what each is made of, and how to build it.

`names`, `get` and `blocks_of` read the table and need no Keras; the others load it.
"""

from typing import TYPE_CHECKING, Any

from tltoolkit.backbones.table import Backbone, blocks_of, get, names

if TYPE_CHECKING:
    from tltoolkit.backbones.assemble import build, check_weights

__all__ = ["Backbone", "blocks_of", "build", "check_weights", "get", "names"]


def __getattr__(name: str) -> Any:
    if name in ("build", "check_weights"):
        from tltoolkit.backbones import assemble

        return getattr(assemble, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
