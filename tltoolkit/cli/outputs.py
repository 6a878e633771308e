"""What a command writes: looked at before the work, written after the result was printed."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tltoolkit import _checks
from tltoolkit.files import claiming, reading, writing

# The exit code where all went well but the images are not all as they should be.
FLAWED = 3
# What matplotlib writes without further packages.
FIGURES = (".png", ".pdf", ".svg")


def show(args: argparse.Namespace, out: TextIO, told: dict[str, Any], text: Any) -> None:
    """Print a result, whatever becomes of files that are written afterwards.

    Args:
        args: Whose `json` asks for JSON.
        out: Standard output.
        told: The result as plain data; its format is named after the command, with a version.
        text: The same for people.
    """
    if args.json:
        from tltoolkit.evaluation.text import plain

        said = {"format": f"tltoolkit.{args.command}/1", **plain(told)}
        # Flushed, so that a result outlives whatever a later file runs into.
        print(json.dumps(said, indent=2, default=repr), file=out, flush=True)
    else:
        print(text, file=out, flush=True)


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Declare the figure."""
    parser.add_argument("--plot", metavar="FILE", help="draw it, into a new .png, .pdf or .svg")


def check_plot(args: argparse.Namespace) -> None:
    """See that the figure can be written, if one is wanted."""
    if args.plot is None:
        return
    if Path(args.plot).suffix.lower() not in FIGURES:
        raise ValueError(f"--plot must end in {', '.join(FIGURES)}. Received: {args.plot!r}")
    # The name first: matplotlib takes its time to load.
    check_file("--plot", args.plot)
    with _checks.extra("--plot needs matplotlib", "report"):
        import matplotlib  # noqa: F401


def draw(args: argparse.Namespace, plot: Callable[[], Any]) -> None:
    """Write the figure if one is wanted."""
    if args.plot:
        with writing.replacing(reading.local(args.plot)) as file:
            plot().savefig(file)


def check_file(flag: str, path: str | None) -> None:
    """See that a new file can be written, if one is wanted.

    Raises:
        ValueError: Something has the name, or no file can be made there.
    """
    if path is None:
        return
    with _named(flag):
        target = reading.local(path)
        if not target.parent.is_dir():
            raise ValueError(f"the folder {target.parent} does not exist")
        writing.check_room(target.parent)
        writing.free(target)


def check_report(flag: str, path: str | None, page: bool | None = None) -> None:
    """See that a report can be written, if one is wanted; `page` as in `Report.save`."""
    if path is not None:
        from tltoolkit.evaluation.page import check_directory

        with _named(flag):
            check_directory(path, page)


def check_folder(flag: str, path: str | None) -> None:
    """See that files can be written into a new or empty folder, if one is wanted."""
    if path is not None:
        with _named(flag):
            claiming.check(reading.local(path), resume=False)


def made_folder(path: str) -> Path:
    """The folder that was checked, made if it is missing."""
    folder = reading.local(path)
    writing.made(folder)
    return folder


def check_run(path: str, resume: bool | str) -> None:
    """See that a run can be written, or goes on."""
    with _named("--run-dir"):
        claiming.check(reading.local(path), resume)


@contextmanager
def _named(flag: str) -> Iterator[None]:
    try:
        yield
    # As a ValueError: a wrong flag is wrong input, exit code 2, not a failure.
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{flag}: {said}") from error
