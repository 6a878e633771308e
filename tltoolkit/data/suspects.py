"""Images that can be read and still are hardly what was meant: black, blurred, of odd size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tltoolkit.data.verdicts import Verdict

KINDS = ("black", "uniform", "blurred", "tiny", "odd shape")
# 99 of 100 pixels are below this level: what 12-bit values in a 16-bit file become whose depth
# nobody told.
BLACK = 16
# Standard deviation of the levels; the noise of a camera alone has about as much.
UNIFORM = 2.0
# `Look.sharpness`. Photographs have 0.2 to 0.4; blurred by a Gaussian of 2 pixels, at the size
# they are looked at, they are about here.
BLURRED = 0.002
# A shorter side in pixels below which blur cannot be told.
_TELLING = 64
# Tiny is a shorter side below this, where half of the images have at least twice as much.
TINY = 64
# Times as wide, or as high, as the median image.
ODD = 3.0


@dataclass(frozen=True, kw_only=True)
class Usual:
    """The medians of a data set's readable images: shorter side in pixels, width / height."""

    side: float
    shape: float

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "Usual":
        """Those of these images; 0 and 1 if there are none."""
        if not verdicts:
            return cls(side=0.0, shape=1.0)
        sizes = np.array([(verdict.height, verdict.width) for verdict in verdicts])
        shapes = sizes[:, 1] / sizes[:, 0]
        return cls(side=float(np.median(sizes.min(axis=1))), shape=float(np.median(shapes)))


def of(verdict: Verdict, usual: Usual) -> Iterator[tuple[str, str]]:
    """What is suspicious about an image: a kind and the reason in words, for each."""
    if verdict.reason is not None:
        return
    height, width = verdict.height, verdict.width
    side, shape = min(height, width), width / height
    if verdict.brightest < BLACK:
        yield "black", f"99 % of its pixels are below level {BLACK} of 255"
    elif verdict.contrast < UNIFORM:
        yield "uniform", f"its levels deviate by {verdict.contrast:.1f} of 255"
    elif verdict.sharpness < BLURRED and side >= _TELLING:
        yield "blurred", f"its sharpness is {verdict.sharpness:.4f}, below {BLURRED}"
    if side < TINY and 2 * side <= usual.side:
        yield "tiny", f"{width} x {height} pixels, where the median shorter side is {usual.side:g}"
    if not usual.shape / ODD <= shape <= usual.shape * ODD:
        yield "odd shape", f"{width} x {height} pixels, where the median shape is {usual.shape:.2f}"
