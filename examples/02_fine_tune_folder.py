"""Fine-tune a backbone on a folder of images: the script to copy.

Command:  python examples/02_fine_tune_folder.py DIR --backbone efficientnet_lite0
Time:     about 10 minutes on 2 cores for 2,500 photographs of 512 x 384
Expected: trains on DIR/train, picks the best epoch on DIR/val, reports on DIR/test. A DIR with
          one folder per class and nothing else is split here.
"""

import argparse
import time
from pathlib import Path

import tltoolkit as tl


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="DIR/<class>/* or DIR/{train,val,test}/...")
    parser.add_argument("--backbone", default="efficientnet_lite0", choices=tl.backbones.names())
    parser.add_argument("--weights", default="imagenet", help="'imagenet', 'none' or a file")
    parser.add_argument("--plan", default="auto", choices=["auto", *tl.plans.PLANS])
    parser.add_argument("--augment", default="auto", help="'auto' or a preset's name")
    parser.add_argument("--image-size", type=int, help="pixels; the backbone's own by default")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--val", type=float, default=0.15, help="share, where DIR has no val")
    parser.add_argument("--test", type=float, default=0.15, help="share, where DIR has no test")
    parser.add_argument("--on-bad", default="error", choices=["error", "skip"])
    parser.add_argument("--duplicates", default="drop", choices=["error", "drop", "allow"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, help="a new directory; under runs/ by default")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    data = tl.data.from_directory(
        args.directory,
        val=args.val,
        test=args.test,
        seed=args.seed,
        on_bad=args.on_bad,
        duplicates=args.duplicates,
    )
    model = tl.build_classifier(
        args.backbone,
        data.class_names,
        weights=None if args.weights == "none" else args.weights,
        image_size=args.image_size,
        seed=args.seed,
    )
    run = tl.fine_tune(
        model,
        data,
        plan=args.plan,
        augment=args.augment,
        batch_size=args.batch_size,
        run_dir=args.run_dir or Path("runs") / time.strftime("folder-%Y%m%d-%H%M%S"),
        seed=args.seed,
    )
    report = tl.evaluate(run.model, data.test)
    report.save(run.run_dir, run=run.to_dict())
    print(report)
    print(f"Best epoch: {run.best_epoch + 1} of {len(run.history['loss'])}. Kept in {run.run_dir}")


if __name__ == "__main__":
    main()
