"""Raw pixels to what a backbone was trained on, as layers that plain Keras can load."""

from dataclasses import dataclass
from typing import Any

# Of ImageNet's training images in 0..1, as keras.applications and PyTorch have them.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """`pixels * multiply + add` per channel, after the reversal to BGR if there is one."""

    multiply: tuple[float, ...]
    add: tuple[float, ...]
    bgr: bool = False


SCALES = {
    # The names of the first three are those of keras.applications.
    # Means of ImageNet in the order of BGR, without a division, as Caffe trained.
    "caffe": Scale(multiply=(1.0,) * 3, add=(-103.939, -116.779, -123.68), bgr=True),
    "tf": Scale(multiply=(1 / 127.5,) * 3, add=(-1.0,) * 3),
    "torch": Scale(
        multiply=tuple(1 / (255 * std) for std in _STD),
        add=tuple(-mean / std for mean, std in zip(_MEAN, _STD, strict=True)),
    ),
    "v2s": Scale(multiply=(1 / 128,) * 3, add=(-1.0,) * 3),
    # As the package with the weights trained: (x - 127) / 128, not 127.5.
    "lite": Scale(multiply=(1 / 128,) * 3, add=(-127 / 128,) * 3),
}


def preprocess(pixels: Any, scale: str) -> Any:
    """Put the preprocessing layers after a tensor of raw pixels.

    Args:
        pixels: Keras tensor (B, H, W, 3), RGB, 0..255, of any dtype.
        scale: a key of `SCALES`.

    Returns:
        Keras tensor (B, H, W, 3), float32 whatever the mixed-precision policy: half
        precision cannot tell neighbouring pixel values apart.
    """
    # Here, so that the table of backbones, which reads SCALES, loads at once.
    import keras

    rule = SCALES[scale]
    if rule.bgr:
        pixels = keras.ops.flip(pixels, axis=-1)
    rescaling = keras.layers.Rescaling(
        list(rule.multiply), list(rule.add), dtype="float32", name="preprocessing"
    )
    return rescaling(pixels)
