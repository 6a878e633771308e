"""`tltoolkit predict` over many files: is its memory flat, and does decoding slow the model down?

    python benchmarks/predict.py                  # 10,000 images: about 10 minutes on 2 idle cores
    python benchmarks/predict.py --images 500

Seen on 2 cores: peak 1,156 MiB over 1,000 images, 1,178 MiB over 10,000; bare model 72.3 images/s,
stream 65.8, stream / bare 0.917 (0.641 to 1.14; another program ran at the lowest priority).

The memory is the peak of a process that runs the whole command, once over a tenth of the images
and once over all. For the speed, the bare model (`predict_on_batch` on images in memory) and
`Predictor.stream` over files take turns in one process, some batches each; shown is the median
of the rounds with the range.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Prediction, Predictor

BATCH, BATCHES = 32, 4
COMMAND = """
import sys
from tltoolkit.cli import main

code = main(sys.argv[1:])
status = open("/proc/self/status").read().splitlines()
print(code, next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


def make_images(folder: Path, count: int, side: int) -> list[str]:
    """Write random JPEGs; smooth noise, so that their files are as small as photographs'."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8)
        paths.append(str(folder / f"{i:05}.jpg"))
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def command(run: Path, folder: Path, output: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of the whole command in a process of its own."""
    words = [sys.executable, "-c", COMMAND, "predict", run, folder, "--output", output]
    started = time.perf_counter()
    done = subprocess.run(map(str, words), capture_output=True, text=True, check=True)
    code, kilobytes = done.stdout.split()
    assert code == "0", done.stderr
    return time.perf_counter() - started, int(kilobytes) / 1024


def rounds(predictor: Predictor, paths: list[str]) -> list[tuple[float, float]]:
    """Images/s of the bare model and of the stream, taking turns."""
    size = predictor.model.input_shape[1]
    images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3)).astype(np.uint8)
    per_round = BATCH * BATCHES
    answers = []
    for start in range(0, len(paths), per_round):
        files = paths[start : start + per_round]
        if len(files) < per_round:
            break
        began = time.perf_counter()
        for _ in range(BATCHES):
            predictor.model.predict_on_batch(images)
        middle = time.perf_counter()
        said = list(predictor.stream(files, batch_size=BATCH))
        assert all(isinstance(one, Prediction) for one in said)
        answers.append((per_round / (middle - began), per_round / (time.perf_counter() - middle)))
    return answers[1:]  # the first one warms up


def show(name: str, values: np.ndarray) -> None:
    """The median with the range."""
    low, middle, high = np.percentile(values, (0, 50, 100))
    print(f"{name:<24}{middle:8.3g}   ({low:.3g} to {high:.3g})")


def main() -> None:
    """Make the files, run the command twice, then the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=256, help="pixels of the JPEGs")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        few = make_images(top / "few", options.images // 10, options.side)
        paths = make_images(top / "all", options.images, options.side)
        names = [f"class {i}" for i in range(10)]
        model = tl.build_classifier(options.backbone, names, weights=None)
        run = tl.save(model, top / "run")
        for folder, count in (("few", len(few)), ("all", len(paths))):
            seconds, peak = command(run, top / folder, top / f"{folder}.csv")
            rows = (top / f"{folder}.csv").read_text().count("\n") - 1
            assert rows == count
            print(f"command over {count:>6} images: {seconds:7.1f} s, peak {peak:7.1f} MiB")
        found = np.array(rounds(tl.load(run), paths))
    show("bare model, images/s", found[:, 0])
    show("stream, images/s", found[:, 1])
    show("stream / bare", found[:, 1] / found[:, 0])


if __name__ == "__main__":
    main()
