"""`tltoolkit serve` under load, beside the bare runtime.

    python benchmarks/serve.py RUN_OR_FILE               # a minute
    python benchmarks/serve.py RUN_OR_FILE --images DIR --clients 32 --seconds 60

Seen on 2 idle cores, EfficientNet-Lite0 with a head on all blocks as .onnx, 60 s: 4,131 requests,
no error, none lost, all answers as of `predict`; 68.5 images a second, 0.68 of the bare runtime
(101.0), 0.86 of it with decoding (`Predictor.stream`, 79.9); median 465 ms, 99th percentile 564 ms;
560 MB.

Clients on this machine send one JPEG after the other, each on a connection of its own, and compare
every answer with that of `Predictor.predict`. The bare runtime is the same classifier in a process
without a server: prepared pixels in batches of 16, without decoding, for a fourth of the time
before and after. Clients take their share of the processors, too.
"""

import argparse
import http.client
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import tltoolkit as tl
from tltoolkit.artifacts.inference import versions_of
from tltoolkit.artifacts.seeing import seen

BATCH = 16
KINDS = 20  # different images: enough that no answer is right by chance
# Probabilities of another batch size differ in the last digits of a float32, of int8 more.
NEAR = 1e-3


def pictures(folder: Path | None) -> list[bytes]:
    """Image files: some of a folder, or made-up photographs of 640 x 480 pixels."""
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.rglob("*.jp*g"))[:KINDS]]
    rng, found = np.random.default_rng(0), []
    for _ in range(KINDS):
        small = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG")
        found.append(out.getvalue())
    return found


def bare(predictor: Any, images: list[bytes], seconds: float) -> tuple[float, float]:
    """Images a second: of the model alone, and with decoding, on all cores."""
    makers = versions_of(predictor.engine, None, 1)
    batch = np.concatenate([seen(images[i % len(images)], 0, makers) for i in range(BATCH)])
    predictor.engine.said(batch)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds / 2:
        predictor.engine.said(batch)
        done += BATCH
    alone = done / (time.perf_counter() - began)
    done, began = 0, time.perf_counter()
    endless = itertools.cycle(images)
    for _ in predictor.stream(endless, batch_size=BATCH):
        done += 1
        if time.perf_counter() - began > seconds / 2:
            break
    return alone, done / (time.perf_counter() - began)


class Client(threading.Thread):
    """Asks until the time is over, and notes what came."""

    def __init__(self, number: int, port: int, images: list[bytes], said: list[Any], end: float):
        super().__init__()
        self.number, self.port, self.images, self.said, self.end = number, port, images, said, end
        self.seconds: list[float] = []
        self.sent, self.errors, self.wrong = 0, 0, 0

    def run(self) -> None:
        """Ask."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        turn = self.number
        while time.perf_counter() < self.end:
            turn = (turn + 1) % len(self.images)
            began = time.perf_counter()
            self.sent += 1
            try:
                connection.request("POST", "/predict", self.images[turn])
                response = connection.getresponse()
                rows = json.loads(response.read()).get("predictions")
            except (OSError, http.client.HTTPException, ValueError):
                self.errors += 1
                connection.close()
                continue
            self.seconds.append(time.perf_counter() - began)
            self.errors += response.status != 200
            self.wrong += response.status == 200 and not self._same(rows[0], self.said[turn])
        connection.close()

    @staticmethod
    def _same(row: dict[str, Any], said: Any) -> bool:
        off = [abs(row["probabilities"][k] - v) for k, v in said.probabilities.items()]
        return row["label"] == said.label and max(off) < NEAR


def served(classifier: Path) -> tuple[subprocess.Popen[str], int, float]:
    """The process of a server, its port, and the seconds until it answered."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "tltoolkit", "serve", str(classifier), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/health")
    connection.getresponse().read()
    return process, port, time.perf_counter() - began


def memory(process: subprocess.Popen[str]) -> str:
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return "?"
    line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
    return f"{int(line.split()[1]) / 1000:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classifier", type=Path)
    parser.add_argument("--images", type=Path, help="a folder of JPEGs, in place of made-up ones")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    predictor, images = tl.load(args.classifier), pictures(args.images)
    said = predictor.predict(images)
    before = bare(predictor, images, args.seconds / 4)
    process, port, start = served(args.classifier)
    began = time.perf_counter()
    clients = [Client(n, port, images, said, began + args.seconds) for n in range(args.clients)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    took = time.perf_counter() - began
    used = memory(process)
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    after = bare(predictor, images, args.seconds / 4)
    # A machine that others use, too, changes while it is measured.
    alone, decoding = np.mean([before, after], axis=0)
    seconds = np.concatenate([client.seconds for client in clients])
    rate = len(seconds) / took
    median, high = np.percentile(1000 * seconds, (50, 99))
    sent = sum(client.sent for client in clients)
    print(f"{args.classifier.name}: {args.clients} clients, {took:.0f} s, {os.cpu_count()} cores")
    print(f"requests {sent}, errors {sum(c.errors for c in clients)}, ", end="")
    print(f"lost {sent - len(seconds)}, other answers {sum(c.wrong for c in clients)}")
    print(f"images/s {rate:.1f}; bare runtime {alone:.1f} ({rate / alone:.2f}), ", end="")
    print(f"with decoding {decoding:.1f} ({rate / decoding:.2f})")
    print(f"ms: median {median:.0f}, 99th percentile {high:.0f}")
    print(f"first answer after {start:.1f} s, peak memory {used} MB, exit code {code}")


if __name__ == "__main__":
    main()
