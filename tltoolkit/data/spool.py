"""What came as a stream, kept in a file without a name: random access to what had none."""

import hashlib
import os
import tempfile
import threading
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.data.decoding import decode, jpeg_shape
from tltoolkit.data.sources import Source, as_rgb, pixel_digest

# Larger than most data sets of photographs, smaller than most disks.
SPOOL_GB = 20.0


class Spool:
    """Byte strings by number, in a temporary file; 8 bytes of memory for each.

    The file has no name, so it is gone with the process, however that ends.

    Args:
        gb: the file's largest size in GiB, > 0; the user's `spool_gb`.
        directory: where the file is made, the user's `spool_dir`; None takes the system's
            temporary folder.

    Raises:
        ValueError: a size out of range, or a folder that takes no files.
    """

    def __init__(self, gb: float, directory: str | os.PathLike[str] | None = None) -> None:
        _checks.number("spool_gb", gb, above=0)
        if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
            raise _checks.fail("spool_dir", "a folder to which files can be written", directory)
        self._gb = gb
        self._directory = directory
        self._starts = array("q", [0])
        self._lock = threading.Lock()

    # When the first comes: a data set that is read in place gets a spool, too, and no file.
    @cached_property
    def _file(self) -> IO[bytes]:
        # No buffer: what does not fit the disk is known at once, and reads see every write.
        return tempfile.TemporaryFile(dir=self._directory, buffering=0)

    def __len__(self) -> int:
        """How many byte strings there are."""
        return len(self._starts) - 1

    def append(self, content: bytes) -> None:
        """Add one more at the end.

        Raises:
            ValueError: it would make the file larger than `gb`.
            OSError: the disk is full.
        """
        end = self._starts[-1] + len(content)
        if end > self._gb * 2**30:
            rule = (
                f"larger: {len(self)} examples of the stream fill it, and there are more (one "
                "that repeats without end must be cut: dataset.take(n), itertools.islice)"
            )
            raise _checks.fail("spool_gb", rule, self._gb)
        try:
            with self._lock:
                os.lseek(self._file.fileno(), self._starts[-1], os.SEEK_SET)
                _write(self._file.fileno(), content)
        except OSError as error:
            where = self._directory or tempfile.gettempdir()
            raise OSError(
                f"after {len(self)} examples of the stream ({end / 2**30:.2f} GiB) no more can be "
                f"written to {where}: {error.strerror}; pass `spool_dir`, a folder with more room"
            ) from error
        # Last: what failed half-way does not count, and the next one is written over it.
        self._starts.append(end)

    def size(self, index: int) -> int:
        """Length of number `index`."""
        return self._starts[index + 1] - self._starts[index]

    def read(self, index: int) -> bytes:
        """Number `index`. Safe to call from many threads at once."""
        size, start = self.size(index), self._starts[index]
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, start)
        # Windows has none, and the file has one place for all who read and write.
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)


def _write(descriptor: int, content: bytes) -> None:
    # One call may write a part only: of more than 2 GiB, or of what the disk still takes.
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@dataclass(frozen=True)
class Part:
    """The byte strings `start` <= number < `stop` of a spool, numbered from 0."""

    spool: Spool
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> bytes:
        return self.spool.read(self.start + index)


class SpooledImages(Source):
    """Images in a spool: files as they came, or bare pixels.

    Args:
        spool: one byte string per image.
        shapes: (N, 3) the height, width and channels (1 or 3) of bare pixels; zeros for a file.
        max_pixels: the largest width * height to decode.
    """

    def __init__(self, spool: Spool, shapes: NDArray[np.int32], max_pixels: int) -> None:
        self._spool = spool
        self._shapes = shapes
        self._max_pixels = max_pixels

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._spool)

    def image(self, index: int, side: int | None = None) -> NDArray[np.uint8]:
        """The image as read-only (H, W, 3) uint8 RGB; `side` as in `decode`, of a file.

        Raises:
            ImageError: the file cannot be read; it names the image.
        """
        content, shape = self._spool.read(index), self._shapes[index]
        if shape.any():
            return as_rgb(np.frombuffer(content, np.uint8).reshape(shape))
        return decode(content, name=self.name(index), max_pixels=self._max_pixels, side=side)

    def jpeg_shape(self, index: int) -> tuple[int, int] | None:
        """Height and width of a whole JPEG; None for another image and for pixels."""
        return None if self._shapes[index].any() else jpeg_shape(self._spool.read(index))

    def name(self, index: int) -> str:
        """The place in the stream, counted from 0."""
        return f"example {index} of the stream"

    def size(self, index: int) -> int:
        """Bytes of the file or of the pixels."""
        return self._spool.size(index)

    def digest(self, index: int) -> str:
        """SHA-256 of the file, or of shape and pixels as of arrays."""
        content, shape = self._spool.read(index), self._shapes[index]
        if shape.any():
            return pixel_digest(np.frombuffer(content, np.uint8).reshape(shape))
        return hashlib.sha256(content).hexdigest()
