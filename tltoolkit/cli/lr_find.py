"""Find a learning rate for a stage of training."""

import argparse
from typing import TextIO

from tltoolkit._checks import OneOf
from tltoolkit.cli import options, outputs
from tltoolkit.plans.terms import OPTIMIZERS
from tltoolkit.tune.terms import FEWEST_OF_SWEEP, FIND_LR


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    outputs.add_plot(parser)
    add = parser.add_argument
    add("--unfreeze", default="head", help="what trains: head (default), all, a number of blocks")
    add(
        "--mode",
        **options.allowing(FIND_LR["mode"], "a ladder is slower and surer", default="sweep"),
    )
    # The table has the smaller bound; a sweep's own is only told, and checked by `find_lr`.
    steps = f"of each rung of the ladder, or of the sweep, which takes {FEWEST_OF_SWEEP} or more"
    add("--steps", **options.allowing(FIND_LR["steps"], steps))
    coming = "of the stage to come"
    add("--optimizer", **options.allowing(OneOf(*OPTIMIZERS), coming, default="adamw"))
    add("--batch-size", **options.allowing(FIND_LR["batch_size"], "images per step", default=32))


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the advice."""
    outputs.check_plot(args)
    data = options.load_data(args)
    tl = options.toolkit(args)
    found = tl.tune.find_lr(
        options.build_model(args, data),
        data,
        unfreeze=options.unfreeze(args),
        mode=args.mode,
        steps=args.steps,
        batch_size=args.batch_size,
        seed=args.seed,
        optimizer=args.optimizer,
    )
    told = {
        "suggestion": found.suggestion,
        "suggestions": dict(found.suggestions),
        "advice": found.advice,
    }
    outputs.show(args, out, told, found)
    outputs.draw(args, found.plot)
    return 0
