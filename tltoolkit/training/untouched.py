"""Put a model back as it was: after a measurement, or after a training that failed."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Put back, however the block ends: all variables, what is trainable, random states.

    Variables include BatchNorm's averages and the seeds of dropout layers; random states are
    those of Python, NumPy and Keras. What was compiled stays compiled, as long as the block
    does not compile `model` itself.
    """
    put_back = remembered(model)
    with same_random_state():
        try:
            yield
        finally:
            put_back()


@contextmanager
def put_back_on_failure(model: Any) -> Iterator[None]:
    """Put back all variables and what is trainable if the block raises, Ctrl-C included."""
    put_back = remembered(model)
    try:
        yield
    except BaseException:
        put_back()
        raise


def remembered(model: Any) -> Callable[[], None]:
    """A function that puts back all variables of a model and what of it is trainable."""
    values = [(v, np.copy(v.numpy())) for v in model.variables]
    # A layer's flag reaches all layers inside it, so containers come before what they contain.
    flags = [(layer, layer.trainable) for layer in model._flatten_layers()]
    variable_flags = [(v, v.trainable) for v in model.variables]

    def put_back() -> None:
        for layer, trainable in flags:
            layer.trainable = trainable
        for variable, trainable in variable_flags:
            variable.trainable = trainable
        for variable, value in values:
            variable.assign(value)

    return put_back


@contextmanager
def same_random_state() -> Iterator[None]:
    """Put the global generators of Python, NumPy and Keras back, however the block ends."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one others draw from
    seeds = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    seed = None if seeds is None else seeds.state.numpy()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, seeds)
        if seeds is not None:
            seeds.state.assign(seed)
