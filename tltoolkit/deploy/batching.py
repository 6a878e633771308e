"""Images of requests that come together, put through the model together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Asked(NamedTuple, Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]
    came: float


class Batcher(Generic[Item, Answer]):
    """Calls a function with as many items as there are, up to a limit, in one thread.

    A batch is closed when it is full, or when its first item has waited long enough. What comes
    while the function runs has waited by then, so that a busy server does not wait at all.
    """

    def __init__(
        self, compute: Callable[[list[Item]], Sequence[Answer]], size: int, wait: float
    ) -> None:
        """A batcher; `running` makes it work.

        Args:
            compute: Gives one answer for each item, in their order.
            size: Items of one call, at most.
            wait: Seconds that the first item waits for others.
        """
        self._compute, self._size, self._wait = compute, size, wait
        self._queue: asyncio.Queue[_Asked[Item, Answer]] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer what is asked within."""
        # One thread: not every runtime can be called by two.
        with ThreadPoolExecutor(1, thread_name_prefix="tltoolkit-model") as thread:
            work = asyncio.create_task(self._work(thread))
            try:
                yield
            finally:
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    async def ask(self, items: Sequence[Item]) -> list[Answer]:
        """The answers to some items, which may be computed beside those of others.

        Raises:
            Exception: Whatever `compute` has raised.
        """
        loop = asyncio.get_running_loop()
        asked = [_Asked(item, loop.create_future(), loop.time()) for item in items]
        for one in asked:
            self._queue.put_nowait(one)
        return await asyncio.gather(*(one.answer for one in asked))

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Whoever asked may have given up, which cancels what was asked.
            batch = [one for one in await self._batch() if not one.answer.done()]
            if not batch:
                continue
            try:
                items = [one.item for one in batch]
                answers = await loop.run_in_executor(thread, self._compute, items)
            except Exception as error:
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    async def _batch(self) -> list[_Asked[Item, Answer]]:
        batch = [await self._queue.get()]
        # What is there already is taken even where the first has waited for long.
        while len(batch) < self._size and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(batch[0].came + self._wait):
                while len(batch) < self._size:
                    batch.append(await self._queue.get())
        return batch
