"""Worker threads that share the cores fairly with OpenCV and end when they are no longer needed."""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2


def cores() -> int:
    """The cores that this process may use."""
    # A container or `taskset` may leave fewer than the machine has; macOS and Windows cannot tell.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Worker threads; leaving it forgets the work not yet begun and waits for the rest."""
    executor = ThreadPoolExecutor(workers, thread_name_prefix="tltoolkit")
    try:
        with _opencv_single_threaded():
            yield executor
    finally:
        # Without cancelling, whoever leaves early would wait for work that nobody wants.
        executor.shutdown(cancel_futures=True)


class _Users:
    """How many pools are open, and OpenCV's number of threads before the first."""

    # Pools may open in several threads, such as those of a server.
    lock = threading.Lock()
    count = 0
    threads_before = 0


@contextlib.contextmanager
def _opencv_single_threaded() -> Iterator[None]:
    # The setting is the process's, so the first pool changes it and the last restores it.
    with _Users.lock:
        if not _Users.count:
            _Users.threads_before = cv2.getNumThreads()
            # 0 runs OpenCV in the calling thread, without the GIL: one thread a core is enough.
            cv2.setNumThreads(0)
        _Users.count += 1
    try:
        yield
    finally:
        with _Users.lock:
            _Users.count -= 1
            if not _Users.count:
                cv2.setNumThreads(_Users.threads_before)
