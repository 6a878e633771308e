"""benchmark: what classifiers and their exported files cost, side by side."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.artifacts import loading
from tltoolkit.artifacts.evaluating import evaluate
from tltoolkit.artifacts.presence import check as check_presence
from tltoolkit.augment.threads import cores
from tltoolkit.data import Split
from tltoolkit.deploy import timing
from tltoolkit.deploy.terms import BENCHMARK
from tltoolkit.evaluation import Report
from tltoolkit.evaluation.text import plain
from tltoolkit.files import reading
from tltoolkit.runtimes import opening

# One image, as a person waits for, and as many as a server gathers.
BATCHES = (1, 16)
# As on a telephone or in one of many processes, and all that there are.
ONE, ALL = 1, 0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How long an image takes in a batch of some size, without decoding.

    Attributes:
        threads: 1, or 0 for all that there are.
        batch_size: Images of a pass.
        median_ms: Milliseconds an image, of the median pass.
        p95_ms: Milliseconds an image that 95 % of the passes stay below.
    """

    threads: int
    batch_size: int
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one classifier costs.

    Attributes:
        name: Of its file or folder.
        format: "keras", or that of the exported file.
        quantize: How its numbers were made smaller, or None.
        size: Of its files, in bytes.
        start_s: Seconds from the start of a process to its first answer, with all threads.
        memory: What that process then holds, in bytes.
        speeds: By threads and batch size.
        accuracy: In [0, 1]; None without labelled images.
        f1_macro: The same.
        log_loss: The same, >= 0.
    """

    name: str
    format: str
    quantize: str | None
    size: int
    start_s: float
    memory: int
    speeds: tuple[Speed, ...]
    accuracy: float | None = None
    f1_macro: float | None = None
    log_loss: float | None = None

    def speed(self, threads: int, batch_size: int) -> Speed:
        """That of so many threads and images."""
        return next(s for s in self.speeds if (s.threads, s.batch_size) == (threads, batch_size))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Costs of classifiers that were measured one after the other. Prints as a table.

    Attributes:
        rows: One for each.
        cores: That processes may use here.
        images: Labelled images that were scored, or 0.
        report: Of the first one on these images, or None.
    """

    rows: tuple[Measured, ...]
    cores: int
    images: int = 0
    report: Report | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the report."""
        rows = [asdict(row) for row in self.rows]
        told: dict[str, Any] = plain({"rows": rows, "cores": self.cores, "images": self.images})
        return told

    def __str__(self) -> str:
        head = ["", "format", "MB", "start s", "MB held"]
        head += [f"{_threads(t)}, {b}" for t in (ONE, ALL) for b in BATCHES]
        scores = ["accuracy", "f1_macro", "log_loss"] if self.images else []
        table = [head + scores, *(_cells(row, scores) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in table
        ]
        scored = f"; scores of {self.images:,} images" if self.images else ""
        note = (
            "milliseconds an image without decoding, median (95th percentile), by threads and "
            f"images of a batch; {self.cores} cores{scored}"
        )
        return "\n".join([*lines, note])


def benchmark(
    classifiers: Sequence[str | Path], data: Split | None = None, *, repeats: int = 50
) -> Benchmark:
    """Measure classifiers, each in processes of its own, one after the other.

    Args:
        classifiers: Directories of runs or saved classifiers, and exported files.
        data: Labelled images, such as `data.test`, to score them on; None leaves scores out.
        repeats: Passes that are timed for each number of threads and each size of batch.

    Raises:
        FileNotFoundError: A classifier is not there.
        ValueError: Arguments that do not fit.
        RuntimeError: A classifier does not load or compute, such as a file that was changed; the
            message says why.
    """
    _checks.arguments(BENCHMARK, locals())
    if data is not None:
        _checks.instance("data", data, Split, "a Split, such as data.test")
    paths = [reading.local(path) for path in classifiers]
    for path in paths:
        _check_there(path)
    rows = [{"name": name, **_measured(path, repeats)} for name, path in named(paths)]
    # When all are timed: this process would be in their way.
    reports = [] if data is None else [_scored(path, data) for path in paths]
    return Benchmark(
        rows=tuple(
            Measured(**row, **_figures(reports[i] if reports else None))
            for i, row in enumerate(rows)
        ),
        cores=cores(),
        images=0 if data is None else len(data),
        report=reports[0] if reports else None,
    )


def _check_there(path: Path) -> None:
    kind = opening.format_of(path)
    if kind is None:
        check_presence(path)
    elif opening.SUFFIXES[kind]:
        reading.regular(path)


def named(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Paths by their last part, or whole where it is not the only one of its kind."""
    last = Counter(path.name for path in paths)
    return [(path.name if last[path.name] == 1 else str(path), path) for path in paths]


def _measured(path: Path, repeats: int) -> dict[str, Any]:
    speeds: list[Speed] = []
    for threads in (ONE, ALL):
        start, found = _child(path, threads, repeats)
        speeds += [Speed(threads=threads, **speed) for speed in found.pop("speeds")]
    # The start and the memory with all threads, as a user has them.
    return {"start_s": start, "speeds": tuple(speeds), **found}


def _child(path: Path, threads: int, repeats: int) -> tuple[float, dict[str, Any]]:
    """Seconds to the first answer, and what `timing` found."""
    numbers = map(str, (threads, repeats, *BATCHES))
    words = [sys.executable, "-m", timing.__name__, str(path), *numbers]
    began = time.perf_counter()
    # Errors into a file: a full pipe would stop the process while it is waited for.
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        assert child.stdout is not None
        try:
            ready = child.stdout.readline().strip()
            start = time.perf_counter() - began
            said, _ = child.communicate()
        except BaseException:
            # Leaving would wait for it.
            child.kill()
            raise
        errors.seek(0)
        why = errors.read().strip().splitlines() or [f"exit code {child.returncode}"]
    if child.returncode or ready != timing.READY:
        raise RuntimeError(f"{path} could not be measured: {why[-1]}")
    return start, json.loads(said)


def _scored(path: Path, data: Split) -> Report:
    predictor = loading.load(path)
    several = predictor.decision.multi_label
    return evaluate(predictor, data.in_classes(predictor.class_names, several))


def _figures(report: Report | None) -> dict[str, Any]:
    if report is None:
        return {}
    return {n: float(getattr(report, n)) for n in ("accuracy", "f1_macro", "log_loss")}


def _threads(threads: int) -> str:
    return "1 thread" if threads == ONE else "all"


def _cells(row: Measured, scores: Sequence[str]) -> list[str]:
    speeds = [row.speed(threads, size) for threads in (ONE, ALL) for size in BATCHES]
    return [
        row.name,
        f"{row.format} {row.quantize or ''}".strip(),
        f"{row.size / 1e6:.1f}",
        f"{row.start_s:.2f}",
        f"{row.memory / 1e6:.0f}",
        *(f"{speed.median_ms:.1f} ({speed.p95_ms:.1f})" for speed in speeds),
        *(f"{getattr(row, name):.4f}" for name in scores),
    ]
