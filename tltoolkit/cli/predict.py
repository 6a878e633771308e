"""Classify images: files, folders and globs in, CSV or JSON lines out.

It goes on after an image that cannot be read, says so in that image's row, counts them at the
end and then exits with 1.
"""

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tltoolkit.cli import options


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = __doc__.split("\n\n", 1)[1]
    parser.add_argument("run_dir", metavar="RUN", help="what `tltoolkit fit` or tl.save wrote")
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="file, folder or glob such as 'in/**/*.jpg'"
    )
    add = parser.add_argument
    add("--output", metavar="FILE", help="a new file for the rows, in place of standard output")
    add(
        "--probabilities",
        action="store_true",
        help="a CSV column for each class too; JSON lines always have them",
    )
    add("--min-confidence", type=float, default=0.0, help="abstain below it (default %(default)s)")
    add("--batch-size", type=int, default=32, help="images per forward pass (default %(default)s)")
    add("--views", type=int, default=1, help="versions of each image to average over (default 1)")
    add("--augment", default="light", help="preset of those versions (default %(default)s)")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print a row for each image, as soon as it is known."""
    paths = listed(args.images)
    tl = options.toolkit(args)
    from tltoolkit.cli import rows

    predictor = tl.load(args.run_dir)
    size = predictor.model.input_shape[1]
    answers = predictor.stream(
        paths,
        min_confidence=args.min_confidence,
        batch_size=args.batch_size,
        pipeline=tl.augment.preset(args.augment, size) if args.views != 1 else None,
        views=args.views,
    )
    bad = 0
    with _file(args.output, out) as file:
        writer = rows.writer(file, predictor.class_names, args.json, args.probabilities)
        for path, answer in zip(paths, _shown(answers, len(paths)), strict=True):
            bad += writer(path, answer)
    if bad:
        print(f"tltoolkit: {bad} of {len(paths)} images could not be read", file=sys.stderr)
    return int(bad > 0)


def listed(names: list[str]) -> list[str]:
    """The files that names, folders and globs stand for, each folder in the order of its paths.

    Raises:
        ValueError: A folder or glob without any file, or a remote name.
    """
    return [path for name in names for path in _files_of(name)]


def _files_of(name: str) -> list[str]:
    from tltoolkit import _files
    from tltoolkit.data import walk

    path = _files.local(name)
    if path.is_dir():
        found = sorted(walk.files(str(path), Counter()))
    elif any(sign in name for sign in "*?[") and not path.exists():
        import glob

        found = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())
    else:
        return [name]
    if not found:
        raise ValueError(f"no files in {name}")
    return found


@contextlib.contextmanager
def _file(path: str | None, out: TextIO) -> Iterator[TextIO]:
    if path is None:
        yield out
        return
    # A name that is not valid text is written with escapes.
    with open(path, "x", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


def _shown(answers: Iterator[Any], total: int) -> Any:
    """The answers, with a progress bar on a terminal."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(answers, "classifying", total, unit="image", disable=None)
