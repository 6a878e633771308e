"""How fast images are fed: 500 px JPEGs to augmented 224 px batches, preset "medium".

    python benchmarks/input_pipeline.py            # about 4 minutes on 2 idle cores

Seen on 2 idle cores, images/s by the clock: bare thread pool 545, augment.feed 496 (0.92 of it),
tf.numpy_function 100 (a fifth of augment.feed), Keras layers 79 (a sixth); by processor time 298,
282, 127 and 45. Training EfficientNet-Lite0 from disk, 192 images: 0.98 (0.61 to 1.10) of the sum
of the same epoch from memory and the pipeline's processor time. Peak memory: 126 MB with
2,000 files, 127 MB with 20,000.

Every method decodes the same files. Methods take turns, round after round, and the median of
the rounds is shown with the range, since other work on the machine comes and goes.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from tltoolkit import augment
from tltoolkit.data.decoding import decode

SIZE, BATCH, CLASSES = 224, 32, 10
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Files:
    """Image files as a source."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = [str(path) for path in paths]
        self.labels = np.arange(len(paths)) % CLASSES
        self.class_counts = np.bincount(self.labels, minlength=CLASSES)

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, i: int) -> np.ndarray:
        """The i-th image, (H, W, 3) uint8."""
        return decode(self.paths[i])


def make_files(folder: Path, n: int, width: int, height: int) -> Files:
    """Write n photographs: crops of the two that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:05}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        photo = photos[i % 2]
        top = rng.integers(photo.shape[0] - height + 1)
        left = rng.integers(photo.shape[1] - width + 1)
        crop = photo[top : top + height, left : left + width]
        Image.fromarray(crop).save(path, quality=90)
    return Files(paths)


def bare_pool(source: Files) -> Callable[[], None]:
    """The same transforms on a thread per core, with nothing around them."""
    local = threading.local()
    transforms = augment.preset("medium", SIZE).transforms

    def one(i: int) -> None:
        if not hasattr(local, "transforms"):
            local.transforms = copy.deepcopy(transforms)
        local.transforms(image=source.image(i))

    def epoch() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(one, range(len(source))))

    return epoch


def feeder(source: Files) -> Callable[[], None]:
    """This package, as a model sees it."""
    pipeline = augment.preset("medium", SIZE)
    return exhausted(augment.feed(source, pipeline, batch_size=BATCH, shuffle=True))


def numpy_function(source: Files) -> Callable[[], None]:
    """The same decoder and transforms by tf.numpy_function per image."""
    import tensorflow as tf

    pipeline = augment.preset("medium", SIZE)

    def one(i: Any) -> Any:
        image = tf.numpy_function(lambda i: pipeline(source.image(i), 0, int(i)), [i], tf.uint8)
        return tf.ensure_shape(image, (SIZE, SIZE, 3))

    dataset = tf.data.Dataset.range(len(source)).map(one, num_parallel_calls=tf.data.AUTOTUNE)
    return exhausted(dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def keras_layers(source: Files) -> Callable[[], None]:
    """TensorFlow's decoder and the nearest Keras layers, on batches within tf.data."""
    import tensorflow as tf

    layers = nearest_layers()

    def read(path: Any) -> Any:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (SIZE, SIZE))

    parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
    dataset = tf.data.Dataset.from_tensor_slices(source.paths).map(read, **parallel).batch(BATCH)
    dataset = dataset.map(lambda images: layers(images, training=True), **parallel)
    return exhausted(dataset.prefetch(tf.data.AUTOTUNE))


def exhausted(dataset: Any) -> Callable[[], None]:
    """An epoch of a tf.data.Dataset that was built before."""

    def epoch() -> None:
        for _ in dataset:
            pass

    return epoch


def nearest_layers() -> Any:
    """The Keras layers nearest to preset "medium"."""
    import keras

    return keras.Sequential(
        [
            keras.layers.RandomZoom((-0.3, 0.0)),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(10 / 360),
            keras.layers.RandomColorJitter(
                value_range=(0, 255),
                brightness_factor=0.2,
                contrast_factor=0.2,
                saturation_factor=0.2,
                hue_factor=0.02,
            ),
            keras.layers.RandomGaussianBlur(factor=0.1, value_range=(0, 255)),
            keras.layers.RandomErasing(factor=0.25, value_range=(0, 255)),
        ]
    )


