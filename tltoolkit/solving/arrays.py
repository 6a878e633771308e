"""Named arrays, such as those of a file, looked at before anything is made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def check(given: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless there are arrays of just these names and shapes, all finite."""
    if set(given) != set(shapes):
        raise ValueError(f"it must hold {', '.join(sorted(shapes))}, not {sorted(given)}")
    for name, shape in shapes.items():
        if given[name].shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, not {given[name].shape}")
        if not np.isfinite(given[name]).all():
            raise ValueError(f"{name} holds NaN or infinite values")
