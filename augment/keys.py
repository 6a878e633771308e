"""Random generators keyed on what they are for, so that no worker or order can change them."""

import numpy as np

# One stream per purpose: shuffling an epoch never repeats the numbers of an image.
AUGMENT, SHUFFLE, MIX = range(3)


def keyed(seed: int, stream: int, *key: int) -> np.random.Generator:
    """A generator that depends on (seed, stream, key) alone; all of them integers >= 0."""
    # A spawn key and not a sum: seed 1 of image 2 must not be seed 2 of image 1.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))
