"""Images that are in memory already."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tltoolkit import _checks
from tltoolkit.data.assemble import assemble, check_arguments
from tltoolkit.data.groups import of_values
from tltoolkit.data.images import ImageData
from tltoolkit.data.labels import numbered
from tltoolkit.data.origin import remembered
from tltoolkit.data.sources import Arrays
from tltoolkit.data.terms import FROM_ARRAYS


@remembered
def from_arrays(
    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    labels: ArrayLike,
    class_names: Sequence[str] | None = None,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    duplicates: str = "error",
    multi_label: bool | None = None,
    groups: ArrayLike | None = None,
) -> ImageData:
    """Labelled images from arrays, which are used in place, not copied.

    Args:
        images: uint8, values 0..255: (N, H, W, 3), or (N, H, W) or (N, H, W, 1) grey; or a list
            of N such images of different sizes.
        labels: (N,) or (N, 1) class numbers 0..C-1 or texts, or (N, C) zeros and ones: one-hot
            where every row holds a single one (as `keras.utils.to_categorical` makes them), else
            several labels per image, none for some.
        class_names: the C names in the order of the class numbers; for texts, their order. By
            default "0", "1", ... or the sorted texts.
        val: fraction of the images for val, 0 <= val < 1, as in `from_directory`.
        test: the same for test.
        seed: of the splits, 0..2**32 - 1.
        duplicates: as in `from_directory`.
        multi_label: None goes by the rows, as said above; True lets several labels per image be
            possible though each has one (one column of zeros and ones is then one class, as it
            is with one class name), False refuses rows with several or none.
        groups: (N,) texts or whole numbers: what must stay on one side of every split and fold,
            such as the images of one patient.

    Raises:
        TypeError: an image is not a uint8 array.
        ValueError: wrong shapes, labels or names, NaN, or a class with fewer than two images.
    """
    splitting = check_arguments(FROM_ARRAYS, locals())
    _check_images(images)
    rule = "a sequence of names in the order of the class numbers"
    # A text is a sequence too, of its letters, and a set has no order to number classes by.
    if class_names is not None and (
        isinstance(class_names, (str, set)) or not isinstance(class_names, Iterable)
    ):
        raise _checks.fail("class_names", rule, class_names)
    numbers, names = numbered(_label_array(labels, len(images)), class_names, multi_label)
    return assemble(
        Arrays(images),
        numbers,
        names,
        np.zeros(len(images), np.int64),
        **splitting,
        groups=of_values(groups, [f"images[{i}]" for i in range(len(images))]),
    )


def _check_images(images: Any) -> None:
    _checks.instance("images", images, (np.ndarray, list, tuple), "an array or a list of arrays")
    if len(images) == 0:
        raise ValueError("`images` must hold at least one image")
    if isinstance(images, np.ndarray):
        check_pixels("images", images, ("(N, H, W, 3)", "(N, H, W)"), 1)
        return
    for place, image in enumerate(images):
        _checks.instance(f"images[{place}]", image, np.ndarray, "an array")
        check_pixels(f"images[{place}]", image, ("(H, W, 3)", "(H, W)"), 0)


def check_pixels(name: str, array: NDArray[Any], shapes: tuple[str, str], batch: int) -> None:
    """Raise TypeError or ValueError unless an array is uint8 and of one of two shapes.

    Args:
        name: what the error calls it.
        array: one image, or several.
        shapes: the two, as the error says them.
        batch: how many axes come before those of one image.
    """
    # First, since the advice of the next error would make pixels of NaN.
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"`{name}` holds NaN or infinite pixels; pixels must be uint8, 0..255")
    if array.dtype != np.uint8:
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        raise TypeError(
            f"`{name}` must be uint8 with values 0..255. Received: dtype {array.dtype}; "
            f"{_conversion(array.dtype, low, high)}; these are {low:.4g} to {high:.4g}"
        )
    shape = array.shape[batch:]
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) or 0 in shape:
        raise ValueError(
            f"`{name}` must have the shape {shapes[0]} or {shapes[1]}. Received: {array.shape}"
        )


def _conversion(dtype: Any, low: float, high: float) -> str:
    """How values of this range become pixels."""
    if np.issubdtype(dtype, np.bool_):
        return "convert with images.astype('uint8') * 255"
    if np.issubdtype(dtype, np.floating):
        if low >= 0 and high <= 1:
            return "convert values 0..1 with np.rint(images * 255).astype('uint8')"
        if -1 <= low < 0 < high <= 1:
            return "convert values -1..1 with np.rint((images + 1) * 127.5).astype('uint8')"
    if low >= 0 and high <= 255:
        return "convert values 0..255 with np.rint(images).astype('uint8')"
    return "scale them to 0..255, and convert with np.rint(images).astype('uint8')"


def _label_array(labels: ArrayLike, count: int) -> NDArray[Any]:
    try:
        array = np.asarray(labels)
    except ValueError as error:  # rows of different lengths
        raise _checks.fail("labels", "of the shape (N,) or (N, C)", labels) from error
    if array.ndim not in (1, 2):
        raise _checks.fail("labels", "of the shape (N,) or (N, C)", array.shape)
    if len(array) != count:
        raise _checks.fail("labels", f"as many as the {count} images", len(array))
    return array
