"""Images that can be read only once and in order: generators, tf.data, Hugging Face, PyTorch."""

import os
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm  # type: ignore[import-untyped]

from tltoolkit import _checks
from tltoolkit.data.arrays import check_pixels
from tltoolkit.data.assemble import assemble, check_arguments, check_class_names, tidy
from tltoolkit.data.decoding import MAX_PIXELS, from_pillow
from tltoolkit.data.groups import of_values
from tltoolkit.data.images import ImageData
from tltoolkit.data.labels import numbered, several_in_one
from tltoolkit.data.origin import remembered
from tltoolkit.data.spool import SPOOL_GB, Spool, SpooledImages
from tltoolkit.data.terms import FROM_STREAM

# The shape that says "the bytes of an image file".
_FILE = (0, 0, 0)


@remembered
def from_stream(
    examples: Iterable[Any],
    class_names: Sequence[str] | None = None,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    image: str = "image",
    label: str = "label",
    on_bad: str = "error",
    duplicates: str = "error",
    max_pixels: int = MAX_PIXELS,
    spool_gb: float = SPOOL_GB,
    spool_dir: str | os.PathLike[str] | None = None,
    multi_label: bool | None = None,
    groups: str | None = None,
) -> ImageData:
    """Labelled images of anything that hands them out one by one, in its own order.

    Splits by class, shuffling, k-fold and resampling need any image at any time. So the stream is
    read once, here, one example after the other, into a temporary file; what comes back has
    random access like every other source. The file has no name, so it is gone with the process,
    however that ends. Image files stay encoded; arrays take their pixels' room. The memory needed
    is that of one example, and about 50 bytes for each.

    Args:
        examples: a finite iterable of pairs (image, label), or of mappings with these two keys: a
            generator, a `tf.data.Dataset` (not a batched one), a Hugging Face or PyTorch data
            set. An image is the bytes of an image file, a uint8 array (H, W, 3), (H, W, 1) or
            (H, W), or a Pillow image. A label is a class number 0..C-1, a text, or C zeros and
            ones (one-hot, or several labels per image, as in `from_arrays`).
        class_names: as in `from_arrays`.
        val: fraction of the images for val, 0 <= val < 1, as in `from_directory`.
        test: the same for test.
        seed: of the splits, 0..2**32 - 1.
        image: the key of the image, where examples are mappings.
        label: the key of the label.
        on_bad: as in `from_directory`; about image files.
        duplicates: as in `from_directory`.
        max_pixels: image files and Pillow images of more pixels than this are errors.
        spool_gb: the temporary file's largest size in GiB, > 0. There is no way without it:
            images that fit the memory go to `from_arrays`.
        spool_dir: the folder where it is made; by default the system's temporary folder.
        multi_label: as in `from_arrays`.
        groups: the key of what must stay on one side of every split and fold, such as the
            patient, a text or whole number, where examples are mappings.

    Raises:
        TypeError: `examples` is no iterable, or an image is of another type.
        ValueError: an example of another form, by its number; an endless stream, or one that does
            not fit `spool_gb`; labels or names as in `from_arrays`.
        OSError: the disk is full.
    """
    splitting = check_arguments(FROM_STREAM, locals())
    _check_stream(examples)
    labels = _Labels(class_names, multi_label)
    belongs: list[Any] = []
    spool, shapes = Spool(spool_gb, spool_dir), array("i")
    for number, example in enumerate(tqdm(examples, "reading", unit="image", disable=None)):
        name = f"examples[{number}]"
        picture, given = _pair(name, example, image, label)
        labels.append(name, _as_numpy(given))
        if groups is not None:
            belongs.append(_group(name, example, groups))
        content, shape = _content(name, picture, max_pixels)
        spool.append(content)
        shapes.extend(shape)
    if not len(spool):
        raise ValueError("`examples` must hold at least one example")
    class_numbers, names = numbered(labels.as_array(), labels.names, multi_label)
    return assemble(
        SpooledImages(spool, np.array(shapes, np.int32).reshape(-1, 3), max_pixels),
        class_numbers,
        names,
        np.zeros(len(spool), np.int64),
        **splitting,
        groups=of_values(belongs or None, [f"examples[{i}]" for i in range(len(spool))]),
    )


def _check_stream(examples: Any) -> None:
    # PyTorch's data sets have no __iter__, but `for` takes them too.
    if not (hasattr(examples, "__iter__") or hasattr(examples, "__getitem__")):
        rule = "an iterable of pairs (image, label); a generator function must be called"
        raise TypeError(str(_checks.fail("examples", rule, examples)))
    # -1 is tf.data.INFINITE_CARDINALITY.
    if hasattr(examples, "cardinality") and int(examples.cardinality()) == -1:
        raise _checks.fail("examples", "finite: dataset.take(n) ends a data set", examples)


