"""Data whose splits have their shares to the image, for tests that count images and steps."""

from typing import Any

import numpy as np

import tltoolkit as tl
from tltoolkit.data.stratify import deal


def exact(
    images: np.ndarray, labels: np.ndarray, val: float, test: float = 0.0, **options: Any
) -> tl.data.ImageData:
    """As `from_arrays`, whose splits go by content, but with stratified shares."""
    whole = tl.data.from_arrays(images, labels, val=0.0, **options).train
    parts = deal(whole.labels, (1 - val - test, val, test), 0)
    splits = {name: whole.subset(parts == n) for n, name in enumerate(("train", "val", "test"))}
    return tl.data.ImageData(**{name: split for name, split in splits.items() if len(split)})
