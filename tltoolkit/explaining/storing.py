"""Files of embeddings; which they may be loads nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.files import reading, writing

NPZ, PARQUET = FORMS = (".npz", ".parquet")
# Of tables, whose rows are of one image each.
_COLUMNS = {"names": "name", "labels": "label"}


def check(path: str | Path) -> Path:
    """The path, if an embedding can be written there; errors are those of `Embedding.save`."""
    target = reading.local(path)
    if target.suffix not in FORMS:
        raise _checks.fail("path", f"a name that ends in {' or '.join(FORMS)}", str(path))
    writing.free(target)
    if target.suffix == PARQUET:
        with _checks.extra("Parquet files need pyarrow", "parquet"):
            import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: F401
    return target


def save(path: str | Path, columns: Mapping[str, Any], class_names: tuple[str, ...]) -> Path:
    """Write name -> N values, of which None has no value; texts that are no UTF-8 with escapes."""
    target = check(path)
    texts = {
        name: values if values is None or name == "features" else list(map(_utf8, values))
        for name, values in columns.items()
    }
    with writing.replacing(target) as beside:
        if target.suffix == NPZ:
            _npz(beside, {**texts, "class_names": list(map(_utf8, class_names))})
        else:
            _parquet(beside, texts)
    return target


def _npz(path: Path, columns: Mapping[str, Any]) -> None:
    import numpy as np

    # As arrays of text, which need no pickle to be read.
    arrays: Any = {
        name: np.asarray(values) for name, values in columns.items() if values is not None
    }
    with open(path, "wb") as file:  # of a name it would take the end for its own
        np.savez(file, **arrays)


def _parquet(path: Path, columns: Mapping[str, Any]) -> None:
    import pandas as pd

    rows = {_COLUMNS.get(name, name): values for name, values in columns.items()}
    rows["features"] = list(rows["features"])
    pd.DataFrame(rows).to_parquet(path, engine="pyarrow", index=False)


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
