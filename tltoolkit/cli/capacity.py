"""Check whether a classifier can learn a few images by heart."""

import argparse
import dataclasses
import json
from typing import TextIO

from tltoolkit.cli import options


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    options.add_plot(parser)
    add = parser.add_argument
    add("--samples", type=int, default=20, help="images to learn (default %(default)s)")
    add("--steps", type=int, default=150, help="most steps of an attempt (default %(default)s)")
    add("--unfreeze", default="all", help="what trains: all (default), head, a number of blocks")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the verdict."""
    tl = options.toolkit(args)
    data = options.load_data(args).check()
    model = options.build_model(args, data)
    tl.freeze(model, int(args.unfreeze) if args.unfreeze.isdigit() else args.unfreeze)
    found = tl.check.capacity(model, data, args.samples, steps=args.steps, seed=args.seed)
    options.draw(args, found.plot)
    told = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    del told["attempts"]
    print(json.dumps(told, indent=2) if args.json else found, file=out)
    return 0
