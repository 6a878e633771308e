"""Search for the best settings in a space."""

import argparse
import json
from typing import Any, TextIO

from tltoolkit.cli import options, outputs, settings
from tltoolkit.files import reading, writing
from tltoolkit.tune.terms import SEARCH

EPILOG = """\
The space is a YAML file of settings of stages, heads and classifiers: a list is a choice,
{low: 1.0e-4, high: 0.1, log: true} a range, anything else fixed. An interrupted search goes on with
the same command and --storage."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    options.add_data(parser)
    add = parser.add_argument
    add("--space", required=True, metavar="FILE", help="YAML file of what may vary")
    trials = "how many there are in the end, 20 or the whole grid if left out"
    add("--trials", **options.allowing(SEARCH["trials"], trials))
    drawn = "how settings are drawn"
    add("--sampler", **options.allowing(SEARCH["sampler"], drawn, default="random"))
    add("--storage", metavar="FILE", help="keeps the trials; or a database address")
    add("--weights", default="imagenet", help="imagenet (default), none, or a file of weights")
    add("--write-plan", metavar="FILE", help="a new file for the best plan, for fit --plan")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the best trials."""
    outputs.check_file("--write-plan", args.write_plan)
    space = {name: _values(value) for name, value in settings.read(args.space).items()}
    data = options.load_data(args)
    tl = options.toolkit(args)
    found = tl.tune.search(
        data,
        space,
        trials=args.trials,
        sampler=args.sampler,
        storage=args.storage,
        seed=args.seed,
        weights=options.weights(args),
        verbose=not args.quiet,
    )
    told = {
        "score": found.score,
        "settings": dict(found.settings),
        "plan": found.plan.to_dict(),
        "batch_size": found.batch_size,
        # By pandas, which writes null for NaN and takes NumPy's numbers.
        "trials": json.loads(found.trials.to_json(orient="records")),
    }
    outputs.show(args, out, told, found)
    # After the result is printed.
    if args.write_plan:
        writing.text(reading.local(args.write_plan), found.plan.to_yaml())
    return 0


def _values(value: Any) -> Any:
    """What YAML says of a setting, as `tl.tune.search` takes it."""
    if not isinstance(value, dict):
        return value
    # A misspelt key would otherwise make another range in silence.
    if not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        raise ValueError(f"a range in the space must have low, high and log, not {list(value)}")
    return (value["low"], value["high"], *["log"] * bool(value.get("log")))
