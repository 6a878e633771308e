"""The head: from the backbone's last feature map to one logit per class."""

from dataclasses import dataclass
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit._checks import Integer, Number, OneOf, Row, Table

POOLINGS = ("avg", "max", "both", "pyramid")
NORMS = (None, "auto", "batch", "group", "layer")
PYRAMID_LEVELS = (1, 2, 4)
GROUPS = 16

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
    hidden: tuple[int, ...] = ()
    dropout: float = 0.2
    l1: float = 0.0
    l2: float = 0.0
    norm: str | None = None
    batch_size: int = 32
    max_norm: float | None = None

    def __post_init__(self) -> None:
        _checks.fields(HEAD, self)
        object.__setattr__(self, "hidden", tuple(self.hidden))


def attach(head: Head, features: Any, units: int, seed: int = 0) -> Any:
    """Put the head on a feature map (B, H, W, F); returns logits (B, units) in float32.

    ReLU layers start with He's initialisation, the last layer with Glorot's. Layer names are
    `head_*` and `logits`.
    """
    seeds = iter(range(seed, seed + 1000))
    x = _pool(head.pooling, features)
    for i, size in enumerate(head.hidden, 1):
        x = _dropout(head, f"head_dropout_{i}", x, next(seeds))
        x = _dense(head, size, "he_normal", f"head_dense_{i}", next(seeds))(x)
        x = _norm(head, f"head_norm_{i}", x)
        x = keras.layers.ReLU(name=f"head_relu_{i}")(x)
    x = _dropout(head, "head_dropout", x, next(seeds))
    return _dense(head, units, "glorot_uniform", "logits", next(seeds), dtype="float32")(x)


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
    if batch_size > 10:
        return "batch"
    return "group" if batch_size > 1 else "layer"


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
        units = x.shape[-1]
        groups = next(g for g in range(min(GROUPS, units), 0, -1) if units % g == 0)
        return keras.layers.GroupNormalization(groups, name=name)(x)
    return keras.layers.LayerNormalization(name=name)(x) if norm == "layer" else x
