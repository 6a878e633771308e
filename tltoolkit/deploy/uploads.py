"""Images of a request: read within limits, kept on disk where they are large."""

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from typing import IO, NamedTuple

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import Message

from tltoolkit.deploy.limits import Limits

# Of a body that is one image, which has no name.
NAME = "body"
FORM = "multipart/form-data"
SPOOL = 2**20  # bytes in memory before a file is begun, as Starlette does for parts of a form
LAST = 256  # bytes; a boundary has 70 at most
BAD, TOO_SLOW, TOO_LARGE, OTHER_KIND = 400, 408, 413, 415


class Upload(NamedTuple):
    """An image that came.

    Attributes:
        name: Of its file, as the client says.
        file: With its bytes, at their beginning.
    """

    name: str
    file: IO[bytes]


async def read(request: Request, limits: Limits) -> list[Upload]:
    """The images of a request, whose files the caller closes.

    Raises:
        HTTPException: No image, too many, too large or too slow; a form of another kind.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        raise HTTPException(OTHER_KIND, f"send {FORM}, or the bytes of one image")
    bounded = _Bounded(request, limits.bytes).request
    try:
        async with asyncio.timeout(limits.reading):
            if kind == FORM:
                return await _parts(bounded, limits.images)
            return [await _body(bounded)]
    except TimeoutError as error:
        raise HTTPException(TOO_SLOW, f"it took more than {limits.reading:g} seconds") from error
    except ClientDisconnect as error:
        raise HTTPException(BAD, "the request ended before it was complete") from error


def close(uploads: Sequence[Upload]) -> None:
    """Close the files, which deletes those on disk."""
    for upload in uploads:
        upload.file.close()


class _Bounded:
    """A request of which no more is read than is allowed."""

    def __init__(self, request: Request, most: int) -> None:
        self._receive, self._most = request.receive, most
        self._seen, self._last = 0, b""
        self._header = request.headers.get("content-type", "").strip().encode("latin-1")
        self._form = self._header.lower().startswith(FORM.encode())
        self.request = Request(request.scope, self._next)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise self._too_large()

    async def _next(self) -> Message:
        message = await self._receive()
        part = message.get("body", b"")
        self._seen += len(part)
        # Counted as well: in chunks a body comes without its length.
        if self._seen > self._most:
            raise self._too_large()
        self._last = (self._last + part[-LAST:])[-LAST:]
        ended = message["type"] == "http.request" and not message.get("more_body", False)
        # A part that was cut off would be left out without a word.
        if ended and self._form and not self._closed():
            raise HTTPException(BAD, "the form is cut off")
        return message

    def _closed(self) -> bool:
        """Whether the last line is that which ends a form."""
        line = self._last.strip().rsplit(b"\n", 1)[-1]
        return line.startswith(b"--") and line.endswith(b"--") and line[2:-2] in self._header

    def _too_large(self) -> HTTPException:
        return HTTPException(TOO_LARGE, f"a request may have {self._most} bytes")


async def _body(request: Request) -> Upload:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL))
        async for chunk in request.stream():
            file.write(chunk)
        file.seek(0)
        # It is whole: whoever asked closes it.
        stack.pop_all()
    return Upload(NAME, file)


async def _parts(request: Request, most: int) -> list[Upload]:
    # A field would be accepted and ignored, so that none is.
    form = await request.form(max_files=most, max_fields=0)
    parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    if not parts:
        raise HTTPException(BAD, "the form has no file")
    return [Upload(part.filename or NAME, part.file) for part in parts]
