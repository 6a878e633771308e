"""Find a learning rate for a stage of training."""

import argparse
from typing import TextIO

from tltoolkit.cli import options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    outputs.add_plot(parser)
    add = parser.add_argument
    add("--unfreeze", default="head", help="what trains: head (default), all, a number of blocks")
    add(
        "--mode",
        default="sweep",
        choices=("sweep", "ladder"),
        help="sweep (default), or ladder: slower and surer",
    )
    add("--steps", type=options.whole(1), help="of the sweep, or of each rung of the ladder")
    add("--optimizer", default="adamw", help="of the stage to come (default %(default)s)")
    add(
        "--batch-size",
        type=options.whole(1),
        default=32,
        help="images per step (default %(default)s)",
    )


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
