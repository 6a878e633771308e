"""A stage whose lower part is frozen, against plain Keras: seconds and peak memory.

    python benchmarks/frozen_stage.py [--cases head last] [--backbones vgg16 ...] [--images N]

Seen on 2 cores: seconds of ours and of plain Keras, times faster (and the limit), ratio to pass +
head, peak MB of ours and of Keras. VGG16 with `--images 128`.

    head  resnet50             31.2  346.8  11.1 (10.0)  0.96  1614 1618
    head  densenet121          33.1  391.9  11.8 (10.0)  1.10  1843 1495
    head  xception             39.5  393.8  10.0 (10.0)  0.91  1797 1917
    head  efficientnet_lite0    9.5   88.0   9.2 (10.0)  0.88  1479 1302
    last  resnet50            189.7  500.1   2.6 (2.1)         2519 1899
    last  vgg16                82.6  360.9   4.4 (3.3)         2144 2113
    last  efficientnet_lite0   14.8   92.2   6.2 (4.4)         1489 1307

Both train the same layers of the same network on the same images of 224 px (512) for 10 epochs,
each in a process of its own, one after the other. "Plain Keras" is `trainable = False` below,
then `fit`. "Pass + head" is one `predict` of the frozen part and a `fit` of the rest on what it
gave. The limit is what multiply-adds allow if the frozen part were free after its one pass; it
leaves out normalisation and activations, which cost plain Keras time in every epoch.
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


def child(method: str, case: str, backbone: str, images: int) -> None:
    """Measure one method and print it as JSON."""
    import keras
    import numpy as np

    import tltoolkit as tl

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.arange(images) % CLASSES
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
        from tltoolkit.model import freezing

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


def measure(method: str, case: str, backbone: str, images: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--images", str(images), "--child", method, case, backbone]
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
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.images)
        return
    print(
        f"{'case':5} {'backbone':20} {'ours':>8} {'Keras':>8} {'faster':>7} {'wanted':>7} "
        f"{'limit':>6} {'pass+head':>10} {'ratio':>6} {'peak MB ours':>13} {'Keras':>7}"
    )
    for case in arguments.cases:
        for backbone in arguments.backbones or BACKBONES[case]:
            ours, plain = (
                measure(method, case, backbone, arguments.images) for method in ("ours", "keras")
            )
            wanted = f"{WANTED[case, backbone]:.1f}x" if (case, backbone) in WANTED else "-"
            seconds = ratio = "-"
            # With more than a head to train, the pass is a small part, and not worth its minutes.
            if case == "head":
                parts = measure("parts", case, backbone, arguments.images)["seconds"]
                seconds, ratio = f"{parts:.1f}s", f"{ours['seconds'] / parts:.2f}"
            print(
                f"{case:5} {backbone:20} {ours['seconds']:7.1f}s {plain['seconds']:7.1f}s "
                f"{plain['seconds'] / ours['seconds']:6.1f}x {wanted:>7} "
                f"{limit(case, backbone):5.1f}x {seconds:>10} {ratio:>6} "
                f"{ours['peak_mb']:13.0f} {plain['peak_mb']:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
