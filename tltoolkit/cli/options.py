"""Options and steps that several commands share."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tltoolkit._checks import Constraint, Integer, OneOf, Union
from tltoolkit.augment.terms import NAMED, PREPARATION
from tltoolkit.data.terms import POLICIES
from tltoolkit.data.terms import SPLITTING as SHARES
from tltoolkit.model.terms import SETTINGS

# In place of a backbone's name.
AUTO = "auto"
# As the functions of `tl.data` have them.
SPLITTING: dict[str, Any] = {"val": 0.2, "test": 0.0, "seed": 0}


def add_data(
    parser: argparse.ArgumentParser, *, optional: bool = False, of_run: bool = False
) -> None:
    """Declare the folder and how it is split; left out where `of_run`, that is as in the run."""
    usual = {} if of_run else SPLITTING
    said = {name: f" (default {usual.get(name, 'as in RUN')})" for name in SPLITTING}
    # None is "left out": what is given explicitly is compared with the run.
    policy, as_run = (None, " (default as in RUN)") if of_run else ("error", "")
    parser.add_argument(
        "data",
        metavar="DIR",
        nargs="?" if optional else None,
        help="folder with a folder of images per class, or with train, val and test folders of "
        "such; or a CSV file with the columns path and label",
    )
    add = parser.add_argument_group("data").add_argument
    for name, what in (("val", "share for validation"), ("test", "share for testing")):
        # Its value is looked at where the data is read, which knows how a run was split.
        text = f"{what}: {in_words(SHARES[name])}{said[name]}"
        add(f"--{name}", type=float, default=usual.get(name), help=text)
    seed, usual_seed = SHARES["seed"], usual.get("seed")
    add("--seed", **allowing(seed, "of all chance", default=usual_seed, told=said["seed"]))
    for name, what in (
        ("on_bad", "unreadable images"),
        ("duplicates", "one picture in two splits"),
    ):
        flag = f"--{name.replace('_', '-')}"
        add(flag, **allowing(POLICIES[name], what, default=policy, told=as_run))
    add(
        "--groups",
        metavar="PATTERN",
        help="what stays on one side of every split, such as a patient: a regular expression on "
        f"the path below DIR, or a column of the CSV file{as_run}",
    )
    add("--class-names", metavar="A,B,...", help="all classes in the order of their numbers")
    _add_table(parser)


def _add_table(parser: argparse.ArgumentParser) -> None:
    """Declare how a table is read; what is left out is as in `from_table`, or as in the run."""
    add = parser.add_argument_group("data in a table").add_argument
    add("--image-column", metavar="NAME", help="of image files (path if left out)")
    add(
        "--label-column",
        metavar="NAME",
        help="of labels (label if left out); or columns of zeros and ones: A,B,...",
    )
    add("--split-column", metavar="NAME", help="if left out, split or is_valid where it is there")
    add("--separator", metavar="TEXT", help="between the labels of a cell (| if left out)")
    add("--suffix", metavar="TEXT", help="what the image column leaves out, such as .jpg")
    add("--image-root", metavar="FOLDER", help="where paths start; the table's folder if left out")
    add(
        "--multi-label",
        action=argparse.BooleanOptionalAction,
        help="whether images can have several labels or none; found out if left out",
    )


def add_model(parser: argparse.ArgumentParser, *, auto: bool = False) -> None:
    """Declare the classifier; where `auto`, its backbone may be left to be chosen."""
    add = parser.add_argument_group("model").add_argument
    said = "; or auto: those whose weights are here are tried on some images" if auto else ""
    add("--backbone", default="efficientnet_lite0", help=f"see `tltoolkit backbones`{said}")
    add("--weights", default="imagenet", help="imagenet (default), none, or a file of weights")
    size = "pixels on a side, the backbone's own if left out"
    add("--image-size", **allowing(SETTINGS["image_size"], size))
    fit = "how images become square, squash if nothing else says it"
    add("--fit", **allowing(PREPARATION["fit"], fit))
    add("--normalise", **allowing(OneOf(*NAMED), "of their pixels before"))
    add("--trunk", help="the backbone's last block, such as block3; all if left out")


def build_model(args: argparse.Namespace, data: Any, *, dry: bool = False) -> Any:
    """The classifier of these options; where `dry` is set its values do not matter."""
    # Here: the help must not load Keras.
    from tltoolkit.model.classifier import build_classifier

    return build_classifier(
        args.backbone,
        data.class_names,
        weights=None if dry else weights(args),
        image_size=args.image_size,
        trunk=args.trunk,
        multi_label=data.multi_label,
        seed=args.seed,
        fit=args.fit,
        normalise=args.normalise,
    )


def weights(args: argparse.Namespace) -> str | None:
    """What a backbone begins with, as `build_classifier` takes it."""
    return None if args.weights == "none" else str(args.weights)


def load_data(args: argparse.Namespace, stored: Mapping[str, Any] | None = None) -> Any:
    """The `ImageData` of these options, not yet checked; `stored` is for those left out."""
    from tltoolkit import data
    from tltoolkit.files import reading

    path = reading.local(args.data)
    names = ("val", "test", "seed", "on_bad", "duplicates", "groups")
    # None is left out below, so that `stored`, and then the function's own default, counts.
    given = {name: getattr(args, name) for name in names}
    given["class_names"] = args.class_names and _parts(args.class_names)
    how = dict(stored or {})
    if path.is_file():
        given |= _table(args)
        # By its full name: the room knows it only once something of it was used.
        from tltoolkit.data import table

        how = {"split": table.said_split(path), **how}
    read = data.from_table if path.is_file() else data.from_directory
    found = read(path, **how | {name: v for name, v in given.items() if v is not None})
    if args.verbose:
        for name, split in found.splits.items():
            counts = zip(found.class_names, split.class_counts.tolist(), strict=True)
            print(f"{name}: {', '.join(f'{label} {count}' for label, count in counts)}")
    return found


def _table(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `from_table` that the options give."""
    label = args.label_column
    return {
        "image": args.image_column,
        "label": _parts(label) if label and "," in label else label,
        "root": args.image_root,
        "split": args.split_column,
        "separator": args.separator,
        "suffix": args.suffix,
        "multi_label": args.multi_label,
    }


