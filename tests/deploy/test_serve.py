"""The HTTP service in this process: answers, batches, limits, and what is hostile."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import colours
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tltoolkit.deploy.batching import Batcher
from tltoolkit.deploy.limits import Limits
from tltoolkit.deploy.service import application
from tltoolkit.evaluation import Decision

RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (90, 90, 90)
FORM = {"content-type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(application(colours.predictor(), Limits(images=5, bytes=1_000_000))) as made:
        yield made


def form(*images: bytes) -> list[Any]:
    return [("image", (f"{i}.png", content)) for i, content in enumerate(images)]


def expected(content: bytes, predictor: Any = None) -> dict[str, Any]:
    (said,) = (predictor or colours.predictor()).predict([content])
    # As JSON has them: of a tuple it makes an array; what is not known is left out.
    return json.loads(json.dumps({k: v for k, v in vars(said).items() if v is not None}))


def test_a_form_is_answered_as_predict_answers(client: TestClient) -> None:
    images = [colours.file(c, k) for c, k in [(RED, "PNG"), (BLUE, "JPEG"), (GREY, "WEBP")]]
    response = client.post("/predict", files=form(*images))
    assert response.status_code == 200
    rows = response.json()["predictions"]
    assert [row.pop("image") for row in rows] == ["0.png", "1.png", "2.png"]
    assert {row.pop("format") for row in rows} == {"tltoolkit.predict/1"}
    assert rows == [expected(content) for content in images]
    assert [row["label"] for row in rows[:2]] == ["red", colours.NAMES[2]]
    assert [row["abstained"] for row in rows] == [False, False, True]


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", None])
def test_the_bytes_of_an_image_are_answered(client: TestClient, kind: str | None) -> None:
    content = colours.file(GREEN)
    headers = {"content-type": kind} if kind else {}
    response = client.post("/predict", content=content, headers=headers)
    (row,) = response.json()["predictions"]
    assert row == {"format": "tltoolkit.predict/1", "image": "body", **expected(content)}


def test_several_labels_come_as_an_array() -> None:
    predictor = colours.predictor(decision=Decision(multi_label=True))
    with TestClient(application(predictor)) as client:
        for colour, labels in ((RED, ["red"]), (GREY, [])):
            content = colours.file(colour)
            (row,) = client.post("/predict", content=content).json()["predictions"]
            assert row["label"] == labels == expected(content, predictor)["label"]


def test_a_bad_image_among_good_ones_has_a_row(client: TestClient) -> None:
    response = client.post("/predict", files=form(colours.file(RED), b"text", colours.file(BLUE)))
    assert response.status_code == 200
    rows = response.json()["predictions"]
    assert [row.get("label") for row in rows] == ["red", None, colours.NAMES[2]]
    assert set(rows[1]) == {"format", "image", "error"}


def test_it_says_what_it_is(client: TestClient) -> None:
    health = client.get("/health").json()
    assert health == {"status": "ok", "class_names": list(colours.NAMES)}
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/predict", "/health", "/metrics"}
    assert "multipart/form-data" in schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    # Pages of FastAPI's that load scripts of another host.
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "blå &lt;b&gt;&amp;amp;" in page.text
    assert "//" not in page.text.replace("// ", "")


# Batches


def together(
    work: Callable[[httpx.AsyncClient], Awaitable[Any]], predictor: Any, limits: Limits
) -> Any:
    async def run() -> Any:
        app = application(predictor, limits)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://here") as client,
        ):
            return await work(client)

    return asyncio.run(run())


def test_requests_that_come_together_share_a_pass() -> None:
    sizes: list[int] = []

    def compute(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return colours.said(images)

    images = [colours.file(np.roll(RED, i % 3)) for i in range(8)]

    async def work(client: httpx.AsyncClient) -> list[Any]:
        return await asyncio.gather(*(client.post("/predict", content=one) for one in images))

    # The last to come fills the batch, which is what all others wait for.
    limits = Limits(batch_size=8, wait=60.0, answering=50.0)
    responses = together(work, colours.predictor(compute), limits)
    assert sizes == [8]
    labels = [response.json()["predictions"][0]["label"] for response in responses]
    assert labels == [colours.NAMES[i % 3] for i in range(8)]


def batched(
    work: Callable[[Batcher[int, int]], Awaitable[Any]], compute: Any, size: int, wait: float
) -> Any:
    async def run() -> Any:
        batcher: Batcher[int, int] = Batcher(compute, size, wait)
        async with batcher.running():
            return await work(batcher)

    return asyncio.run(run())


def test_a_batch_is_full_or_waits_no_longer() -> None:
    calls: list[list[int]] = []

    def compute(items: list[int]) -> list[int]:
        calls.append(items)
        return [10 * item for item in items]

    assert batched(lambda b: b.ask([*range(10)]), compute, 4, 0.01) == [*range(0, 100, 10)]
    assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_what_fails_reaches_those_who_asked_alone() -> None:
    def compute(items: list[int]) -> list[int]:
        if 13 in items:
            raise ArithmeticError("thirteen")
        return items

    async def work(batcher: Batcher[int, int]) -> Any:
        asked = [batcher.ask([1, 13]), batcher.ask([2, 3]), batcher.ask([4])]
        return await asyncio.gather(*asked, return_exceptions=True)

    failed, *rest = batched(work, compute, 2, 0.0)
    assert isinstance(failed, ArithmeticError)
    assert rest == [[2, 3], [4]]


def test_what_nobody_waits_for_is_not_computed() -> None:
    begun, go = threading.Event(), threading.Event()
    calls: list[list[int]] = []

    def compute(items: list[int]) -> list[int]:
        calls.append(items)
        begun.set()
        go.wait(60)
        return items

    async def work(batcher: Batcher[int, int]) -> Any:
        first = asyncio.create_task(batcher.ask([1]))
        await asyncio.to_thread(begun.wait, 60)
        second, third = (asyncio.create_task(batcher.ask([n])) for n in (2, 3))
        await asyncio.sleep(0)
        second.cancel()
        go.set()
        return [await first, await third]

    assert batched(work, compute, 4, 0.0) == [[1], [3]]
    assert calls == [[1], [3]]


# Limits


class Held:
    """A classifier that computes only when it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.begun.set()
        self.go.wait(60)
        return colours.said(images)


