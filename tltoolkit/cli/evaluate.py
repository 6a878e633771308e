"""Score a trained classifier on labelled images."""

import argparse
import json
from pathlib import Path
from typing import TextIO

from tltoolkit.cli import options, record

SPLITS = ("train", "val", "test", "all")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run_dir", metavar="RUN", help="what `tltoolkit fit` wrote")
    # Left out, the splits are those of the run: the same images are in `test`.
    options.add_data(parser, of_run=True)
    parser.add_argument(
        "--split",
        default="test",
        choices=SPLITS,
        help="test (default), val, train, or all images in DIR",
    )
    parser.add_argument("--report", metavar="OUT", help="write report.json and report.html there")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the report, and write it if asked."""
    tl = options.toolkit(args)
    predictor = tl.load(args.run_dir)
    trained = record.read(args.run_dir)["settings"] if record.exists(args.run_dir) else {}
    for name, usual in options.SPLITTING.items():
        if getattr(args, name) is None:
            setattr(args, name, trained.get(name, usual))
    if args.split == "all":
        args.val = args.test = 0.0
    data = options.load_data(args).check()
    split = data.train if args.split == "all" else getattr(data, args.split)
    report = tl.evaluate(predictor, split, args.batch_size)
    if args.report:
        report.save(args.report, run=_told(Path(args.run_dir)))
    print(json.dumps(report.to_dict(), indent=2) if args.json else report, file=out)
    return 0


def _told(run_dir: Path) -> dict[str, object] | None:
    from tltoolkit import _files

    path = run_dir / "run.json"
    return _files.parse_json(_files.read(path), path) if path.is_file() else None