def in_turns(methods: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """(rounds, 2) seconds of each method, by the clock and of all processors.

    A first round does not count.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for _ in range(rounds + 1):
        for name, method in methods.items():
            clock, processor = time.perf_counter(), time.process_time()
            method()
            seconds[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {name: np.array(values[1:]) for name, values in seconds.items()}


def throughput(source: Files, rounds: int) -> None:
    """Images per second of every method, and this package's ratio to each."""
    few = Files([Path(path) for path in source.paths[:128]])  # the slow one gets fewer images
    methods = {
        "bare thread pool": (source, bare_pool),
        "augment.feed": (source, feeder),
        "tf.numpy_function": (source, numpy_function),
        "Keras layers": (few, keras_layers),
    }
    seconds = in_turns({name: build(data) for name, (data, build) in methods.items()}, rounds)
    each = {name: values / len(methods[name][0]) for name, values in seconds.items()}
    print("by the clock and by processor time: images/s (range), augment.feed / this method")
    for name, values in each.items():
        rates, ratios = 1 / values, values / each["augment.feed"]
        shown = [
            f"{np.median(rates[:, i]):5.0f} ({rates[:, i].min():.0f} to {rates[:, i].max():.0f}), "
            f"{np.median(ratios[:, i]):5.2f}"
            for i in range(2)
        ]
        print(f"{name:18} {shown[0]} | {shown[1]}", flush=True)


def training(source: Files, rounds: int) -> None:
    """Epochs of EfficientNet-Lite0 from disk and from memory, in turns."""
    import keras
    import tensorflow as tf

    from tltoolkit.model.classifier import build_classifier

    names = tuple("abcdefghij")
    model = build_classifier("efficientnet_lite0", names, weights=None)
    model.trainable = True
    model.compile("sgd", keras.losses.CategoricalCrossentropy())
    pipeline = augment.preset("medium", SIZE)
    batches = augment.Batches(source, pipeline, batch_size=BATCH, shuffle=True)
    held = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    memory = tf.data.Dataset.from_tensor_slices(tuple(held)).batch(BATCH).cache()
    disk = batches.to_dataset()

    seconds = in_turns(
        {
            "memory": lambda: model.fit(memory, shuffle=False, verbose=0),
            "alone": exhausted(disk),
            "disk": lambda: model.fit(disk, shuffle=False, verbose=0),
        },
        rounds,
    )
    ready, fed = seconds["memory"], seconds["disk"]
    own = seconds["alone"][:, 1]
    by_clock = fed[:, 0] / (ready[:, 0] + own / CORES)
    by_processor = fed[:, 1] / (ready[:, 1] + own)
    print(
        f"EfficientNet-Lite0, {len(source)} images: epoch from memory "
        f"{np.median(ready[:, 0]):.1f} s, pipeline's processor time / {CORES} cores "
        f"{np.median(own) / CORES:.1f} s, "
        f"epoch from disk {np.median(fed[:, 0]):.1f} s"
    )
    print(
        f"disk / sum: {np.median(by_clock):.3f} by the clock ({by_clock.min():.3f} to "
        f"{by_clock.max():.3f}), {np.median(by_processor):.3f} by processor time",
        flush=True,
    )


def peak_memory(folder: Path, n: int) -> float:
    """Peak MB of a new process that feeds n files once."""
    command = [sys.executable, __file__, "--peak", str(folder), str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(folder: Path, n: int) -> None:
    files = sorted(folder.iterdir())
    source = Files([files[i % len(files)] for i in range(n)])
    for _ in augment.Batches(source, augment.preset("medium", SIZE), batch_size=BATCH):
        pass
    # Not ru_maxrss: a child inherits that from the process that started it.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--part", choices=("throughput", "training", "memory"))
    parser.add_argument("--peak", nargs=2, metavar=("FOLDER", "N"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(Path(options.peak[0]), int(options.peak[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large"), Path(folder, "small")
        large.mkdir()
        small.mkdir()
        source = make_files(large, 1024, 500, 375)
        make_files(small, 200, 100, 75)  # memory depends on the number of files, not their size
        if options.part in (None, "throughput"):
            throughput(source, options.rounds)
        if options.part in (None, "training"):
            training(Files([Path(path) for path in source.paths[:192]]), rounds=3)
        if options.part in (None, "memory"):
            for n in (2_000, 20_000):
                print(f"peak memory with {n} files: {peak_memory(small, n):.0f} MB", flush=True)


if __name__ == "__main__":
    main()
