"""Where in images the evidence lies, as files and for the page of a report."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tltoolkit.cli import options, outputs
from tltoolkit.explaining.terms import CAM, EXPLAIN

# Of the name of an image, so that with its ending even one of four-byte letters fits 255 bytes.
LONGEST = 60


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `predict`."""
    add = parser.add_argument
    add(
        "--explain",
        metavar="FOLDER",
        help="write each image with a map of where the evidence for its label lies, as PNG, into "
        "a new or empty folder; the rows name the files",
    )
    what = "how; occlusion works for every classifier, and takes long"
    # As the argument of `tl.explain`, of which errors speak.
    how = options.allowing(EXPLAIN["method"], what, told=f" (default {CAM})")
    add("--explain-method", dest="method", **how)


def add_to_report(parser: argparse.ArgumentParser) -> None:
    """Declare the option of `evaluate`."""
    what = (
        "with --report: maps of where the evidence for an answer lies, which a switch in the page "
        "lays over its images; occlusion works for every classifier, and takes long"
    )
    how = options.allowing(EXPLAIN["method"], what)
    parser.add_argument("--explain", dest="method", **how)


def check(args: argparse.Namespace) -> None:
    """See that maps can be drawn as asked for, and written."""
    if args.explain is None and args.method is not None:
        raise ValueError("--explain-method says nothing without --explain")
    if args.explain is not None and args.views != 1:
        raise ValueError("--explain shows the evidence of the plain image: leave --views out")
    outputs.check_folder("--explain", args.explain)


def drawn(args: argparse.Namespace, predictor: Any, paths: Sequence[str]) -> Iterator[Path | None]:
    """The file of each image's overlay, once it is written; None for an image that is bad."""
    if args.explain is None:
        return iter([None] * len(paths))
    from tltoolkit.explaining.explainer import Explainer

    method = args.method or CAM
    explainer = Explainer.of(predictor, method, False, args.batch_size)
    return _written(explainer.stream(paths), outputs.made_folder(args.explain), paths)


def of_rows(predictor: Any, method: str | None, batch_size: int) -> Any:
    """A split -> what gives a report the maps of its rows; None where no method is asked for."""
    if method is None:
        return lambda split: None
    from tltoolkit.explaining.explainer import Explainer
    from tltoolkit.explaining.maps import explained

    # Now: a method that does not work for the classifier is told before any work.
    explainer = Explainer.of(predictor, method, False, batch_size)
    return lambda split: lambda rows: explained(explainer, split.subset(rows)).maps


def _written(batches: Iterator[Any], folder: Path, paths: Sequence[str]) -> Iterator[Path | None]:
    from PIL import Image

    from tltoolkit.artifacts.seeing import BadImage
    from tltoolkit.files import writing

    left, taken = iter(paths), set[str]()
    for items, explanation in batches:
        number = 0
        for item in items:
            path = next(left)
            if isinstance(item, BadImage):
                yield None
                continue
            file = folder / _name(path, taken)
            with writing.replacing(file) as beside:
                Image.fromarray(explanation.overlay(number)).save(beside, "PNG")
            number += 1
            yield file


def _name(path: str, taken: set[str]) -> str:
    """A file name like that of the image, and no other image's."""
    stem = Path(path).stem[:LONGEST]
    name, i = f"{stem}.png", 1
    # Whatever the case: some file systems do not tell names apart by it.
    while name.casefold() in taken:
        i += 1
        name = f"{stem}-{i}.png"
    taken.add(name.casefold())
    return name
