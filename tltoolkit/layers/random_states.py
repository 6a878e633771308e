"""The global generators of random numbers, left as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tltoolkit.layers import private


@contextmanager
def same_random_state() -> Iterator[None]:
    """Put the global generators of Python, NumPy and Keras back, however the block ends."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one others draw from
    seeds = private.global_seed_generator()
    seed = None if seeds is None else seeds.state.numpy()
    try:
        yield
    finally:
        # The generator itself too, which `keras.utils.set_random_seed` drops.
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        private.set_global_seed_generator(seeds)
        if seeds is not None:
            seeds.state.assign(seed)