def _parts(text: str) -> list[str]:
    # Blanks around a comma are typing, not names.
    return [part.strip() for part in text.split(",")]


def needs_tensorflow(path: str) -> bool:
    """Whether a classifier is computed by TensorFlow, as all but exported files are."""
    from tltoolkit.files import reading
    from tltoolkit.runtimes import opening

    return opening.format_of(reading.local(path)) in (None, "saved_model")


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        # As where requirements-predict.txt was installed alone.
        raise ImportError(
            f"this needs TensorFlow and Keras, and {error.name} is not installed: only exported "
            "files do without, see `tltoolkit export`"
        ) from error


def toolkit(args: argparse.Namespace, needed: bool = True) -> Any:
    """tltoolkit, with TensorFlow loaded where it is `needed`; the latter greets with `-v` only."""
    if not needed:
        import tltoolkit

        return tltoolkit
    if not (args.debug or args.verbose):
        # Only by default: who has set a level wants that one.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # The level is not yet heeded by what C++ code logs while it is loaded.
        with _without_stderr(), _needed():
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
    # "3" counts blocks; a block's name never is a number.
    return int(args.unfreeze) if args.unfreeze.isdigit() else str(args.unfreeze)


def allowing(
    constraint: Constraint, what: str, *, default: Any = None, told: str = ""
) -> dict[str, Any]:
    """How an option is declared whose values a constraint gives; None is to leave it out.

    Args:
        constraint: That of the argument or setting that the option is for.
        what: The beginning of its help.
        default: Its default.
        told: What the help says of that, if not the default itself.
    """
    given = _given(constraint)
    if not told and default is not None:
        told = " (default %(default)s)"
    # Choices go into argparse's own help and error; a type has to say them itself.
    how = {"choices": given.choices} if isinstance(given, OneOf) else {"type": _Reader(given)}
    return {**how, "default": default, "help": f"{what}: {in_words(given)}{told}"}


def in_words(constraint: Constraint) -> str:
    """The allowed values as they are written on a command line."""
    return " or ".join(
        ", ".join(map(str, part.choices)) if isinstance(part, OneOf) else str(part)
        for part in _given(constraint).parts
    )


def _given(constraint: Constraint) -> Constraint:
    """What is left of a constraint without None."""
    if isinstance(constraint, OneOf):
        return OneOf(*(choice for choice in constraint.choices if choice is not None))
    kept = tuple(part for part in constraint.parts if part != OneOf(None))
    return kept[0] if len(kept) == 1 else Union(kept)


class _Reader:
    """A type of options: the numbers that a constraint allows, from text, and maybe words."""

    def __init__(self, constraint: Constraint) -> None:
        self.constraint = constraint
        whole = any(isinstance(part, Integer) for part in constraint.parts)
        self.convert: Callable[[str], Any] = int if whole else float
        self.__name__ = self.convert.__name__  # as argparse calls the type in an error

    def __call__(self, text: str) -> Any:
        # Words first, as "auto" beside a number.
        if self.constraint.holds(text):
            return text
        try:
            value = self.convert(text)
        except ValueError:
            if not isinstance(self.constraint, Union):
                raise  # argparse says that it is no number
            # So that the error below names the words, too.
            value = text
        if not self.constraint.holds(value):
            rule = in_words(self.constraint)
            raise argparse.ArgumentTypeError(f"must be {rule}, not {text!r}")
        return value


def absolute(path: str) -> str:
    """A local path that means the same from everywhere."""
    # Not resolved: a link may be meant to point elsewhere later.
    return str(Path(path).absolute())


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what C++ code writes to standard error."""
    sys.stderr.flush()
    # By its number: C++ code does not go through `sys.stderr`.
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        # The copies themselves, or each call would leave two open files.
        os.close(kept)
        os.close(nowhere)
