"""Random generators keyed on what they are for, so that no worker or order can change them."""

import numpy as np

# One stream per purpose: shuffling an epoch never repeats the numbers of an image.
AUGMENT, SHUFFLE, MIX = range(3)


def keyed(seed: int, stream: int, *key: int) -> np.random.Generator:
    """A generator that depends on (seed, stream, key) alone; all of them integers >= 0."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *key)))
