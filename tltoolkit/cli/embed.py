"""Write what a classifier's head reads of images, a row of features each, for other tools.

A single folder that holds a folder of images per class, or a CSV file with the columns path and
label, gives rows with labels; other images are named as for `tltoolkit predict`.
"""

import argparse
import os
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

from tltoolkit.cli import options, outputs, predict, stored
from tltoolkit.explaining import storing
from tltoolkit.explaining.terms import EMBED


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = __doc__.split("\n\n", 1)[1]
    parser.add_argument(
        "run_dir", metavar="RUN", help="what `tltoolkit fit` or tl.save wrote; no exported file"
    )
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="labelled folder or CSV file; file, folder, glob"
    )
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="a new .npz or .parquet file"
    )
    per_pass = options.allowing(EMBED["batch_size"], "images per forward pass", default=32)
    parser.add_argument("--batch-size", **per_pass)


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Write the file, and print how many rows it has."""
    outputs.check_file("--output", args.output)
    if Path(args.output).suffix not in storing.FORMS:
        raise ValueError(
            f"--output must end in {' or '.join(storing.FORMS)}. Received: {args.output!r}"
        )
    storing.check(args.output)
    labelled = _labelled(args.images)
    # All names before the model is loaded: a misspelt one is told at once.
    paths = None if labelled else _paths(args.images)
    tl = options.toolkit(args)
    predictor = tl.load(args.run_dir)
    images = paths or _split(args.images[0], predictor)
    made = tl.embed(predictor, images, batch_size=args.batch_size)
    made.save(args.output)
    count, width = made.features.shape
    told = {"rows": count, "features": width, "path": args.output}
    outputs.show(args, out, told, f"{count} rows of {width} features: {args.output}")
    return 0


def _labelled(names: list[str]) -> bool:
    """Whether images come with labels: from a table, or a folder that holds folders alone."""
    path = Path(names[0])
    if len(names) > 1 or not path.is_dir():
        return len(names) == 1 and path.suffix.lower() == ".csv"
    with os.scandir(path) as found:
        kinds = {one.is_dir() for one in found if not one.name.startswith(".")}
    return kinds == {True}


def _paths(names: list[str]) -> list[str]:
    """The files of images that names, folders and globs stand for."""
    found = predict.listed(names, Counter())
    # What was named itself is an image to whoever named it.
    return [path for path, named in found if named or predict.like_image(path)]


def _split(path: str, predictor: Any) -> Any:
    """All labelled images, read as the classifier's run read its own."""
    return stored.all_of(path, stored.seen_by(predictor))