def test_a_full_queue_is_503_with_a_time_to_try_again() -> None:
    held = Held()

    async def work(client: httpx.AsyncClient) -> list[Any]:
        first = asyncio.create_task(client.post("/predict", content=colours.file(RED)))
        await asyncio.to_thread(held.begun.wait, 60)
        refused = await client.post("/predict", content=colours.file(RED))
        health = await client.get("/health")
        held.go.set()
        return [await first, refused, health, await client.post("/predict", content=b"x")]

    said = together(work, colours.predictor(held), Limits(requests=1))
    assert [response.status_code for response in said] == [200, 503, 200, 422]
    assert said[1].headers["retry-after"] == "1"


def test_an_answer_that_takes_too_long_is_503_and_the_next_is_given() -> None:
    held = Held()

    async def work(client: httpx.AsyncClient) -> list[Any]:
        late = await client.post("/predict", content=colours.file(RED))
        held.go.set()
        return [late, await client.post("/predict", content=colours.file(RED))]

    late, good = together(work, colours.predictor(held), Limits(answering=0.3))
    assert (late.status_code, good.status_code) == (503, 200)
    assert "retry-after" in late.headers


def test_a_slow_request_is_408() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield colours.file(RED)[:50]
        await asyncio.sleep(60)

    async def work(client: httpx.AsyncClient) -> Any:
        return await client.post("/predict", content=slowly())

    slow = together(work, colours.predictor(), Limits(reading=0.1))
    assert slow.status_code == 408


