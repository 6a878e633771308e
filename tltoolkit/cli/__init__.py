"""The command line: `tltoolkit fit`, `evaluate`, `predict`, `audit` and more.

A command is one module: `add` declares its options, `run` calls the API and prints. Nothing
heavy is imported until a command runs, so that `--help` answers at once.
"""

from tltoolkit.cli.program import main

__all__ = ["main"]
