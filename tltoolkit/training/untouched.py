"""Put a model back as it was: after a measurement, or after a training that failed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tltoolkit.layers import graph
from tltoolkit.layers.random_states import same_random_state


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
    # Copied, since the array of a variable is its memory, which training overwrites.
    values = [(v, np.copy(v.numpy())) for v in model.variables]
    # A layer's flag reaches all layers inside it, so containers come before what they contain.
    flags = [(layer, layer.trainable) for layer in graph.layers_inside(model)]
    variable_flags = [(v, v.trainable) for v in model.variables]

    def put_back() -> None:
        for layer, trainable in flags:
            layer.trainable = trainable
        # After the layers, whose flags reach down to variables.
        for variable, trainable in variable_flags:
            variable.trainable = trainable
        for variable, value in values:
            variable.assign(value)

    return put_back
