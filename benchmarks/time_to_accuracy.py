"""Accuracy and macro F1 on the test split against seconds, for each plan.

    python benchmarks/time_to_accuracy.py DIR [--plans auto ...] [--seeds 0 1 2] [--imbalance auto]

Seen on 2 cores so far, by examples/02_fine_tune_folder.py on TrashNet with seed 0: auto reached
accuracy 0.935 and macro F1 0.913 in 8 min 29 s, start and report included.

DIR holds train, val and test folders. Seconds are those of the whole call of `fine_tune`, checks
and the first decoding of every image included; building the model and the report are not. The
seed changes the head, the order and the augmentation. Test figures are those of the best epoch
on validation; nothing is chosen on the test split.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tltoolkit as tl


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
    parser.add_argument("directory")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--augment", default="auto")
    parser.add_argument("--imbalance", default="auto")
    parser.add_argument("--plans", nargs="+", default=["linear_probe", "auto"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    data = tl.data.from_directory(args.directory, duplicates="drop")
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
