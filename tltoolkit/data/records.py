"""Random access to the record files that TensorFlow Datasets writes."""

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tltoolkit.data.decoding import decode, jpeg_shape
from tltoolkit.data.sources import Source
from tltoolkit.data.spool import Part, Spool


class Reader(Protocol):
    """Numbered records, read concurrently; ArrayRecordDataSource of array_record is one too."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes: ...


class TFRecords:
    """The records of TFRecord files, found by an index of their places: 24 bytes per record.

    A record is its length (8 bytes), a checksum (4), its content, and a checksum (4).
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        places = [place for number in range(len(paths)) for place in self._scan(number)]
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> bytes:
        """The content of record `index`."""
        number, start, length = self._places[index].tolist()
        # Opened anew: threads that shared a file would move its place for each other.
        with open(self._paths[number], "rb") as file:
            file.seek(start)
            return file.read(length)

    def _scan(self, number: int) -> list[tuple[int, int, int]]:
        path, start = self._paths[number], 0
        places: list[tuple[int, int, int]] = []
        end = os.path.getsize(path)
        with open(path, "rb") as file:
            while start < end:
                file.seek(start)
                header = file.read(12)
                # Of a header cut short, a length that is too large below.
                length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else end
                if start + length + 16 > end:
                    raise ValueError(f"{path} is cut off in its record {len(places)}")
                places.append((number, start + 12, length))
                start += length + 16
        return places


def spooled(spool: Spool, paths: Iterable[str], file_format: Any) -> Part:
    """The records of files that can be read only in order, moved to a spool.

    Args:
        spool: where they are appended.
        paths: the files.
        file_format: the `tfds.core.FileFormat` of the files.

    Raises:
        ImportError: the package that reads the format is missing.
        ValueError: a damaged file, or more than the spool may hold.
    """
    start = len(spool)
    for path in paths:
        for record in _in_order(path, file_format):
            spool.append(record)
    return Part(spool, start, len(spool))


def _in_order(path: str, file_format: Any) -> Iterator[bytes]:
    from tensorflow_datasets.core import file_adapters

    if file_format == file_adapters.FileFormat.PARQUET:
        yield from _parquet_records(path)
        return
    try:
        records = file_adapters.ADAPTER_FOR_FORMAT[file_format].make_tf_data(path)
    except ImportError as error:
        package = error.name or file_format.value
        raise ImportError(
            f"records of the format {file_format.value} need the package {package}"
        ) from error
    yield from records.as_numpy_iterator()


def _parquet_records(path: str) -> Iterator[bytes]:
    # TensorFlow Datasets' own reader holds a whole file in memory, and slows the process down by
    # its use of `from_generator` (see augment/dataset.py).
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]

    try:
        with parquet.ParquetFile(path) as file:
            # Few at a time, since each is a whole encoded image.
            for batch in file.iter_batches(16):
                yield from (value.as_py() for value in batch["data"])
    except (ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


class Records(Source):
    """Encoded images inside tf.train.Example records.

    Args:
        readers: the records of each split, by the split's name.
        places: for each image its split and its number there.
        sizes: for each image its encoded size in bytes.
        feature: the feature that holds the encoded image.
        max_pixels: the largest width * height to decode.
    """

    def __init__(
        self,
        readers: Mapping[str, Reader],
        places: Sequence[tuple[str, int]],
        sizes: Sequence[int],
        feature: str,
        max_pixels: int,
    ) -> None:
        self._readers = dict(readers)
        self._places = tuple(places)
        self._sizes = np.array(sizes, np.int64)
        self._feature = feature
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._places)

    def image(self, index: int, side: int | None = None) -> NDArray[np.uint8]:
        """The image as (H, W, 3) uint8 RGB; `side` as in `decode`."""
        name, limit = self.name(index), self._max_pixels
        return decode(self._encoded(index), name=name, max_pixels=limit, side=side)

    def jpeg_shape(self, index: int) -> tuple[int, int] | None:
        """Height and width of a whole JPEG; None for another image."""
        return jpeg_shape(self._encoded(index))

    def name(self, index: int) -> str:
        """The split of the data set and the number of the record in it: "train[7]"."""
        split, number = self._places[index]
        return f"{split}[{number}]"

    def size(self, index: int) -> int:
        """Bytes of the encoded image."""
        return int(self._sizes[index])

    def digest(self, index: int) -> str:
        """SHA-256 of the encoded image."""
        return hashlib.sha256(self._encoded(index)).hexdigest()

    def _encoded(self, index: int) -> bytes:
        split, number = self._places[index]
        return feature_bytes(parse(self._readers[split][number]), self._feature)


def parse(record: bytes) -> Any:
    """The tf.train.Example in a record."""
    # Not above: whoever reads no records need not wait for TensorFlow.
    from tensorflow.train import Example

    return Example.FromString(record)


def feature_bytes(example: Any, feature: str) -> bytes:
    """The one bytes value of a feature of a tf.train.Example."""
    return bytes(example.features.feature[feature].bytes_list.value[0])
