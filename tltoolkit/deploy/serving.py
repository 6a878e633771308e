"""A classifier answering over HTTP: its place on the network looked at first, then the process."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tltoolkit import _checks
from tltoolkit.artifacts import presence
from tltoolkit.deploy.limits import Limits
from tltoolkit.deploy.terms import HOST, PORT, SERVE
from tltoolkit.files import reading
from tltoolkit.runtimes import opening

if TYPE_CHECKING:
    from tltoolkit.artifacts.predictor import Predictor

# Connections that the system keeps until the model is loaded.
BACKLOG = 256


def listening(
    classifier: str | Path, host: str = HOST, port: int = PORT
) -> tuple[socket.socket, str]:
    """Whatever can be wrong before a classifier is loaded, and the socket to serve it on.

    Args:
        classifier: The directory of a saved one, or an exported file.
        host: Of this machine; the usual one is reached from this machine alone.
        port: 0 takes a free one.

    Returns:
        The socket, at which connections wait from now on, and its URL.

    Raises:
        ImportError: The extra is not installed.
        FileNotFoundError: There is no classifier.
        ValueError: The address is taken, is not this machine's or is not allowed.
    """
    _checks.arguments(SERVE, locals())
    with _checks.extra("serving needs fastapi, uvicorn and others", "serve"):
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    source = reading.local(classifier)
    if opening.format_of(source) is None:
        presence.check(source)
    elif not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    made = _bound(host, port)
    name, number = made.getsockname()[:2]
    return made, f"http://{f'[{name}]' if ':' in name else name}:{number}"


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    # A name with a label that is too long is a UnicodeError.
    except (OSError, UnicodeError) as error:
        raise _checks.fail("host", str(SERVE["host"]), host) from error
    try:
        if os.name == "posix":
            # Otherwise a server could not be started again for a minute. (Elsewhere it would let
            # two have one port.)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        # At once: two may bind one port, but not listen.
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise ValueError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return made


def run(
    predictor: "Predictor",
    listener: socket.socket,
    ready: Callable[[], None],
    limits: Limits | None = None,
    min_familiarity: float | None = None,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C, and then those that have begun.

    Args:
        predictor: Of `tl.load`.
        listener: Of `listening`.
        ready: Called as soon as requests are answered.
        limits: What it takes on; None takes the usual ones.
        min_familiarity: As in `Predictor.predict`.
    """
    import numpy as np
    import uvicorn

    from tltoolkit.deploy.service import application

    side = predictor.engine.image_size
    # What a runtime does at its first pass shall be no part of the first answer.
    predictor.engine.told(np.zeros((1, side, side, 3), np.uint8))
    # It warns of forms that are wrong, which whoever sent them is told.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    limits = limits or Limits()
    how: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "ws": "none",
        # As long as a request may take in all: then those that have begun are dropped.
        "timeout_graceful_shutdown": int(limits.reading + limits.answering) + 1,
    }
    app = application(predictor, limits, min_familiarity)
    server = uvicorn.Server(uvicorn.Config(app, **how))
    with _ended_well(server):
        ready()
        server.run([listener])


@contextlib.contextmanager
def _ended_well(server: Any) -> Iterator[None]:
    """SIGTERM ends the server as it should end; uvicorn would raise it again afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        server.should_exit = True

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
