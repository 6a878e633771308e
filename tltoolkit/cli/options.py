"""Options and steps that several commands share."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ON_BAD, DUPLICATES = ("error", "skip"), ("error", "drop", "allow")
SPLITTING: dict[str, Any] = {"val": 0.2, "test": 0.0, "seed": 0}


def add_data(
    parser: argparse.ArgumentParser, *, optional: bool = False, of_run: bool = False
) -> None:
    """Declare the folder and how it is split; left out where `of_run`, that is as in the run."""
    usual = {} if of_run else SPLITTING
    said = {name: f" (default {usual.get(name, 'as in RUN')})" for name in SPLITTING}
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
    add("--seed", type=whole(0), default=usual.get("seed"), help=f"of all chance{said['seed']}")
    add(
        "--on-bad",
        default="error",
        choices=ON_BAD,
        help="unreadable images: error (default) or skip",
    )
    add(
        "--duplicates",
        default="error",
        choices=DUPLICATES,
        help="one picture in several splits: error (default), drop or allow",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the classifier."""
    add = parser.add_argument_group("model").add_argument
    add("--backbone", default="efficientnet_lite0", help="see `tltoolkit backbones`")
    add("--weights", default="imagenet", help="imagenet (default), none, or a file of weights")
    add("--image-size", type=whole(1), help="pixels on a side; the backbone's own if left out")
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


def load_data(args: argparse.Namespace) -> Any:
    """The `ImageData` of these options, not yet checked."""
    from tltoolkit import _files, data

    path = _files.local(args.data)
    read = data.from_table if path.is_file() else data.from_directory
    found = read(
        path,
        val=args.val,
        test=args.test,
        seed=args.seed,
        on_bad=args.on_bad,
        duplicates=args.duplicates,
    )
    if args.verbose:
        for name, split in found.splits.items():
            counts = zip(found.class_names, split.class_counts.tolist(), strict=True)
            print(f"{name}: {', '.join(f'{label} {count}' for label, count in counts)}")
    return found


def toolkit(args: argparse.Namespace) -> Any:
    """tltoolkit, with TensorFlow loaded; the latter's greetings are shown with `-v` only."""
    if not (args.debug or args.verbose):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _without_stderr():
            import tensorflow  # noqa: F401
    import tltoolkit

    if args.verbose:
        import keras
        import tensorflow as tf

        cards = len(tf.config.list_physical_devices("GPU"))
        print(f"tltoolkit {tltoolkit.__version__}, Keras {keras.__version__}, ", end="")
        print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, {cards} GPUs")
    return tltoolkit


def unfreeze(args: argparse.Namespace) -> str | int:
    """What trains, as `tl.Stage` takes it."""
    return int(args.unfreeze) if args.unfreeze.isdigit() else str(args.unfreeze)


def whole(low: int) -> Callable[[str], int]:
    """A type of options: integers from `low` on."""

    def read(text: str) -> int:
        if (value := int(text)) < low:
            raise argparse.ArgumentTypeError(f"must be an integer >= {low}, not {text!r}")
        return value

    read.__name__ = "int"  # as argparse calls the type in an error
    return read


def real(low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type of options: finite numbers from `low` to `high`."""

    def read(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and low <= value <= high):
            rule = f"from {low:g} to {high:g}" if high < math.inf else f">= {low:g}"
            raise argparse.ArgumentTypeError(f"must be a number {rule}, not {text!r}")
        return value

    read.__name__ = "float"
    return read


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
