"""List the pretrained backbones."""

import argparse
import dataclasses
from typing import TextIO

from tltoolkit.cli import outputs


def add(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the table."""
    from tltoolkit import backbones

    found = [backbones.get(name) for name in backbones.names()]
    if args.json:
        shown = ("name", "family", "parameters", "image_size", "min_size", "blocks", "next")
        # Not all fields: how a backbone is built is no promise to scripts.
        rows = [{name: dataclasses.asdict(one)[name] for name in shown} for one in found]
        # In an object, since what `show` adds to a result needs names.
        outputs.show(args, out, {"backbones": rows}, None)
        return 0
    print(f"{'name':<20}{'parameters':>12}{'pixels':>8}  next larger", file=out)
    for one in found:
        size = f"{one.parameters / 1e6:.1f} M"
        print(f"{one.name:<20}{size:>12}{one.image_size:>8}  {one.next or ''}".rstrip(), file=out)
    return 0
