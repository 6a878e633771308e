"""Occlusion: what the answer loses where a patch of the image is covered."""

import numpy as np

from tltoolkit.artifacts.engine import Engine
from tltoolkit.explaining import found
from tltoolkit.explaining.found import Choose, Found

# Cells along a side, of which a patch covers 2 x 2: 121 passes an image. Finer patches hide too
# little of an object to change an answer, coarser ones say too little of its place.
CELLS = 12
PATCH = 2
# Of float32 probabilities: log odds beyond it would be those of rounding.
EPSILON = 1e-7


class Occlusion:
    """Covers an image patch by patch and asks each time (Zeiler and Fergus 2014).

    Args:
        engine: Of any classifier: only its probabilities are looked at.
        batch_size: Images per forward pass.
    """

    def __init__(self, engine: Engine, batch_size: int) -> None:
        self.engine = engine
        self.batch_size = batch_size

    def __call__(self, images: np.ndarray, choose: Choose) -> Found:
        """How much of the log odds of a class the patches over each place take, on average."""
        probabilities = np.asarray(self.engine.said(images))
        targets = choose(probabilities)
        whole = found.of_targets(probabilities, targets)
        lost = [
            self._lost(image, target, log_odds)
            for image, target, log_odds in zip(images, targets, _log_odds(whole), strict=True)
        ]
        return Found(evidence=np.stack(lost), targets=targets, probabilities=whole)

    def _lost(self, image: np.ndarray, target: int, log_odds: float) -> np.ndarray:
        side = len(image)
        patches = _patches(side)
        total, times = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
        # In its own mean colour: grey stands out in most images.
        colour = image.mean(axis=(0, 1)).round().astype(np.uint8)
        for start in range(0, len(patches), self.batch_size):
            some = patches[start : start + self.batch_size]
            covered = np.repeat(image[None], len(some), axis=0)
            for one, (rows, columns) in zip(covered, some, strict=True):
                one[rows, columns] = colour
            said = np.asarray(self.engine.said(covered))[:, target]
            for (rows, columns), left in zip(some, _log_odds(said), strict=True):
                total[rows, columns] += log_odds - left
                times[rows, columns] += 1
        return total / times


def _patches(side: int) -> list[tuple[slice, slice]]:
    """Where patches lie: each is `PATCH` cells wide, and begins a cell after the one before."""
    cells = min(CELLS, side)
    bounds = np.linspace(0, side, cells + 1).round().astype(int)
    # Of an image that is smaller than a patch there is one, all of it.
    lines = [slice(a, b) for a, b in zip(bounds, bounds[PATCH:], strict=False)] or [slice(0, side)]
    return [(rows, columns) for rows in lines for columns in lines]


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities.astype(np.float64), EPSILON, 1 - EPSILON)
    return np.log(p) - np.log1p(-p)
