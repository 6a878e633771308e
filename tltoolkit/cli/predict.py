"""Classify images: files, folders and globs in, CSV or JSON lines out.

It goes on after an image that cannot be read, says so in that image's row, counts them at the
end and then exits with 3. What is no image in a folder or glob is skipped and counted.
"""

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tltoolkit._checks import OneOf
from tltoolkit.artifacts.terms import STREAM
from tltoolkit.augment.terms import PRESETS
from tltoolkit.cli import maps, options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = __doc__.split("\n\n", 1)[1]
    parser.add_argument(
        "run_dir", metavar="RUN", help="what `tltoolkit fit`, `tltoolkit export` or tl.save wrote"
    )
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
    for name, default, what in (
        ("min_confidence", 0.0, "abstain below it"),
        ("min_familiarity", None, "abstain of strangers: 0.01 also refuses 1 %% of known images"),
        ("batch_size", 32, "images per forward pass"),
        ("views", 1, "versions of each image to average over"),
    ):
        add(f"--{name.replace('_', '-')}", **options.allowing(STREAM[name], what, default=default))
    presets = OneOf(*PRESETS)
    add("--augment", **options.allowing(presets, "preset of those versions", default="light"))
    maps.add(parser)


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print a row for each image, as soon as it is known."""
    outputs.check_file("--output", args.output)
    maps.check(args)
    skipped: Counter[str] = Counter()
    # All names before the model is loaded: a misspelt one is told at once.
    found = listed(args.images, skipped)
    tl = options.toolkit(args, options.needs_tensorflow(args.run_dir))
    from tltoolkit.cli import rows

    predictor = tl.load(args.run_dir)
    # A preset is made for one size, that of the classifier.
    size = predictor.engine.image_size
    answers = predictor.stream(
        [path for path, _ in found],
        min_confidence=args.min_confidence,
        min_familiarity=args.min_familiarity,
        batch_size=args.batch_size,
        # One view is the plain image: a random pipeline is refused with it.
        pipeline=tl.augment.preset(args.augment, size) if args.views != 1 else None,
        views=args.views,
    )
    overlays = maps.drawn(args, predictor, [path for path, _ in found])
    bad = 0
    with _file(args.output, out) as file:
        write = rows.writer(
            file,
            predictor.class_names,
            args.json,
            args.probabilities,
            maps=args.explain is not None,
            familiarity=predictor.engine.familiar,
        )
        shown = _shown(answers, len(found))
        for (path, named), answer, overlay in zip(found, shown, overlays, strict=True):
            # What was named itself is an image to whoever named it, and gets a row.
            if not named and rows.is_bad(answer) and not like_image(path):
                skipped["no image"] += 1
                continue
            bad += write(path, answer, overlay)
            # For whoever follows the output, and for what there is after a crash.
            file.flush()
    return _summary(bad, len(found) - skipped["no image"], skipped)


def _summary(bad: int, total: int, skipped: Counter[str]) -> int:
    """Say what has no prediction; returns the exit code."""
    if skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        print(f"tltoolkit: skipped in folders: {reasons}", file=sys.stderr)
    if bad:
        print(f"tltoolkit: {bad} of {total} images could not be read", file=sys.stderr)
    return outputs.FLAWED if bad else 0


def listed(names: list[str], skipped: Counter[str]) -> list[tuple[str, bool]]:
    """The files that names, folders and globs stand for, each folder in the order of its paths.

    Args:
        names: As given.
        skipped: Counts what is passed over in folders: reason -> how often.

    Returns:
        Path and whether it was named itself, rather than found in a folder.

    Raises:
        ValueError: A folder or glob without any file, or a remote name.
    """
    return [found for name in names for found in _files_of(name, skipped)]


def _files_of(name: str, skipped: Counter[str]) -> list[tuple[str, bool]]:
    from tltoolkit.data import walk
    from tltoolkit.files import reading

    path = reading.local(name)
    if path.is_dir():
        # Sorted, as file systems list in any order.
        found = sorted(walk.files(str(path), skipped))
    # A file may have such signs in its name; it comes before the pattern.
    elif any(sign in name for sign in "*?[") and not path.exists():
        import glob

        found = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())
    else:
        return [(name, True)]
    if not found:
        raise ValueError(f"no files in {name}")
    return [(one, False) for one in found]


def like_image(path: str) -> bool:
    """Whether a file has the name or the first bytes of an image, and was to be one."""
    from tltoolkit.data import kinds, walk

    if Path(path).suffix.lower() in walk.SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            # A text may begin with BM, which is all that tells a BMP file.
            if file.read(2) == b"BM" and file.read(14).isascii():
                return False
            kinds.kind_of(file)
    except ImportError:
        return True  # a HEIC or AVIF image: what reads it is named where it fails
    except (OSError, kinds.UnknownKindError):
        return False
    return True


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
    # tqdm ships no types.
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(answers, "classifying", total, unit="image", disable=None)
