"""Look for unreadable, duplicate and rare images before training."""

import argparse
import dataclasses
from typing import TextIO

from tltoolkit.cli import options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_data(parser)
    parser.add_argument(
        "--near-duplicates", action="store_true", help="also look for images that look alike"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 if there is a problem")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the audit."""
    audit = options.load_data(args).audit(near_duplicates=args.near_duplicates)
    # As data for JSON; for people the audit prints itself.
    outputs.show(args, out, dataclasses.asdict(audit), audit)
    return outputs.FLAWED if args.strict and audit.problems else 0
