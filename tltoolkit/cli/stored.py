"""How the data of a run was read, for commands that read the same data again."""

import inspect
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
