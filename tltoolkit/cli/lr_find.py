"""Find a learning rate for a stage of training."""

import argparse
import json
from typing import TextIO

from tltoolkit.cli import options


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    options.add_plot(parser)
    add = parser.add_argument
    add("--unfreeze", default="head", help="what trains: head (default), all, a number of blocks")
    add("--mode", default="sweep", help="sweep (default), or ladder: slower and surer")
    add("--steps", type=int, help="of the sweep, or of each rung of the ladder")
    add("--optimizer", default="adamw", help="of the stage to come (default %(default)s)")
    add("--batch-size", type=int, default=32, help="images per step (default %(default)s)")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the advice."""
    tl = options.toolkit(args)
    data = options.load_data(args).check()
    found = tl.tune.find_lr(
        options.build_model(args, data),
        data,
        unfreeze=int(args.unfreeze) if args.unfreeze.isdigit() else args.unfreeze,
        mode=args.mode,
        steps=args.steps,
        batch_size=args.batch_size,
        seed=args.seed,
        optimizer=args.optimizer,
    )
    options.draw(args, found.plot)
    told = {
        "suggestion": found.suggestion,
        "suggestions": dict(found.suggestions),
        "advice": found.advice,
    }
    print(json.dumps(told, indent=2) if args.json else found, file=out)
    return 0
