"""How the data of a run was read, for commands that read the same data again."""

import inspect
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tltoolkit.data.seen import Seen


def reader(path: Path) -> str:
    """The function of `tltoolkit.data` that reads a folder or a table."""
    return "from_table" if path.is_file() else "from_directory"


def arguments(seen: "Seen | None", kind: str) -> dict[str, Any]:
    """The arguments that a run's data was made with, as far as they fit the function `kind`."""
    from tltoolkit import data

    if seen is None:
        return {}
    policies = {"on_bad": seen.on_bad, "duplicates": seen.duplicates}
    if seen.origin is None or seen.origin["kind"] != kind:
        return policies
    # Classes are matched by name; splits and what they are made of do not matter here.
    known = set(inspect.signature(getattr(data, kind)).parameters) - {"class_names", "split"}
    # Policies last: they are noted with every run, the origin only where it is known.
    return {k: v for k, v in seen.origin["settings"].items() if k in known} | policies


def images(path: str, seen: "Seen | None", **shares: float) -> Any:
    """The `ImageData` of a folder or a table, read and split as a run read and split its own.

    `shares` are in the place of the run's own.
    """
    from tltoolkit import data

    place = Path(path)
    kind = reader(place)
    how = arguments(seen, kind)
    if kind == "from_table":
        # By its full name: the room knows it only once something of it was used.
        from tltoolkit.data import table

        how = {"split": table.said_split(place), **how}
    return getattr(data, kind)(place, **how | shares).check()


def all_of(path: str, seen: "Seen | None") -> Any:
    """All images of a folder or a table as one split, read as a run read its own."""
    return whole(images(path, seen, val=0.0, test=0.0))


def whole(data: Any) -> Any:
    """All splits of an `ImageData` as one, since they may be others than those of a run."""
    first, *others = data.splits.values()
    for split in others:
        first = first.joined(split)
    return first


def chosen(images: Any, predictor: Any, on: str, run: str) -> Any:
    """Those of some images that score a classifier, which is said on standard error.

    Args:
        images: A split of all that there are.
        predictor: The classifier.
        on: As in `held_out.choose`.
        run: What to call the classifier.
    """
    # Here: the help must not load what reads images.
    from tltoolkit.data import held_out

    images = images.in_classes(predictor.class_names, predictor.decision.multi_label)
    found = held_out.choose(images, seen_by(predictor), on, run)
    # Apart from results, so that JSON on standard output stays whole.
    print(f"tltoolkit: {found}", file=sys.stderr)
    if found.caution:
        warnings.warn(found.caution, stacklevel=2)
    return found


def seen_by(predictor: Any) -> "Seen | None":
    """What a classifier notes of the images that it has seen; an exported file does not say it."""
    return getattr(predictor.model, "tltoolkit_seen", None)


def told(run_dir: Path, chosen: Any) -> dict[str, Any] | None:
    """What a page shows of a run, with what was scored; None for a classifier without one."""
    from tltoolkit.files import reading

    path = run_dir / "run.json"
    if not path.is_file():
        return None
    told = reading.parse_json(reading.read(path), path)
    scored = ". ".join(filter(None, (str(chosen), chosen.caution)))
    return {**told, "settings": {**told.get("settings", {}), "scored_on": scored}}