def test_a_model_that_fails_is_500_and_the_next_is_answered() -> None:
    faults = [MemoryError(), RuntimeError("no")]

    def compute(images: np.ndarray) -> np.ndarray:
        if faults:
            raise faults.pop()
        return colours.said(images)

    async def work(client: httpx.AsyncClient) -> Any:
        return [(await client.post("/predict", content=colours.file(RED))) for _ in range(3)]

    said = together(work, colours.predictor(compute), Limits())
    assert [response.status_code for response in said] == [500, 503, 200]


def bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


def chunks() -> Iterator[bytes]:
    for _ in range(110):
        yield bytes(10_000)


def part(name: str, content: bytes = b"") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


PICTURE = colours.file(RED, "JPEG", (200, 300))
HOSTILE = {
    "text": (422, {"content": b"this is no image"}),
    "empty": (422, {"content": b""}),
    "truncated": (422, {"content": PICTURE[: len(PICTURE) // 2]}),
    "corrupt": (422, {"content": PICTURE[:60] + bytes(500)}),
    "bomb": (422, {"content": bomb()}),
    "page": (422, {"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}),
    "all bad": (422, {"files": form(b"text", b"")}),
    "large": (413, {"content": bytes(1_000_001)}),
    "large in chunks": (413, {"content": chunks()}),
    "large form": (413, {"files": form(bytes(1_010_000))}),
    "no length": (422, {"content": b"x", "headers": {"content-length": "\u00b2".encode()}}),
    "10,000 parts": (400, {"content": part("a") * 10_000 + b"--x--\r\n", "headers": FORM}),
    "6 images": (400, {"files": form(*[colours.file(RED)] * 6)}),
    "no boundary": (400, {"content": b"", "headers": {"content-type": "multipart/form-data"}}),
    "no form": (400, {"content": b"\0" * 1000, "headers": FORM}),
    "nothing in it": (400, {"content": b"--x--\r\n", "headers": FORM}),
    "cut form": (400, {"content": part("a", PICTURE)[:-300], "headers": FORM}),
    "cut second": (400, {"content": part("a", PICTURE) + part("b", PICTURE)[:-9], "headers": FORM}),
    "a field": (400, {"data": {"threshold": "0.5"}, "files": form(PICTURE)}),
    "no files": (415, {"data": {"image": "a.png"}}),
    "a name of bytes": (422, {"content": part("\udcff".encode("utf-8", "surrogateescape").decode(
        "latin-1"), b"x") + b"--x--\r\n", "headers": FORM}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_is_refused_and_the_next_is_answered(name: str, client: TestClient) -> None:
    status, request = HOSTILE[name]
    response = client.post("/predict", **request)
    assert response.status_code == status, response.text
    said = response.json()
    assert said.get("detail") or all(row["error"] for row in said["predictions"])
    good = client.post("/predict", content=PICTURE)
    assert good.json()["predictions"][0]["label"] == "red"


def test_other_ways_of_asking_are_refused(client: TestClient) -> None:
    assert client.get("/predict").status_code == 405
    assert client.post("/").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404


def test_metrics_count_what_happened() -> None:
    with TestClient(application(colours.predictor())) as client:
        client.post("/predict", files=form(colours.file(RED), colours.file(GREY), b"text"))
        client.post("/predict", content=b"text")
        client.post("/predict", files=form(colours.file(RED)))
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
        }
    assert found["tltoolkit_requests_total",] == found["tltoolkit_request_seconds_count",] == 3
    assert found["tltoolkit_errors_total", "422"] == 1
    outcomes = {key[1]: value for key, value in found.items() if key[0] == "tltoolkit_images_total"}
    assert outcomes == {"answered": 2, "abstained": 1, "unreadable": 2}
    assert (found["tltoolkit_batch_images_count",], found["tltoolkit_batch_images_sum",]) == (2, 3)
    assert found["tltoolkit_queue",] == 0
