"""Options and steps that several commands share."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

SPLITTING: dict[str, Any] = {"val": 0.2, "test": 0.0, "seed": 0}


def add_data(
    parser: argparse.ArgumentParser, *, optional: bool = False, of_run: bool = False
) -> None:
    """Declare the folder and how it is split; left out where `of_run`, that is as in the run."""
    usual = {} if of_run else SPLITTING
    said = {name: f" (default {usual.get(name, 'as in RUN')})" for name in SPLITTING}
    policy, as_run = (None, " (default as in RUN)") if of_run else ("error", "")
    parser.add_argument(
        "data",
        metavar="DIR",
        nargs="?" if optional else None,
        help="folder with a folder of images per class, or with train, val and test folders of "
        "such; or a CSV file with the columns path and label",
    )
    add = parser.add_argument_group("data").add_argument
    add("--val", type=float, default=usual.get("val"), help=f"share for validation{said['val']}")
    add("--test", type=float, default=usual.get("test"), help=f"share for testing{said['test']}")
    add("--seed", type=int, default=usual.get("seed"), help=f"of all chance{said['seed']}")
    first = "error" if of_run else "error (default)"
    add("--on-bad", default=policy, help=f"unreadable images: {first} or skip{as_run}")
    add(
        "--duplicates",
        default=policy,
        help=f"one picture in several splits: {first}, drop or allow{as_run}",
    )
    add(
        "--groups",
        metavar="PATTERN",
        help="what stays on one side of every split, such as a patient: a regular expression on "
        f"the path below DIR, or a column of the CSV file{as_run}",
    )
    add("--class-names", metavar="A,B,...", help="all classes in the order of their numbers")
    add = parser.add_argument_group("data in a table").add_argument
    image, label, separator, suffix = (None,) * 4 if of_run else ("path", "label", "|", "")
    usually = "as in RUN" if of_run else "%(default)s"
    add("--image-column", default=image, help=f"of image files (default {usually})")
    add(
        "--label-column",
        default=label,
        help=f"of labels (default {usually}); or columns of zeros and ones: A,B,...",
    )
    add("--split-column", help="train, val or test; split or is_valid if there is such a column")
    add("--separator", default=separator, help=f"between the labels of a cell (default {usually})")
    add("--suffix", default=suffix, help="what the image column leaves out, such as .jpg")
    add("--image-root", metavar="FOLDER", help="where paths start; the table's folder if left out")
    add(
        "--multi-label",
        action=argparse.BooleanOptionalAction,
        help="whether images can have several labels or none; found out if left out",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the classifier."""
    add = parser.add_argument_group("model").add_argument
    add("--backbone", default="efficientnet_lite0", help="see `tltoolkit backbones`")
    add("--weights", default="imagenet", help="imagenet (default), none, or a file of weights")
    add("--image-size", type=int, help="pixels on a side; the backbone's own if left out")
    add("--trunk", help="the backbone's last block, such as block3; all if left out")


def build_model(args: argparse.Namespace, data: Any, *, dry: bool = False) -> Any:
    """The classifier of these options; where `dry` is set its values do not matter."""
    from tltoolkit.model import build_classifier

    return build_classifier(
        args.backbone,
        data.class_names,
        weights=None if dry else weights(args),
        image_size=args.image_size,
        trunk=args.trunk,
        multi_label=data.multi_label,
        seed=args.seed,
    )


def weights(args: argparse.Namespace) -> str | None:
    """What a backbone begins with, as `build_classifier` takes it."""
    return None if args.weights == "none" else str(args.weights)


def load_data(args: argparse.Namespace, stored: Mapping[str, Any] | None = None) -> Any:
    """The `ImageData` of these options, not yet checked; `stored` is for those left out."""
    from tltoolkit import _files, data

    path = _files.local(args.data)
    names = ("val", "test", "seed", "on_bad", "duplicates", "groups")
    given = {name: getattr(args, name) for name in names}
    given["class_names"] = args.class_names and _parts(args.class_names)
    if path.is_file():
        columns = _parts(args.label_column or "")
        given |= {
            "image": args.image_column,
            "label": columns if len(columns) > 1 else args.label_column,
            "root": args.image_root,
            "split": args.split_column or data.table.said_split(path),
            "separator": args.separator,
            "suffix": args.suffix,
            "multi_label": args.multi_label,
        }
    read = data.from_table if path.is_file() else data.from_directory
    return read(path, **{**(stored or {}), **{k: v for k, v in given.items() if v is not None}})


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def toolkit(args: argparse.Namespace) -> Any:
    """tltoolkit, with TensorFlow loaded; the latter's greetings are shown with `--debug` only."""
    if not args.debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _without_stderr():
            import tensorflow  # noqa: F401
    import tltoolkit

    return tltoolkit


def verbose() -> str | int:
    """Keras' progress bars on a terminal, and silence elsewhere."""
    return "auto" if sys.stderr.isatty() else 0


def add_plot(parser: argparse.ArgumentParser) -> None:
    """Declare the figure."""
    parser.add_argument("--plot", metavar="FILE", help="draw it, into a .png, .pdf or .svg file")


def draw(args: argparse.Namespace, plot: Callable[[], Any]) -> None:
    """Write the figure if one is wanted."""
    if args.plot:
        plot().savefig(args.plot)


def absolute(path: str) -> str:
    """A local path that means the same from everywhere."""
    return str(Path(path).absolute())


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what C++ code writes to standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
