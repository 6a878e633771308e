"""Ready-made pipelines by name, and the rule that picks one by the amount of data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.augment.pipeline import Pipeline
from tltoolkit.augment.preparation import Preparation
from tltoolkit.augment.terms import PRESET


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How far a preset goes; each `_p` is the probability of its transform.

    Args:
        crop: smallest part of the picture's area that a random crop keeps.
        rotate: largest rotation in degrees, to either side.
        jitter: largest relative change of brightness, contrast and saturation.
        hue: largest turn of the hue, as a part of the colour circle.
        erase: largest side of an erased rectangle, as a part of the image's side.
        rotate_p: probability of a rotation.
        jitter_p: probability of a colour change.
        blur_p: probability of a Gaussian blur.
        noise_p: probability of Gaussian noise.
        erase_p: probability of erasing.
    """

    crop: float
    rotate: float
    rotate_p: float
    jitter: float
    hue: float
    jitter_p: float
    blur_p: float
    noise_p: float
    erase: float
    erase_p: float


STRENGTHS = {
    "light": Strength(
        crop=0.7, rotate=5, rotate_p=0.3, jitter=0.1, hue=0.0, jitter_p=0.5,
        blur_p=0.0, noise_p=0.0, erase=0.0, erase_p=0.0,
    ),
    "medium": Strength(
        crop=0.5, rotate=10, rotate_p=0.4, jitter=0.2, hue=0.02, jitter_p=0.7,
        blur_p=0.1, noise_p=0.1, erase=0.3, erase_p=0.25,
    ),
    "strong": Strength(
        crop=0.25, rotate=20, rotate_p=0.6, jitter=0.4, hue=0.05, jitter_p=0.8,
        blur_p=0.2, noise_p=0.2, erase=0.4, erase_p=0.5,
    ),
}  # fmt: skip


def preset(
    name: str,
    image_size: int,
    *,
    seed: int = 0,
    horizontal_flip: bool = True,
    vertical_flip: bool = False,
) -> Pipeline:
    """A ready-made pipeline.

    - "none": the resize alone.
    - "light", "medium", "strong": random resized crop, flips, rotation, colour and contrast;
      the last two also blur, noise and erasing. `STRENGTHS` holds the numbers.
    - "trivial": flips, then one random operation at a random strength (TrivialAugment,
      Müller and Hutter 2021, arXiv:2103.10158, in its smaller space of strengths).

    Set `horizontal_flip=False` for characters, signs and whatever else changes its meaning in a
    mirror; set `vertical_flip=True` for satellite and microscope images, which have no top.

    How an image becomes square is the classifier's (`build_classifier(fit=...)`), and comes first.

    Args:
        name: one of `augment.PRESETS`.
        image_size: side of the result in pixels, >= 1.
        seed: integer >= 0.
        horizontal_flip: whether half of the images are mirrored left to right.
        vertical_flip: whether half of the images are mirrored top to bottom.

    Raises:
        ValueError: for another name, image_size or seed.
    """
    _checks.arguments(PRESET, locals())
    first = Preparation()  # all that follows is for training alone
    if name == "none":
        return Pipeline(None, image_size, seed, first=first)
    flips = _flips(horizontal_flip, vertical_flip)
    if name == "trivial":
        return Pipeline(_trivial(image_size, flips), image_size, seed, first=first)
    return Pipeline(_recipe(STRENGTHS[name], image_size, flips), image_size, seed, first=first)


def choose(class_counts: Sequence[int] | NDArray[np.int64]) -> str:
    """The preset for `augment="auto"`: the fewer images per class, the stronger.

    With about 5,000 labelled images per class a network does well on its own (Goodfellow,
    Bengio and Courville 2016, Deep Learning, chapter 1); far below, augmentation has to help.

    Args:
        class_counts: images of each class, (C,) integers >= 0.

    Returns:
        "strong" below 100 images per class on average, "medium" below 5,000, else "light".

    Raises:
        ValueError: without any class.
    """
    counts = np.asarray(class_counts)
    if counts.ndim != 1 or not counts.size:
        raise _checks.fail("class_counts", "the number of images of each class", class_counts)
    # The mean and not the rarest class: the pipeline is one for all.
    mean = counts.mean()
    if mean < 100:
        return "strong"
    return "medium" if mean < 5000 else "light"


def _flips(horizontal: bool, vertical: bool) -> list[Any]:
    from tltoolkit.augment._albumentations import A

    wanted = ((A.HorizontalFlip, horizontal), (A.VerticalFlip, vertical))
    return [flip(p=0.5) for flip, on in wanted if on]


def _recipe(strength: Strength, size: int, flips: list[Any]) -> list[Any]:
    # The crop comes first: every later transform then works on the small image.
    from tltoolkit.augment._albumentations import A

    s = strength
    # By areas where it shrinks; by default albumentations 2.0.8 interpolates there, which aliases.
    crop = A.RandomResizedCrop((size, size), scale=(s.crop, 1.0), area_for_downscale="image")
    rest = [
        # Reflected at the edges: black corners would tell the model the angle.
        A.Rotate(limit=s.rotate, border_mode=cv2.BORDER_REFLECT_101, p=s.rotate_p),
        A.ColorJitter(s.jitter, s.jitter, s.jitter, s.hue, p=s.jitter_p),
        A.GaussianBlur(sigma_limit=(0.3, 1.5), p=s.blur_p),
        # At half the side and enlarged, for a quarter of the random numbers.
        A.GaussNoise(std_range=(0.01, 0.06), noise_scale_factor=0.5, p=s.noise_p),
        A.CoarseDropout(
            num_holes_range=(1, 1),
            hole_height_range=(0.1, max(s.erase, 0.1)),
            hole_width_range=(0.1, max(s.erase, 0.1)),
            fill=127,  # a grey near what models subtract; black would be a signal
            p=s.erase_p,
        ),
    ]
    return [crop, *flips, *(transform for transform in rest if transform.p > 0)]


def _trivial(size: int, flips: list[Any]) -> list[Any]:
    from tltoolkit.augment._albumentations import A

    edge = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1}
    # Degrees: 17 are a shear of 0.3, by which the paper counts.
    shear = {"translate_percent": 0.0, **edge}  # said, because the default changes its type
    colour = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "p": 1}
    operations = [
        A.NoOp(p=1),
        A.Rotate(limit=30, **edge),
        A.Affine(shear={"x": (-17, 17), "y": (0, 0)}, **shear),
        A.Affine(shear={"x": (0, 0), "y": (-17, 17)}, **shear),
        A.Affine(translate_percent={"x": (-0.3, 0.3), "y": (0, 0)}, **edge),
        A.Affine(translate_percent={"x": (0, 0), "y": (-0.3, 0.3)}, **edge),
        A.ColorJitter(**colour | {"brightness": (0.1, 1.9)}),
        A.ColorJitter(**colour | {"contrast": (0.1, 1.9)}),
        A.ColorJitter(**colour | {"saturation": (0.1, 1.9)}),
        A.Sharpen(alpha=(0.0, 0.9), lightness=(1.0, 1.0), p=1),
        A.Posterize(num_bits=(4, 8), p=1),
        A.Solarize(threshold_range=(0.0, 1.0), p=1),
        A.AutoContrast(p=1),
        A.Equalize(p=1),
    ]
    # First, so that every operation works on the small image.
    resize = A.Resize(size, size, area_for_downscale="image")
    return [resize, *flips, A.OneOf(operations, p=1)]
