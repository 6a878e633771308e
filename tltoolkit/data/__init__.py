"""Images and labels: sources, decoding, splits, audit."""

from tltoolkit.data.arrays import from_arrays
from tltoolkit.data.audit import Audit, Problem
from tltoolkit.data.decoding import ImageError, decode
from tltoolkit.data.directory import from_directory
from tltoolkit.data.images import ImageData
from tltoolkit.data.split import Split
from tltoolkit.data.stream import from_stream
from tltoolkit.data.table import from_table
from tltoolkit.data.tfds import from_tfds

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
