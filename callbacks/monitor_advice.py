"""What the numbers of a training run say, in sentences."""

import math
from collections.abc import Sequence
from typing import Any

# Update-to-weight ratio of one step: healthy near 1e-3; two orders of magnitude are far off.
UPDATE_LOW, UPDATE_HIGH = 1e-5, 1e-1
GRADIENT_HIGH = 1e3  # a rule of thumb: far above what a layer has in a run that learns
# Of the largest norm among the layers: what is small depends on the loss and its scale.
GRADIENT_LOW_SHARE = 1e-6
DEAD_HIGH = 0.5  # ReLU layers that learn have dead units too, but not most of them

COLUMNS = ("layer", "kind", "min", "max", "mean", "norm", "dead", "update_ratio")


def advice(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One sentence for each number that is far off.

    Args:
        rows: the records of one moment, as `TrainingMonitor.records` holds them.

    >>> rows = [{"layer": "a", "kind": "gradients", "norm": 5e3, "dead": None}]
    >>> advice(rows)
    ['a: exploding gradients (norm 5e+03): clip them or lower the learning rate']
    """
    gradients = [row["norm"] for row in rows if row["kind"] == "gradients"]
    # Of the finite ones: beside an infinite one all others would be vanishing.
    largest = max((norm for norm in gradients if math.isfinite(norm)), default=0.0)
    found = (sentence(row, largest) for row in rows)
    return [f"{row['layer']}: {text}" for row, text in zip(rows, found, strict=True) if text]


def sentence(row: dict[str, Any], largest_gradient: float) -> str | None:
    """What is wrong with one record, or None."""
    # First, as a NaN is neither high nor low.
    if not math.isfinite(row["norm"]):
        return f"{row['kind']} are not finite"
    if row["kind"] == "gradients":
        return _gradient(row["norm"], largest_gradient)
    if row["kind"] == "activations" and (row.get("dead") or 0) > DEAD_HIGH:
        return f"{row['dead']:.0%} of the units are dead (0 for the whole batch)"
    ratio = row.get("update_ratio")
    if ratio is not None and ratio > UPDATE_HIGH:
        return f"update-to-weight ratio {ratio:.1g} (healthy near 1e-3): lower the learning rate"
    if ratio is not None and ratio < UPDATE_LOW:
        return f"update-to-weight ratio {ratio:.1g} (healthy near 1e-3): raise the learning rate"
    return None


def _gradient(norm: float, largest: float) -> str | None:
    if norm > GRADIENT_HIGH:
        return f"exploding gradients (norm {norm:.1g}): clip them or lower the learning rate"
    if norm < GRADIENT_LOW_SHARE * largest:
        return f"vanishing gradients (norm {norm:.1g}, the largest is {largest:.1g})"
    return None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The records of one moment as aligned text."""
    cells = [list(COLUMNS), *([_cell(row.get(name)) for name in COLUMNS] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = (
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    )
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}"
