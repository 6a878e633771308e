"""The head: from the backbone's feature maps to one logit per class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit._checks import Integer, Number, OneOf, Row, Table
from tltoolkit.layers import spatial
from tltoolkit.layers.spatial import SpatialStatistics

POOLINGS = ("avg", "max", "both", "pyramid")
NORMS = (None, "auto", "batch", "group", "layer")
PYRAMID_LEVELS = (1, 2, 4)  # cells a side; 8 would be more than a 7x7 map has positions
GROUPS = 16  # at most, so that a hidden layer of 64 units has 4 in a group
ALL = "all"
# The fields that say nothing of a head without taps.
TAPPED = ("taps", "statistics")

# `taps` and `statistics` are checked by functions, which say more than a type.
HEAD: Table = {
    "pooling": OneOf(*POOLINGS),
    "hidden": Row(Integer(1), "a tuple of layer sizes"),
    "dropout": Number(0, below=1),
    "l1": Number(0),
    "l2": Number(0),
    "norm": OneOf(*NORMS),
    "batch_size": Integer(1),
    "max_norm": Number(above=0) | None,
}


@dataclass(frozen=True, kw_only=True)
class Head:
    """Settings of a classification head.

    Args:
        pooling: How a feature map becomes a vector: its mean (`"avg"`), its maximum (`"max"`),
            `"both"` side by side, or `"pyramid"`, the means over 1x1, 2x2 and 4x4 cells
            (spatial pyramid pooling, He et al. 2014).
        taps: The blocks that the head reads, by their names in `tl.blocks`: `"all"`, or a tuple
            such as `("block2", "block4")`, from the input up in any order. What no tap needs is
            not part of the network. None reads the last block as `pooling` says. Heads on all
            blocks serve images best that are unlike those of the backbone's training. At which
            layer a block of a backbone is read, `tl.backbones.taps_of` says.
        statistics: What a tap takes of each channel over all positions: `"mean"`, `"std"` (the
            standard deviation) and `"max"`, one or more; for `taps` alone.
        hidden: Units of the ReLU layers between pooling and the logits.
        dropout: Share of the values dropped before each dense layer, in [0, 1).
        l1: L1 penalty on the dense kernels, >= 0.
        l2: L2 penalty on the dense kernels, >= 0.
        norm: Normalisation after each hidden dense layer: None, `"batch"`, `"group"`, `"layer"`
            or `"auto"`, which goes by `batch_size`: batch above 10, group from 2 to 10, layer
            for 1. Batch statistics of few images are too noisy to normalise by.
        batch_size: Images per training step, read by `norm="auto"` alone.
        max_norm: Upper limit of the norm of each unit's incoming weights, or None.

    Raises:
        ValueError: A value out of its range.
    """

    pooling: str = "avg"
    taps: str | tuple[str, ...] | None = None
    statistics: tuple[str, ...] = ("mean",)
    hidden: tuple[int, ...] = ()
    dropout: float = 0.2
    l1: float = 0.0
    l2: float = 0.0
    norm: str | None = None
    # As that of `fine_tune`, of which a head knows nothing.
    batch_size: int = 32
    max_norm: float | None = None

    def __post_init__(self) -> None:
        _checks.fields(HEAD, self)
        object.__setattr__(self, "taps", _taps(self.taps))
        object.__setattr__(self, "statistics", spatial.checked(self.statistics))
        if self.taps is not None and self.pooling != Head.pooling:
            rule = "left out with `taps`, of which `statistics` are taken"
            raise _checks.fail("pooling", rule, self.pooling)
        if self.taps is None and self.statistics != Head.statistics:
            rule = "left out without `taps`, of which they are taken"
            raise _checks.fail("statistics", rule, self.statistics)
        # JSON and YAML give lists, and equal heads shall compare as equal.
        object.__setattr__(self, "hidden", tuple(self.hidden))


def tapped(head: Head, blocks: Sequence[str]) -> tuple[str, ...]:
    """Those of the blocks of a network, from the input up, that the head reads.

    Raises:
        ValueError: A tap that is none of them.
    """
    if head.taps is None:
        return tuple(blocks[-1:])
    for tap in () if head.taps == ALL else head.taps:
        _checks.one_of("taps", tap, blocks)
    # In the order of the network, so that features have one order however taps were written.
    return tuple(block for block in blocks if head.taps == ALL or block in head.taps)


def attach(head: Head, ends: Mapping[str, Any], units: int, seed: int = 0) -> Any:
    """Put the head on maps (B, H, W, F); returns logits (B, units) in float32.

    ReLU layers start with He's initialisation, the last layer with Glorot's. Layer names are
    `head_*` and `logits`.

    Args:
        head: Its settings.
        ends: Name -> output of each block that it reads, one without `taps`.
        units: Logits.
        seed: Of initial weights and dropout.
    """
    # One for each layer, so that no two begin with the same numbers; more than any head has.
    seeds = iter(range(seed, seed + 1000))
    x = _pool(head.pooling, *ends.values()) if head.taps is None else _tap(head.statistics, ends)
    for i, size in enumerate(head.hidden, 1):
        x = _dropout(head, f"head_dropout_{i}", x, next(seeds))
        x = _dense(head, size, "he_normal", f"head_dense_{i}", next(seeds))(x)
        x = _norm(head, f"head_norm_{i}", x)
        x = keras.layers.ReLU(name=f"head_relu_{i}")(x)
    x = _dropout(head, "head_dropout", x, next(seeds))
    # In float32 under any policy: half precision rounds logits to steps that a loss sees.
    return _dense(head, units, "glorot_uniform", "logits", next(seeds), dtype="float32")(x)


def probabilities(
    head: Head, ends: Mapping[str, Any], units: int, multi_label: bool, seed: int = 0
) -> Any:
    """The same, and after it probabilities: of each unit by itself where `multi_label`."""
    logits = attach(head, ends, units, seed)
    activation = "sigmoid" if multi_label else "softmax"
    # A layer of its own, so that the loss can be taken from the logits before it.
    return keras.layers.Activation(activation, dtype="float32", name="probabilities")(logits)


def checked(head: Head) -> Head:
    """The head, if all that it says is looked at.

    Not part of `Head` itself, because files of older models may say more.

    Raises:
        TypeError: No head.
        ValueError: A normalisation without hidden layers, a batch size without `norm="auto"`.
    """
    _checks.instance("head", head, Head, "a tl.Head")
    if head.norm is not None and not head.hidden:
        raise _checks.fail("norm", "None without hidden layers, which it normalises", head.norm)
    if head.norm != "auto" and head.batch_size != Head.batch_size:
        rule = "left out without norm='auto', which alone goes by it"
        raise _checks.fail("batch_size", rule, head.batch_size)
    return head


def norm_for_batch(batch_size: int) -> str:
    """The normalisation that `norm="auto"` stands for at this batch size."""
    # Below it BatchNorm's error grows fast (Wu and He 2018, "Group Normalization", figure 1).
    if batch_size > 10:
        return "batch"
    return "group" if batch_size > 1 else "layer"


def _taps(taps: Any) -> str | tuple[str, ...] | None:
    if taps is None or taps == ALL:
        return taps
    rule = f"None, {ALL!r} or a tuple of one or more different names of blocks"
    named = isinstance(taps, (tuple, list)) and all(isinstance(tap, str) for tap in taps)
    if not named or not taps or len(set(taps)) < len(taps):
        raise _checks.fail("taps", rule, taps)
    return tuple(taps)


def _tap(statistics: tuple[str, ...], ends: Mapping[str, Any]) -> Any:
    # In float32 whatever the blocks compute in: these are stored, solved on and compared.
    parts = [
        SpatialStatistics(statistics, name=f"head_{block}", dtype="float32")(end)
        for block, end in ends.items()
    ]
    if len(parts) == 1:
        return parts[0]
    return keras.layers.Concatenate(name="head_features", dtype="float32")(parts)


def _pool(pooling: str, x: Any) -> Any:
    average = keras.layers.GlobalAveragePooling2D(name="head_avg")
    maximum = keras.layers.GlobalMaxPooling2D(name="head_max")
    if pooling == "avg":
        return average(x)
    if pooling == "max":
        return maximum(x)
    if pooling == "both":
        return keras.layers.Concatenate(name="head_pool")([average(x), maximum(x)])
    # A map smaller than the grid has no finer cells to offer.
    levels = [n for n in PYRAMID_LEVELS if n <= min(x.shape[1:3])]
    cells = [_cells(n, x) for n in levels]
    return keras.layers.Concatenate(name="head_pool")(cells) if len(cells) > 1 else cells[0]


def _cells(n: int, x: Any) -> Any:
    # In a graph Keras' layer fails for a single cell, whatever the map (3.15.1).
    if n == 1:
        return keras.layers.GlobalAveragePooling2D(name="head_cells_1")(x)
    pooled = keras.layers.AdaptiveAveragePooling2D(n, name=f"head_cells_{n}")(x)
    return keras.layers.Flatten(name=f"head_flat_{n}")(pooled)


def _dropout(head: Head, name: str, x: Any, seed: int) -> Any:
    return keras.layers.Dropout(head.dropout, seed=seed, name=name)(x) if head.dropout else x


def _dense(head: Head, units: int, initializer: str, name: str, seed: int, **kwargs: Any) -> Any:
    kernel = {"class_name": initializer, "config": {"seed": seed}}
    penalised = head.l1 or head.l2
    return keras.layers.Dense(
        units,
        kernel_initializer=keras.initializers.get(kernel),
        # None and not a penalty of 0, which would be added up in every step.
        kernel_regularizer=keras.regularizers.L1L2(head.l1, head.l2) if penalised else None,
        kernel_constraint=keras.constraints.MaxNorm(head.max_norm) if head.max_norm else None,
        name=name,
        **kwargs,
    )


def _norm(head: Head, name: str, x: Any) -> Any:
    norm = norm_for_batch(head.batch_size) if head.norm == "auto" else head.norm
    if norm == "batch":
        return keras.layers.BatchNormalization(name=name)(x)
    if norm == "group":
        # Keras takes only a number of groups that divides the units.
        units = x.shape[-1]
        groups = next(g for g in range(min(GROUPS, units), 0, -1) if units % g == 0)
        return keras.layers.GroupNormalization(groups, name=name)(x)
    return keras.layers.LayerNormalization(name=name)(x) if norm == "layer" else x
