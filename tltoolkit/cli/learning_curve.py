"""Forecast what more training images would bring."""

import argparse
import dataclasses
import json
from typing import TextIO

from tltoolkit.cli import options, settings


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    options.add_plot(parser)
    add = parser.add_argument
    add("--sizes", help="numbers of training images, as 50,100,200; six of them if left out")
    add("--repeats", type=int, default=3, help="trainings per size (default %(default)s)")
    add("--plan", help="as for fit; if left out only the head is trained, which is quick")
    add("--on", default="val", help="the split that scores: val (default) or test")
    add("--metric", default="f1_macro", help="f1_macro (default) or accuracy")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the curve and its forecast."""
    sizes = args.sizes and [int(size) for size in args.sizes.split(",")]
    text = settings.text_of(args.plan)
    tl = options.toolkit(args)
    data = options.load_data(args)
    found = tl.tune.learning_curve(
        lambda: options.build_model(args, data),
        data,
        sizes,
        args.repeats,
        plan=tl.Plan.from_yaml(text) if text else args.plan,
        on=args.on,
        metric=args.metric,
        seed=args.seed,
        **({"verbose": 0} if args.plan else {}),
    )
    options.draw(args, found.plot)
    told = {
        "points": [dataclasses.asdict(point) for point in found.points],
        "doubled": dataclasses.asdict(found.doubled),
        "advice": found.advice,
    }
    print(json.dumps(told, indent=2) if args.json else found, file=out)
    return 0
