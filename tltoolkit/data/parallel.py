"""One call for each of many images, on all cores, in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm  # type: ignore[import-untyped]

Item = TypeVar("Item")
Result = TypeVar("Result")
# Calls begun beyond the one whose result is next: enough to ride out a slow file. A call that
# waits takes more than a kilobyte, so that not all are begun at once.
_AHEAD = 64


def each(
    function: Callable[[Item], Result], items: Iterable[Item], total: int, what: str
) -> list[Result]:
    """What `function` makes of each item, in their order; a bar on a terminal says `what`.

    An exception, that of an interrupt too, ends it once the calls that run have ended.
    """
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        begun = (pool.submit(function, item) for item in items)
        return list(tqdm(_results(begun), what, total, unit="image", disable=None))
    finally:
        pool.shutdown(cancel_futures=True)


def _results(begun: Iterator[Future[Result]]) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for future in begun:
        waiting.append(future)
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
