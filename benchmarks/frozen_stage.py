"""A stage whose lower part is frozen, against plain Keras: seconds and peak memory.

    python benchmarks/frozen_stage.py [--cases head last] [--backbones resnet50 ...]

Seen on 2 cores so far: head of EfficientNet-Lite0 9.4 s, plain Keras 90.1 s (9.6 times, limit
10.0), pass + head 8.2 s (ratio 1.14), peak 1,477 MB against 1,305 MB.

Both train the same layers of the same network on the same 512 images of 224 px for 10 epochs,
each in a process of its own, one after the other. "Plain Keras" is `trainable = False` below,
then `fit`. "Pass + head" is one `predict` of the frozen part and a `fit` of the rest on what it
gave. The limit is what the operation count allows if the frozen part were free after its one pass.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

IMAGES, SIZE, CLASSES, BATCH, EPOCHS = 512, 224, 10, 32, 10
BACKBONES = {
    "head": ("resnet50", "densenet121", "xception", "efficientnet_lite0"),
    "last": ("resnet50", "vgg16", "efficientnet_lite0"),
}
WANTED = {
    ("head", "resnet50"): 8.0,
    ("head", "densenet121"): 8.0,
    ("head", "xception"): 8.0,
    ("head", "efficientnet_lite0"): 8.0,
    ("last", "resnet50"): 1.8,
    ("last", "vgg16"): 2.5,
}


def child(method: str, case: str, backbone: str) -> None:
    """Measure one method and print it as JSON."""
    import keras
    import numpy as np

    import tltoolkit as tl

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(IMAGES) % CLASSES
    names = [str(c) for c in range(CLASSES)]
    model = tl.build_classifier(backbone, names, weights=None, image_size=SIZE)
    unfreeze = {"head": "head", "last": 1}[case]
    before = peak_mb()
    started = time.perf_counter()
    if method == "ours":
        data = tl.data.from_arrays(pixels, labels, class_names=names, val=0.0)
        stage = tl.Stage(case, unfreeze=unfreeze, epochs=EPOCHS, schedule="constant")
        tl.fine_tune(model, data, tl.Plan((stage,)), "none", batch_size=BATCH, verbose=0)
    elif method == "keras":
        tl.freeze(model, unfreeze)
        fit(model, pixels, np.eye(CLASSES, dtype="float32")[labels])
    else:
        from tltoolkit import freezing

        plan = tl.freeze(model, unfreeze)
        cut = freezing.boundary(model, plan)
        features = keras.Model(model.input, cut).predict(pixels, batch_size=BATCH, verbose=0)
        upper = keras.Model(cut, model.output)
        fit(upper, features, np.eye(CLASSES, dtype="float32")[labels])
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "before_mb": before}))


def fit(model: Any, x: Any, y: Any) -> None:
    """Keras' own training loop, without XLA, which is slower on a CPU."""
    import keras

    model.compile(
        keras.optimizers.AdamW(1e-3),
        "categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0)


def peak_mb() -> float:
    # Not ru_maxrss: a child inherits that from the process that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(method: str, case: str, backbone: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", method, case, backbone]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def operations(backbone: str) -> tuple[float, float]:
    """Multiply-adds of the whole network and of its last block, by the shapes of its layers."""
    import tltoolkit as tl

    model = tl.build_classifier(backbone, ["a", "b"], weights=None, image_size=SIZE)
    costs = {
        layer.name: math.prod(layer.output.shape[1:3] if len(layer.output.shape) == 4 else ())
        * sum(math.prod(w.shape) for w in layer.weights if len(w.shape) > 1)
        for layer in model.layers
        if layer.weights
    }
    *_, last, _ = tl.blocks(model).values()
    return sum(costs.values()), sum(costs.get(name, 0) for name in last)


def limit(case: str, backbone: str) -> float:
    """Plain forward and backward over one pass of the frozen part and the trained epochs."""
    whole, last = operations(backbone)
    last = 0.0 if case == "head" else last
    # A trained layer costs its forward and twice that backward.
    plain = EPOCHS * (whole + 2 * last)
    return plain / (whole - last + EPOCHS * 3 * last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(BACKBONES), choices=list(BACKBONES))
    parser.add_argument("--backbones", nargs="+")
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    print(
        f"{'case':5} {'backbone':20} {'ours':>8} {'Keras':>8} {'faster':>7} {'wanted':>7} "
        f"{'limit':>6} {'pass+head':>10} {'ratio':>6} {'peak MB ours':>13} {'Keras':>7}"
    )
    for case in arguments.cases:
        for backbone in arguments.backbones or BACKBONES[case]:
            ours, plain = measure("ours", case, backbone), measure("keras", case, backbone)
            faster = plain["seconds"] / ours["seconds"]
            # With more than a head to train, the pass is a small part, and not worth its minutes.
            parts = measure("parts", case, backbone)["seconds"] if case == "head" else math.nan
            wanted = WANTED.get((case, backbone), math.nan)
            print(
                f"{case:5} {backbone:20} {ours['seconds']:7.1f}s {plain['seconds']:7.1f}s "
                f"{faster:6.1f}x {wanted:6.1f}x {limit(case, backbone):5.1f}x "
                f"{parts:9.1f}s {ours['seconds'] / parts:6.2f} "
                f"{ours['peak_mb']:13.0f} {plain['peak_mb']:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
