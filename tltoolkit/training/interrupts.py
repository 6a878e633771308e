"""Ctrl-C and SIGTERM while a run trains: the step is finished and a checkpoint written first."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # the exit code of a program that SIGTERM ended


class Interrupts:
    """Takes SIGINT and SIGTERM: between steps where steps run, at once elsewhere.

    Attributes:
        waits: Whether steps run, so that the signal waits for the end of one.
        asked: The signal that waits, or None.
    """

    def __init__(self) -> None:
        self.waits = False
        self.asked: int | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Take the signals within; the handlers of before come back at the end.

        Python lets only the main thread do so: in another one nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None stands for a handler that was not made in Python and cannot come back.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def leave(self) -> None:
        """Raise for the signal that waits.

        Raises:
            KeyboardInterrupt: It was SIGINT.
            SystemExit: It was SIGTERM; the exit code is 143.
        """
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked == signal.SIGTERM:
            sys.exit(TERMINATED)

    def _take(self, number: int, frame: Any) -> None:
        again, self.asked = self.asked is not None, number
        # At once where no step is under way, and for whoever asks twice.
        if again or not self.waits:
            self.leave()
        # Not by print: the signal may have come in the middle of one.
        os.write(2, b"\nInterrupted: a checkpoint follows this step; once more stops at once.\n")
