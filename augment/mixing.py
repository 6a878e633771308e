"""mixup and cutmix: batches of blended images with labels blended alike."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks

Batch = tuple[NDArray[Any], NDArray[np.float32]]


def mixup(
    images: NDArray[Any], targets: NDArray[Any], rng: np.random.Generator, *, alpha: float = 0.2
) -> Batch:
    """Blend every image, and its label, with another one of the batch.

    x = m x_i + (1 - m) x_j, y likewise, with m drawn from Beta(alpha, alpha) for each pair
    (Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization, arXiv:1710.09412).

    Args:
        images: (B, H, W, channels), uint8, float32 or float64.
        targets: (B, C) one-hot, multi-hot or soft labels.
        rng: where the random numbers come from.
        alpha: > 0; small values leave most images nearly pure. The paper uses 0.1 to 0.4.

    Returns:
        Images of the same shape and dtype (uint8 is rounded) and (B, C) float32 labels.

    Raises:
        ValueError: for other shapes, dtypes or alpha.
    """
    partner, share = _draw(images, targets, rng, alpha)
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"`images` must be uint8, float32 or float64. Received: {images.dtype}")
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    mixed = np.empty_like(rows)
    for i, j in enumerate(partner):  # OpenCV takes a thirtieth of the time of NumPy here
        m = float(share[i])
        cv2.addWeighted(rows[i : i + 1], m, rows[j : j + 1], 1 - m, 0, dst=mixed[i : i + 1])
    return mixed.reshape(images.shape), _blend(targets, partner, share)


def cutmix(
    images: NDArray[Any], targets: NDArray[Any], rng: np.random.Generator, *, alpha: float = 1.0
) -> Batch:
    """Paste a rectangle of another image of the batch; labels follow the areas.

    The rectangle takes 1 - m of the area, with m drawn from Beta(alpha, alpha) for each pair,
    is centred anywhere and cut at the edges (Yun et al. 2019, CutMix, arXiv:1905.04899).

    Args:
        images: (B, H, W, channels), any dtype.
        targets: (B, C) one-hot, multi-hot or soft labels.
        rng: where the random numbers come from.
        alpha: > 0; the paper uses 1.

    Returns:
        Images of the same shape and dtype and (B, C) float32 labels.

    Raises:
        ValueError: for other shapes or alpha.
    """
    partner, share = _draw(images, targets, rng, alpha)
    height, width = images.shape[1:3]
    rows = rng.integers(height, size=len(images))
    columns = rng.integers(width, size=len(images))
    # A root, as the share is one of the area.
    half = np.sqrt(1 - share) / 2
    # A copy: what is pasted must come from images that nothing was pasted into.
    mixed = images.copy()
    for i, j in enumerate(partner):
        top, bottom = _span(rows[i], half[i], height)
        left, right = _span(columns[i], half[i], width)
        mixed[i, top:bottom, left:right] = images[j, top:bottom, left:right]
        # What was pasted in fact: the edges of the image cut some off.
        share[i] = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, _blend(targets, partner, share)


def _draw(
    images: NDArray[Any], targets: NDArray[Any], rng: np.random.Generator, alpha: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    _checks.number("alpha", alpha, above=0)
    if images.ndim != 4:
        raise ValueError(f"`images` must be (B, H, W, channels). Received shape: {images.shape}")
    if targets.ndim != 2 or len(targets) != len(images):
        raise ValueError(
            f"`targets` must be (B, C) labels of {len(images)} images. "
            f"Received shape: {targets.shape}"
        )
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    # A permutation, so that each image is pasted or blended once; it may meet itself.
    return rng.permutation(len(images)), share


def _blend(
    targets: NDArray[Any], partner: NDArray[np.int64], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    weight = share[:, None]
    return (targets * weight + targets[partner] * (1 - weight)).astype(np.float32)


def _span(centre: int, half: float, length: int) -> tuple[int, int]:
    reach = round(half * length)
    return max(centre - reach, 0), min(centre + reach, length)
