"""What an export costs and brings: size, speed and answers of each format beside Keras.

    python benchmarks/export.py RUN DIR                # 6 minutes of processor time
    python benchmarks/export.py RUN DIR --repeats 100

Seen on 2 idle cores (AVX2, no VNNI), EfficientNet-Lite0 with plan="linear_probe", TrashNet's 431
test images, macro F1 0.8819; of float32 formats every label is the same, largest difference 6.9e-6.
MB and median ms, Keras' compiled function 31.5: LiteRT 13.5, 16.4 (1.93 times quicker), ONNX 13.5,
18.0 (1.75), OpenVINO 13.6, 16.3 (1.93), SavedModel 29.0, 32.3; float16 6.8 MB, differences up to
0.024, 99.8 % same labels or more. int8: 4.0 MB, 16.5 ms (1.91), 98.6 % same labels, F1 0.8699.
First answer: run 10.1 s, 822 MB; .tflite 0.65 s, 117 MB; .onnx 0.66 s, 162 MB; .xml 0.84 s, 167 MB.
With a head on all blocks (plan="solve", macro F1 0.925) int8 gives 95.4 % same labels, 0.901.

RUN is a run or a saved classifier, DIR holds train, val and test folders, such as TrashNet: int8 is
calibrated on the training images, and all are compared on the test images. The time is that of one
image of batch 1 on one thread, without decoding, in turns of all formats (Keras' compiled function
among them), so that a busy machine slows all alike. Of `tltoolkit predict` it is that of the whole
process, from the start to its end, with its peak of memory; the least of several processes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import tltoolkit as tl
from tltoolkit.artifacts import inference, loading
from tltoolkit.deploy.terms import FORMATS
from tltoolkit.runtimes.opening import SUFFIXES

WARM = 5  # passes before any is measured: the first ones make room and choose kernels
PROCESSES = 3  # of which the least counts: others were disturbed
# Not by `resource`: a child begins with the peak of its parent.
COMMAND = """
import sys
from tltoolkit.cli import main

code = main(sys.argv[1:])
status = open("/proc/self/status").read().splitlines()
print(code, next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


def compiled(model: Any, size: int) -> Callable[[np.ndarray], Any]:
    """Keras' model as the fastest function that TensorFlow makes of it."""
    spec = tf.TensorSpec((1, size, size, 3), tf.float32)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    return lambda images: function(tf.constant(images, tf.float32))


def times(
    functions: dict[str, Callable[[np.ndarray], Any]], image: np.ndarray, repeats: int
) -> Any:
    """Milliseconds of each function on one image, (repeats,), in turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(WARM + repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function(image)
            if turn >= WARM:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: np.array(row) for name, row in taken.items()}


def first_answer(classifier: Path, image: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of `tltoolkit predict` as a whole process."""
    words = [sys.executable, "-c", COMMAND, "predict", classifier, image]
    began = time.perf_counter()
    done = subprocess.run(map(str, words), capture_output=True, text=True, check=True)
    code, kilobytes = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    return time.perf_counter() - began, int(kilobytes) / 1000


def table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    args = parser.parse_args()
    # Before TensorFlow computes anything.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = tl.data.from_directory(args.data, duplicates="drop")
    few = data.val.subset(np.arange(min(32, len(data.val))))
    predictor = tl.load(args.run)
    size = predictor.engine.image_size
    before = inference.proba(predictor.engine, data.test, 32)
    labels = predictor.decision.decide(before).labels
    functions: dict[str, Callable[[np.ndarray], Any]] = {"keras": compiled(predictor.model, size)}
    said: dict[str, tuple[str, ...]] = {"keras": ("", "", "", "")}

    def f1(prob: np.ndarray) -> float:
        return tl.Report.from_predictions(data.test.labels, prob, data.class_names).f1_macro

    said["keras"] = ("", "", "", f"{f1(before):.4f}")
    with tempfile.TemporaryDirectory() as folder:
        for format, kinds in FORMATS.items():
            for quantize in kinds:
                name = format + (f" {quantize}" if quantize else "")
                path = Path(folder, name.replace(" ", "-") + SUFFIXES[format])
                # Compared on a few: it is measured below on all images to test on.
                made = tl.export(
                    predictor, path, format, quantize, calibration=data.train, validation=few
                )
                loaded = loading.of_file(path, threads=1)
                after = inference.proba(loaded.engine, data.test, 32)
                same = np.mean(predictor.decision.decide(after).labels == labels)
                functions[name] = loaded.engine.said
                said[name] = (
                    f"{made.size / 1e6:.1f}",
                    f"{np.abs(after - before).max():.1e}",
                    f"{same:.2%}",
                    f"{f1(after):.4f}",
                )
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.uint8)
        taken = times(functions, image, args.repeats)
        one = next(path for path in data.test.paths if path)
        rows = [["", "MB", "ms", "p95", "vs keras", "difference", "same label", "macro F1"]]
        for name, (megabytes, *figures) in said.items():
            median, high = np.percentile(taken[name], (50, 95))
            ratio = np.median(taken["keras"]) / median
            rows.append([name, megabytes, f"{median:.1f}", f"{high:.1f}", f"{ratio:.2f}", *figures])
        print(f"{len(data.test)} images of {size} px; {args.repeats} passes of one image")
        print(table(rows))
        for classifier in (
            args.run,
            *(Path(folder, f"{f}{SUFFIXES[f]}") for f in list(FORMATS)[:3]),
        ):
            found = [first_answer(classifier, Path(one)) for _ in range(PROCESSES)]
            seconds, megabytes = np.min(found, axis=0)
            print(f"predict {classifier.name}: {seconds:.2f} s, {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
