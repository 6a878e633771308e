"""One classifier timed in a process of its own: `python -m tltoolkit.deploy.timing PATH ...`.

A process of its own, as TensorFlow takes its number of threads only once, and memory and start
are those of a process. It says that it has answered as soon as it has, then the figures.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit.artifacts import loading
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.deploy import targets
from tltoolkit.files import reading
from tltoolkit.runtimes import opening
from tltoolkit.runtimes.exported import Exported

READY = "ready"
WARM = 3  # passes before any is measured: the first ones make room and choose kernels
# Of a classifier that is no exported file.
KERAS = "keras"


def main(words: list[str]) -> None:
    """Print `READY` and a line of JSON.

    Args:
        words: The path, threads (0 for all), passes of each size, sizes of batches.
    """
    path = reading.local(words[0])
    threads, repeats, *batches = map(int, words[1:])
    predictor = _loaded(path, threads or None)
    engine, side = predictor.engine, predictor.engine.image_size
    images = np.random.default_rng(0).integers(0, 256, (max(batches), side, side, 3))
    pixels = images.astype(np.uint8)
    engine.said(pixels[:1])
    print(READY, flush=True)
    speeds = [
        {"batch_size": size, **passes(engine.said, pixels[:size], repeats)} for size in batches
    ]
    # Here: the start is without it.
    import psutil

    found = {"speeds": speeds, "memory": psutil.Process().memory_info().rss}
    print(json.dumps(found | _described(path, predictor)), flush=True)


def _loaded(path: Path, threads: int | None) -> Predictor:
    kind = opening.format_of(path)
    if threads and kind in (None, "saved_model"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    return loading.load(path) if kind is None else loading.of_file(path, threads)


def passes(compute: Any, images: np.ndarray, repeats: int) -> dict[str, float]:
    """Milliseconds an image: the median of the passes, and what 95 % of them stay below."""
    taken = []
    for _ in range(WARM + repeats):
        began = time.perf_counter()
        compute(images)
        taken.append(1000 * (time.perf_counter() - began) / len(images))
    median, high = np.percentile(taken[WARM:], (50, 95))
    return {"median_ms": float(median), "p95_ms": float(high)}


def _described(path: Path, predictor: Predictor) -> dict[str, Any]:
    model = predictor.model
    if isinstance(model, Exported):
        kind, quantize = opening.format_of(path), model.settings.quantize
        return {"format": kind, "quantize": quantize, "size": targets.size_of(path)}
    from tltoolkit.artifacts.artifact import PARTS

    size = sum((path / name).stat().st_size for name in PARTS)
    return {"format": KERAS, "quantize": None, "size": size}


if __name__ == "__main__":
    main(sys.argv[1:])
