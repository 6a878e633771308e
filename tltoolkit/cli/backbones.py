"""List the pretrained backbones."""

import argparse
import dataclasses
from typing import Any, TextIO

from tltoolkit.cli import outputs

# Not all fields: how a backbone is built is no promise to scripts.
_SHOWN = (
    "name",
    "family",
    "parameters",
    "image_size",
    "min_size",
    "multiply_adds",
    "top1",
    "top1_source",
    "blocks",
    "next",
    "origin",
)
Row = dict[str, Any]


def add(parser: argparse.ArgumentParser) -> None:
    """Declare which are listed, and whether they are timed."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="those to list; all if left out")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="time each on this machine, which takes some seconds for each: milliseconds an image "
        "of its size, in batches of 8",
    )


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the table."""
    from tltoolkit import backbones

    # All names are looked at before the first is timed.
    found = [backbones.get(name) for name in args.names or backbones.names()]
    rows = [_row(one, args.measure) for one in found]
    # In an object, since what `show` adds to a result needs names.
    outputs.show(args, out, {"backbones": rows}, _table(rows, args.measure))
    return 0


def _row(backbone: Any, measure: bool) -> Row:
    from tltoolkit.backbones import origins

    values = dataclasses.asdict(backbone)
    row = {name: values[name] for name in _SHOWN}
    here = origins.weights_here(backbone.name)
    row |= {
        "weights": "here" if here else origins.way_to_weights(backbone),
        "weights_file": None if here is None else str(here),
    }
    if measure:
        from tltoolkit.backbones.measuring import milliseconds

        row["milliseconds"] = milliseconds(backbone.name)
    return row


def _table(rows: list[Row], measure: bool) -> str:
    timed = f"{'ms/image':>10}" if measure else ""
    heads = ("parameters", "pixels", "multiply-adds", "top-1")
    lines = [
        f"{'name':<20}{heads[0]:>12}{heads[1]:>8}{heads[2]:>15}{heads[3]:>9}{timed}  "
        f"{'next larger':<20}weights"
    ]
    for row in rows:
        top1 = f"{row['top1']:.1f} %" if row["top1"] else ""
        timed = f"{row['milliseconds']:>10.1f}" if measure else ""
        lines.append(
            f"{row['name']:<20}{row['parameters'] / 1e6:>10.1f} M{row['image_size']:>8}"
            f"{row['multiply_adds'] / 1e9:>13.2f} G{top1:>9}{timed}  {row['next'] or '':<20}"
            f"{row['weights']}"
        )
    sources = dict.fromkeys(row["top1_source"] for row in rows if row["top1"])
    said = [f"top-1: accuracy on ImageNet's validation images, by {'; '.join(sources)}"]
    return "\n".join([*lines, *(said if sources else [])])
