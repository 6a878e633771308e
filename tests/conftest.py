"""What test files share."""

import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def eagerly() -> Iterator[None]:
    """Steps without graphs: tracing takes most of the time of a training of a few steps.

    For files that are about what is trained, kept or said; those about `fit` itself, validation
    and resuming trace as users do.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Even though the"
        )  # of tf.data, which stays a graph
        yield
    tf.config.run_functions_eagerly(False)
