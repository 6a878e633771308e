"""Accuracy and macro F1 on the test split against seconds, for each plan.

    python benchmarks/time_to_accuracy.py DATA [--plans auto ...] [--seeds 0 1 2]

Seen on 2 cores. TrashNet (1,766 images of 224 px to train on, 431 to test), mean of 3 seeds:
linear_probe accuracy 0.898, macro F1 0.882 after 34 s; auto, which fine-tuned the upper blocks for
8 epochs, 0.935 (0.930 to 0.942) and 0.918 (0.906 to 0.925) after 595 s (554 to 635). Seed 0, probe
and auto: digits accuracy 0.940 in 8 s, 0.956 in 64 s (0.987 with `--augment none`, which does not
mirror them); textures 0.948 in 6 s, and auto kept the probe after 48 s.

DATA is a directory of train, val and test folders, or `digits`, or `textures`: 1,000 images of 64
pixels, ten pairs of waves in random phase, colour and contrast, under noise. Seconds are those of
the whole call of `fine_tune`, checks and the first decoding of every image included; building the
model and the report are not. The seed changes the head, the order and the augmentation. Test
figures are those of the best epoch on validation; nothing is chosen on the test split.
"""

import argparse
import os
import statistics
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tltoolkit as tl

SMALL = 64


def digits() -> tl.data.ImageData:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return tl.data.from_arrays(pixels, labels, val=0.15, test=0.25, seed=0)


def textures() -> tl.data.ImageData:
    rng = np.random.default_rng(0)
    angles, cycles = rng.uniform(0, np.pi, (10, 2)), rng.uniform(3, 12, (10, 2))
    y, x = np.mgrid[:SMALL, :SMALL] / SMALL
    labels = np.arange(1000) % 10
    pixels = []
    for label in labels:
        wave = np.zeros((SMALL, SMALL))
        for angle, count in zip(angles[label], cycles[label], strict=True):
            turned = angle + rng.normal(0, 0.1)
            along = x * np.cos(turned) + y * np.sin(turned)
            wave += np.cos(2 * np.pi * (count * along + rng.random()))
        colour, contrast = rng.uniform(60, 195, 3), rng.uniform(5, 40, 3)
        noise = rng.normal(0, 30, (SMALL, SMALL, 3))
        pixels.append((colour + contrast * wave[..., None] + noise).clip(0, 255))
    return tl.data.from_arrays(
        np.stack(pixels).astype(np.uint8), labels, val=0.15, test=0.25, seed=0
    )


MADE = {"digits": digits, "textures": textures}


def once(data: tl.data.ImageData, args: argparse.Namespace, plan: str, seed: int) -> list[float]:
    model = tl.build_classifier(
        args.backbone, data.class_names, image_size=args.image_size, seed=seed
    )
    started = time.perf_counter()
    run = tl.fine_tune(model, data, plan, args.augment, args.imbalance, seed=seed, verbose=0)
    seconds = time.perf_counter() - started
    report = tl.evaluate(run.model, data.test)
    stages = ", ".join(f"{s.stage.name} {s.epochs} epochs {s.seconds:.0f} s" for s in run.stages)
    print(
        f"{plan:22} seed {seed}: {seconds:6.1f} s  accuracy {report.accuracy:.4f}  "
        f"macro F1 {report.f1_macro:.4f}  ({stages}; {run.why})",
        flush=True,
    )
    return [seconds, report.accuracy, report.f1_macro]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, help=f"{SMALL} for the sets that are made")
    parser.add_argument("--augment", default="auto")
    parser.add_argument("--imbalance", default="none")
    parser.add_argument("--plans", nargs="+", default=["linear_probe", "auto"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    if args.data in MADE:
        data, args.image_size = MADE[args.data](), args.image_size or SMALL
    else:
        data = tl.data.from_directory(args.data, duplicates="drop")
    print(data)
    for plan in args.plans:
        rows = [once(data, args, plan, seed) for seed in args.seeds]
        seconds, accuracy, f1 = map(statistics.mean, zip(*rows, strict=True))
        print(
            f"{plan:22} mean of {len(rows)}: {seconds:6.1f} s  accuracy {accuracy:.4f}  "
            f"macro F1 {f1:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
