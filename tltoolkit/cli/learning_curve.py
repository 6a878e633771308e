"""Forecast what more training images would bring."""

import argparse
import dataclasses
from typing import TextIO

from tltoolkit.cli import options, outputs, settings
from tltoolkit.tune.terms import LEARNING_CURVE


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    options.add_model(parser)
    outputs.add_plot(parser)
    add = parser.add_argument
    add(
        "--sizes",
        type=sizes,
        help="numbers of training images, as 50,100,200; six of them if left out",
    )
    repeats = options.allowing(LEARNING_CURVE["repeats"], "trainings per size", default=3)
    add("--repeats", **repeats)
    add("--plan", help="as for fit; if left out only the head is trained, which is quick")
    add("--on", **options.allowing(LEARNING_CURVE["on"], "what scores", default="val"))
    metric = options.allowing(LEARNING_CURVE["metric"], "the score", default="f1_macro")
    add("--metric", **metric)


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the curve and its forecast."""
    outputs.check_plot(args)
    plan = None if args.plan is None else settings.plan_of(args.plan)
    data = options.load_data(args)
    tl = options.toolkit(args)
    found = tl.tune.learning_curve(
        # Anew for each training: a model that has learned would spoil the next point.
        lambda: options.build_model(args, data),
        data,
        args.sizes,
        args.repeats,
        plan=plan,
        on=args.on,
        metric=args.metric,
        seed=args.seed,
        # Without a plan nothing goes to `fine_tune`, whose argument it is.
        **({"verbose": 0} if args.plan else {}),
    )
    told = {
        "points": [dataclasses.asdict(point) for point in found.points],
        "doubled": dataclasses.asdict(found.doubled),
        "advice": found.advice,
    }
    outputs.show(args, out, told, found)
    outputs.draw(args, found.plot)
    return 0


def sizes(text: str) -> list[int]:
    """The numbers in a list such as 50,100,200."""
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        rule = "must be whole numbers with commas between, as 50,100,200"
        # argparse then names the flag before it.
        raise argparse.ArgumentTypeError(f"{rule}, not {text!r}")
    return [int(word) for word in words]
