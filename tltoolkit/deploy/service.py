"""The HTTP service: what it answers to which request."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from tltoolkit import __version__
from tltoolkit.artifacts.answers import plain
from tltoolkit.artifacts.inference import versions_of
from tltoolkit.artifacts.predictor import Answer, Prediction, Predictor
from tltoolkit.artifacts.seeing import BadImage, seen
from tltoolkit.augment import threads
from tltoolkit.deploy import front, uploads
from tltoolkit.deploy.batching import Batcher
from tltoolkit.deploy.limits import Limits
from tltoolkit.deploy.metrics import Metrics
from tltoolkit.deploy.uploads import Upload

UNREADABLE, BUSY = 422, 503
RETRY = {"Retry-After": "1"}  # seconds; the queue is some seconds long at most


class Service:
    """A classifier that answers requests."""

    def __init__(
        self, predictor: Predictor, limits: Limits, min_familiarity: float | None = None
    ) -> None:
        """A service; it answers within `running`. Arguments as those of `application`."""
        self.predictor, self.limits, self.metrics = predictor, limits, Metrics()
        self.min_familiarity = min_familiarity
        self._makers = versions_of(predictor.engine, None, 1)
        self._batcher: Batcher[np.ndarray, Prediction] = Batcher(
            self._compute, limits.batch_size, limits.wait
        )
        self._open = 0
        self._decoders: ThreadPoolExecutor | None = None

    @contextlib.asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """What it needs while it answers, as FastAPI's `lifespan`."""
        with threads.pool(threads.cores()) as self._decoders:
            async with self._batcher.running():
                yield

    async def predict(self, request: Request) -> Response:
        """The answer to `POST /predict`."""
        began = time.perf_counter()
        self.metrics.requests.inc()
        status = 500  # unless it gets as far as another
        try:
            with self._place():
                response = await self._answered(request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            if status != 200:
                self.metrics.errors.labels(str(status)).inc()
            self.metrics.seconds.observe(time.perf_counter() - began)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place among the requests that are worked on, if there is one."""
        if self._open >= self.limits.requests:
            raise HTTPException(BUSY, "too many requests are waiting", RETRY)
        self._open += 1
        self.metrics.queue.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self.metrics.queue.set(self._open)

    async def _answered(self, request: Request) -> Response:
        images = await uploads.read(request, self.limits)
        try:
            async with asyncio.timeout(self.limits.answering):
                said = await self._said(images)
        except (TimeoutError, MemoryError) as error:
            raise HTTPException(BUSY, "there was no time or memory for it", RETRY) from error
        finally:
            uploads.close(images)
        rows = [plain(upload.name, a) for upload, a in zip(images, said, strict=True)]
        good = any(not isinstance(answer, BadImage) for answer in said)
        return JSONResponse({"predictions": rows}, 200 if good else UNREADABLE)

    async def _said(self, images: Sequence[Upload]) -> list[Answer]:
        loop = asyncio.get_running_loop()
        # Decoded on all cores, before they wait: prepared images are small.
        work = [loop.run_in_executor(self._decoders, self._prepared, one) for one in images]
        prepared = await asyncio.gather(*work)
        good = [one for one in prepared if not isinstance(one, BadImage)]
        answers = iter(await self._batcher.ask(good))
        said = [one if isinstance(one, BadImage) else next(answers) for one in prepared]
        for answer in said:
            self.metrics.images.labels(_outcome(answer)).inc()
        return said

    def _prepared(self, upload: Upload) -> np.ndarray | BadImage:
        return seen(upload.file.read(), 0, self._makers)

    def _compute(self, batch: list[np.ndarray]) -> list[Prediction]:
        self.metrics.batches.observe(len(batch))
        return self.predictor.answers(batch, self.min_familiarity)


def application(
    predictor: Predictor, limits: Limits | None = None, min_familiarity: float | None = None
) -> FastAPI:
    """The application of a classifier, for any ASGI server.

    Args:
        predictor: Of `tl.load`.
        limits: What it takes on; None takes the usual ones.
        min_familiarity: As in `Predictor.predict`.

    Raises:
        ValueError: A `min_familiarity` out of range, or of a classifier that does not know it.
    """
    predictor.check_familiarity(min_familiarity)
    service = Service(predictor, limits or Limits(), min_familiarity)
    # Its pages of documentation would load scripts of another host.
    how: dict[str, Any] = {"docs_url": None, "redoc_url": None, "lifespan": service.running}
    app = FastAPI(title="tltoolkit serve", version=__version__, **how)
    app.post("/predict", **front.PREDICT)(service.predict)
    page, headers = front.page(predictor)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    @app.get("/health", summary="Whether it answers, and what it knows")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "class_names": list(predictor.class_names)}

    @app.get("/metrics", summary="Counts, in the text form of Prometheus")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _outcome(answer: Answer) -> str:
    if isinstance(answer, BadImage):
        return "unreadable"
    return "abstained" if answer.abstained else "answered"
