"""Read a PyTorch state dict of the format before 1.6, without PyTorch and running no code.

The file is five pickles in a row (magic number, protocol, system, the state dict with
references to storages, the keys of the storages), then for each key in that order an
8-byte little-endian count and the raw little-endian values.
"""

import hashlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Both are what torch.save wrote first, in this order, before version 1.6.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class _Tensor(NamedTuple):
    """Where a tensor lies: all counts are in values, not bytes."""

    dtype: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    # Left out: whether it needs a gradient, and hooks, which a weight has no use for here.
    dtype, key = storage
    return _Tensor(dtype, key, offset, shape, strides)


# A pickle calls whatever it names; by this list it can call nothing that does harm.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a weights file")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        # First comes the word "storage", last the device and a count, which is stored again.
        _, dtype, key, *_ = pid
        return dtype, key


def read(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """Read every array of a state dict.

    Args:
        path: the file.
        sha256: what the SHA-256 of the file must be, in hexadecimal digits.

    Returns:
        Name -> array, float32 or int64, as PyTorch shapes it.

    Raises:
        ValueError: the file is missing, or is not the one with that hash.
    """
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    content = path.read_bytes()
    # Before a byte is parsed; the files have tens of MB, so that one copy in memory is no matter.
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} must have the SHA-256 {sha256}, it has {found}")
    return parse(content)


def parse(content: bytes) -> dict[str, np.ndarray]:
    """Read every array from the bytes of a file; see `read`.

    Raises:
        ValueError: this is not a state dict of the format before 1.6.
        pickle.UnpicklingError: a pickle in it is broken or asks for anything but arrays.
    """
    stream = io.BytesIO(content)
    magic, protocol, _, tensors, keys = (_Unpickler(stream).load() for _ in range(5))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("not a PyTorch file of the format before 1.6")
    # The raw values below do not tell their type; the tensors that refer to them do.
    dtypes = {tensor.key: np.dtype(tensor.dtype) for tensor in tensors.values()}
    storages = {key: _storage(stream, dtypes[key]) for key in keys}
    return {name: _array(tensor, storages[tensor.key]) for name, tensor in tensors.items()}


def _storage(stream: io.BytesIO, dtype: np.dtype) -> np.ndarray:
    count = int.from_bytes(stream.read(8), "little")
    # With its `count` it refuses a file that was cut off.
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype, count)


def _array(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    size = storage.itemsize
    strides = tuple(step * size for step in tensor.strides)
    # NumPy refuses a view that would reach beyond the buffer.
    view = np.ndarray(tensor.shape, storage.dtype, storage, tensor.offset * size, strides)
    # The view is read-only and would hold the whole file; tensors may also share a storage.
    return view.copy()
