"""Check whether a classifier can learn a few images by heart."""

import argparse
import dataclasses
from typing import TextIO

from tltoolkit.check.terms import CAPACITY
from tltoolkit.cli import options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    outputs.add_plot(parser)
    add = parser.add_argument
    add("--samples", **options.allowing(CAPACITY["samples"], "images to learn", default=20))
    add("--steps", **options.allowing(CAPACITY["steps"], "most steps of an attempt", default=150))
    add("--unfreeze", default="all", help="what trains: all (default), head, a number of blocks")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the verdict."""
    # Before the images are read: a name that cannot be written is known at once.
    outputs.check_plot(args)
    data = options.load_data(args)
    tl = options.toolkit(args)
    # Bad images are told before a backbone is built.
    data = data.check()
    model = options.build_model(args, data)
    tl.freeze(model, options.unfreeze(args))
    found = tl.check.capacity(model, data, args.samples, steps=args.steps, seed=args.seed)
    told = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    # A loss for each step is for the figure; scripts get the verdict.
    del told["attempts"]
    outputs.show(args, out, told, found)
    # After the result is printed, so that it is not lost with a figure that fails.
    outputs.draw(args, found.plot)
    return 0
