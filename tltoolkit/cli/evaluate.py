"""Score a trained classifier on labelled images that it has not seen."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tltoolkit.artifacts.terms import STREAM
from tltoolkit.cli import maps, options, outputs, stored

if TYPE_CHECKING:
    from tltoolkit.data.seen import Seen

SPLITS = ("unseen", "test", "val", "train", "all")
EPILOG = """\
A run notes the content of the images that it trains, validates and tests on. What it trained or
validated on is left out, wherever it lies in DIR now and whatever it is called; new images count.
A run that kept no test images is scored on its validation images where DIR holds nothing new."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.add_argument(
        "run_dir", metavar="RUN", help="what `tltoolkit fit` or `tltoolkit export` wrote"
    )
    options.add_data(parser, of_run=True)
    parser.add_argument(
        "--split",
        default="unseen",
        choices=SPLITS,
        help="unseen (default): what RUN neither trained nor validated on; or its test, val or "
        "train images; or all images in DIR",
    )
    parser.add_argument("--report", metavar="OUT", help="write report.json and report.html there")
    maps.add_to_report(parser)
    per_pass = options.allowing(STREAM["batch_size"], "images per forward pass", default=32)
    parser.add_argument("--batch-size", **per_pass)


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the report, and write it if asked."""
    # Before TensorFlow is loaded, which takes seconds.
    outputs.check_report("--report", args.report, page=True if args.method else None)
    if args.method and not args.report:
        raise ValueError("--explain says nothing without --report")
    tl = options.toolkit(args, options.needs_tensorflow(args.run_dir))
    # After `toolkit`, which silences what TensorFlow says when it is loaded.
    from tltoolkit.data import held_out

    # The run first: what it saw decides how DIR is read.
    predictor = tl.load(args.run_dir)
    maps_of = maps.of_rows(predictor, args.method, args.batch_size)
    seen = stored.seen_by(predictor)
    held_out.check_known(seen, args.split, args.run_dir)
    _check_splitting(args, seen)
    chosen = stored.chosen(_labelled(args, seen), predictor, args.split, args.run_dir)
    report = tl.evaluate(predictor, chosen.split, args.batch_size)
    told = {"split": chosen.on, "scored": chosen.scored, "left_out": chosen.left_out}
    # Not by `outputs.show`: this format is that of report.json, with its own version.
    told = {**report.to_dict(), "images": told}
    print(json.dumps(told, indent=2) if args.json else report, file=out, flush=True)
    if args.report:
        told_of_run = stored.told(Path(args.run_dir), chosen)
        report.save(args.report, run=told_of_run, maps=maps_of(chosen.split))
    return 0


def _check_splitting(args: argparse.Namespace, seen: "Seen | None") -> None:
    """The shares and the seed are the run's; others would have to move its images."""
    # A classifier of tl.save, without a run, has seen nothing that it could tell.
    origin = seen.origin if seen is not None else None
    for name in options.SPLITTING:
        given = getattr(args, name)
        had = origin["settings"].get(name) if origin else None
        if given is not None and given != had:
            raise ValueError(
                f"--{name} {given:g} is not what {args.run_dir} was made with "
                f"({'not known' if had is None else had}): which images it saw is in its record; "
                f"leave --{name} out and choose by --split"
            )


def _labelled(args: argparse.Namespace, seen: "Seen | None") -> Any:
    """All images in DIR, read as the run read its own."""
    # What is scored is chosen by content, not by splitting DIR again.
    args.val = args.test = 0.0
    how = stored.arguments(seen, stored.reader(Path(args.data)))
    return stored.whole(options.load_data(args, how).check())
