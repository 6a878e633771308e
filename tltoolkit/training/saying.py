"""What a training says meanwhile: Keras' bars on a terminal, a line for each epoch elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import keras

from tltoolkit.training.terms import BARS, LINES, VERBOSE


def level(verbose: str | int) -> int:
    """What `verbose` stands for: `NOTHING`, `BARS` or `LINES`.

    Keras' own "auto" draws bars with control characters into files and pipes, too.

    Raises:
        ValueError: Something else than "auto", 0, 1 and 2.
    """
    VERBOSE.check("verbose", verbose)
    # True is 1 and False is 0, as in Keras.
    if verbose != "auto":
        return int(verbose)
    # Python has no standard output without a console, as under pythonw on Windows.
    return BARS if sys.stdout is not None and sys.stdout.isatty() else LINES


def values(logs: Mapping[str, Any]) -> str:
    """The figures of an epoch in one line."""
    return ", ".join(f"{name} {float(value):.4g}" for name, value in logs.items())


class Lines(keras.callbacks.Callback):
    """Prints one line at the end of each epoch; comes after what adds to the figures."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the time."""
        self._since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the line at once, so that a log file can be followed."""
        took = time.perf_counter() - self._since
        said = f"Epoch {epoch + 1}/{self.params['epochs']}: {values(logs or {})}, {took:.0f} s"
        print(said, flush=True)
