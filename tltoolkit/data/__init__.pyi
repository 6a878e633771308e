"""The names of this room, for type checkers and for `lazy_loader`, which reads them here."""

from .arrays import from_arrays
from .audit import Audit, Problem
from .decoding import ImageError, decode
from .directory import from_directory
from .images import ImageData
from .split import Split
from .stream import from_stream
from .table import from_table
from .tfds import from_tfds

__all__ = [
    "Audit",
    "ImageData",
    "ImageError",
    "Problem",
    "Split",
    "decode",
    "from_arrays",
    "from_directory",
    "from_stream",
    "from_table",
    "from_tfds",
]
