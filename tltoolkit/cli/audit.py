"""Look for unreadable, duplicate and rare images before training."""

import argparse
import dataclasses
import json
from typing import TextIO

from tltoolkit.cli import options


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    parser.add_argument(
        "--near-duplicates", action="store_true", help="also look for images that look alike"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if there is a problem")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the audit."""
    audit = options.load_data(args).audit(near_duplicates=args.near_duplicates)
    print(json.dumps(dataclasses.asdict(audit), indent=2) if args.json else audit, file=out)
    return int(args.strict and bool(audit.problems))