def _pair(name: str, example: Any, image: str, label: str) -> tuple[Any, Any]:
    if isinstance(example, Mapping):
        for argument, key in (("image", image), ("label", label)):
            if key not in example:
                raise _checks.fail(argument, f"a key of {name}, one of {list(example)}", key)
        return example[image], example[label]
    if isinstance(example, tuple | list) and len(example) == 2:
        return example[0], example[1]
    length = f" of {len(example)}" if isinstance(example, tuple | list) else ""
    rule = "a pair (image, label), or a mapping with both"
    raise _checks.fail(name, rule, type(example).__name__ + length)


def _group(name: str, example: Any, key: str) -> Any:
    """The group that a mapping says, as text or number."""
    if not isinstance(example, Mapping) or key not in example:
        held = list(example) if isinstance(example, Mapping) else "a pair, which has no keys"
        raise _checks.fail("groups", f"a key of {name}, one of {held}", key)
    value = np.asarray(_as_numpy(example[key])).item()
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _as_numpy(value: Any) -> Any:
    """Tensors of TensorFlow or PyTorch as arrays; one with a text becomes bytes."""
    return value.numpy() if hasattr(value, "numpy") else value


def _content(name: str, image: Any, max_pixels: int) -> tuple[bytes, tuple[int, int, int]]:
    """What to keep of an image: its file, or its pixels with their shape."""
    if isinstance(image, Image.Image):
        image = from_pillow(image, name, max_pixels)
    elif isinstance(image, Mapping) and "bytes" in image:  # Hugging Face's Image(decode=False)
        image = image["bytes"]
    image = _as_numpy(image)
    if isinstance(image, bytes):
        return image, _FILE
    rule = "an example whose image is a file's bytes, a uint8 array or a Pillow image, no path"
    _checks.instance(name, image, np.ndarray, rule)
    if image.ndim == 4:
        rule = "an example of one image, not a batch; dataset.unbatch() undoes those of tf.data"
        raise _checks.fail(name, rule, image.shape)
    check_pixels(name, image, ("(H, W, 3)", "(H, W)"), 0)
    height, width = image.shape[:2]
    return image.tobytes(), (height, width, image.size // (height * width))


class _Labels:
    """The labels of a stream, all of one kind; each is checked as it comes.

    Args:
        class_names: those that the labels must fit, if the user gave some.
        multi_label: as in `from_arrays`.
    """

    def __init__(self, class_names: Sequence[str] | None, multi_label: bool | None) -> None:
        if isinstance(class_names, str):
            raise _checks.fail("class_names", "a sequence of names", class_names)
        self.names = None if class_names is None else tuple(class_names)
        check_class_names(self.names or ())
        self._rows_of_one = several_in_one(self.names, multi_label)
        self._labels: list[Any] = []

    def append(self, name: str, value: Any) -> None:
        """Add the label of an example; ValueError, with its name, if it does not fit."""
        label = _label(name, value, self._rows_of_one)
        first = self._labels[0] if self._labels else label
        if type(label) is not type(first) or np.shape(label) != np.shape(first):
            rule = f"an example whose label is of the form of the first one, {first!r}"
            raise _checks.fail(name, rule, label)
        if self.names is not None and not _fits(label, self.names):
            raise _checks.fail(
                name, f"an example whose label is of the classes {self.names}", label
            )
        self._labels.append(label)

    def as_array(self) -> NDArray[Any]:
        """(N,) int64 numbers, (N,) texts or (N, C) uint8 zeros and ones."""
        # As objects: NumPy's own texts would each take the room of the longest.
        texts = isinstance(self._labels[0], str)
        return np.array(self._labels, object if texts else None)


def _fits(label: int | str | NDArray[np.uint8], class_names: tuple[str, ...]) -> bool:
    if isinstance(label, str):
        return label in class_names
    return label < len(class_names) if isinstance(label, int) else len(label) == len(class_names)


def _label(name: str, value: Any, rows_of_one: bool) -> int | str | NDArray[np.uint8]:
    """A class number, a text, or a row of zeros and ones; a row of one is a class by default."""
    rule = "an example whose label is a class number 0..C-1, a text, or a row of zeros and ones"
    try:
        row = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise _checks.fail(name, rule, value) from error
    single = row.ndim == 0 or (row.shape == (1,) and not rows_of_one)
    if row.ndim == 1 and row.size and not single and np.isin(row, (0, 1)).all():
        return row.astype(np.uint8)
    one = row.item() if single else None
    if isinstance(one, bytes):
        one = os.fsdecode(one)
    if isinstance(one, str):
        return sys.intern(tidy(one))  # one text for all examples of a class
    if isinstance(one, bool):
        return one
    # Far more classes than anyone has, and no more than fit the array.
    if isinstance(one, (int, float)) and one % 1 == 0 and 0 <= one < 2**31:
        return int(one)
    raise _checks.fail(name, rule, value)
