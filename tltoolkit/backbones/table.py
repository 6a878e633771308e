"""The table of backbones: what each is made of, free of Keras so that it loads at once."""

from collections.abc import Iterable

from tltoolkit import _checks
from tltoolkit.backbones import rows_deep, rows_inception, rows_mobile
from tltoolkit.backbones.row import Backbone

_TABLE = {row.name: row for row in (*rows_deep.ROWS, *rows_mobile.ROWS, *rows_inception.ROWS)}


def names() -> tuple[str, ...]:
    """The names of all backbones, families together, small before large."""
    return tuple(_TABLE)


def get(name: str) -> Backbone:
    """The row of the table for a name.

    Raises:
        ValueError: there is no backbone of that name.
    """
    _checks.one_of("backbone", name, _TABLE)
    return _TABLE[name]


def blocks_of(name: str, layer_names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Sort the layers of a model into the blocks of its backbone.

    Args:
        name: name of the backbone that the model was built with.
        layer_names: names of the model's layers, in the model's order.

    Returns:
        Block -> names of its layers, both from the input up. The preprocessing belongs to
        the first block. Layers of no block, the input and the head, are left out.

    Raises:
        ValueError: there is no backbone of that name.
    """
    backbone = get(name)
    found: dict[str, list[str]] = {block: [] for block in backbone.blocks}
    for layer_name in layer_names:
        block = backbone.block_of(layer_name)
        if block is not None:
            found[block].append(layer_name)
    return {block: tuple(members) for block, members in found.items()}


def taps_of(name: str, layer_names: Iterable[str]) -> dict[str, str]:
    """Block -> the layer at which a head on blocks reads it; arguments as those of `blocks_of`.

    Blocks without layers are left out.
    """
    backbone = get(name)
    blocks = blocks_of(name, layer_names)
    return {block: backbone.tap_of(layers) for block, layers in blocks.items() if layers}
