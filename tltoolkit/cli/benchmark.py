"""Measure what a classifier and its exported files cost: size, time, memory, scores.

Each is timed in processes of its own, one after the other: on a machine that does nothing else.
With --data they are scored, on the images there that RUN neither trained nor validated on.
"""

import argparse
from pathlib import Path
from typing import Any, TextIO

from tltoolkit.cli import options, outputs, stored
from tltoolkit.deploy.terms import BENCHMARK


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = __doc__.split("\n\n", 1)[1]
    add = parser.add_argument
    add("run_dir", metavar="RUN", help="what `tltoolkit fit` or `tltoolkit export` wrote")
    add("files", metavar="FILE", nargs="*", help="exported files to put beside it")
    add("--data", metavar="DIR", help="labelled images, as for `tltoolkit evaluate`")
    passes = "passes that are timed of each batch and number of threads"
    add("--repeats", **options.allowing(BENCHMARK["repeats"], passes, default=50))
    add("--report", metavar="OUT", help="write a report of RUN there, with the costs as a chart")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the table, and write the report if asked."""
    if args.report and args.data is None:
        raise ValueError("--report needs --data DIR, images to report on")
    outputs.check_report("--report", args.report)
    paths = [args.run_dir, *args.files]
    tl = options.toolkit(args, any(map(options.needs_tensorflow, paths)))
    chosen = None if args.data is None else _chosen(args, tl)
    found = tl.benchmark(paths, chosen and chosen.split, repeats=args.repeats)
    outputs.show(args, out, found.to_dict(), found)
    if args.report:
        told = stored.told(Path(args.run_dir), chosen)
        found.report.save(args.report, run=told, benchmark=found.to_dict())
    return 0


def _chosen(args: argparse.Namespace, tl: Any) -> Any:
    """The images to score on."""
    from tltoolkit.data import held_out

    predictor = tl.load(args.run_dir)
    seen = stored.seen_by(predictor)
    on = "all" if seen is None else "unseen"
    held_out.check_known(seen, on, args.run_dir)
    return stored.chosen(stored.all_of(args.data, seen), predictor, on, args.run_dir)
