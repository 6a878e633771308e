"""Contrast normalisation as albumentations transforms.

A model must see ever after what it was trained on: a classifier that is trained with these keeps
them, see `Preparation`. The Keras layers of `layers` do the same within a model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment import contrast, images
from tltoolkit.augment._albumentations import A
from tltoolkit.augment.terms import CONTRAST


class GlobalContrast(A.ImageOnlyTransform):
    """`contrast.global_contrast` as a transform: uint8 in, rounded and clipped uint8 out.

    Args:
        scale: standard deviation of the result in grey levels, > 0.
        offset: mean of the result in grey levels.
        regularizer: > 0, in squared grey levels; images of less variance stay faint.
        p: probability of the transform.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        scale: float = contrast.SCALE,
        offset: float = contrast.OFFSET,
        regularizer: float = contrast.REGULARIZER,
        p: float = 1.0,
    ) -> None:
        _checks.arguments(CONTRAST, locals())
        super().__init__(p=p)
        self.scale = scale
        self.offset = offset
        self.regularizer = regularizer

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Normalise one (H, W, 3) uint8 image; albumentations calls this."""
        images.check_image(img)
        result = contrast.global_contrast(
            img, scale=self.scale, offset=self.offset, regularizer=self.regularizer
        )
        return _to_uint8(result)


class LocalContrast(GlobalContrast):
    """`contrast.local_contrast` as a transform: uint8 in, rounded and clipped uint8 out.

    Args:
        scale: contrast of the result in grey levels, > 0.
        offset: mean of the result in grey levels.
        regularizer: > 0, in squared grey levels; areas of less variance stay faint.
        window: side of the Gaussian window in pixels, odd, >= 3.
        p: probability of the transform.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        scale: float = contrast.SCALE,
        offset: float = contrast.OFFSET,
        regularizer: float = contrast.REGULARIZER,
        window: int = contrast.WINDOW,
        p: float = 1.0,
    ) -> None:
        contrast.check_window(window)
        super().__init__(scale, offset, regularizer, p)
        self.window = window

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Normalise one (H, W, 3) uint8 image; albumentations calls this."""
        images.check_image(img)
        result = contrast.local_contrast(
            img,
            scale=self.scale,
            offset=self.offset,
            regularizer=self.regularizer,
            window=self.window,
        )
        return _to_uint8(result)


def _to_uint8(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    # Rounded first: `astype` cuts off, and clipping after it would see wrapped values.
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
