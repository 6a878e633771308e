"""The program around the commands: parsing, warnings, errors and exit codes."""

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO

from tltoolkit import __version__
from tltoolkit.cli import (
    audit,
    backbones,
    capacity,
    evaluate,
    fit,
    learning_curve,
    lr_find,
    predict,
    record,
    search,
    settings,
)

# name -> its module, in the order of the help
COMMANDS: dict[str, Any] = {
    "fit": fit,
    "evaluate": evaluate,
    "predict": predict,
    "audit": audit,
    "lr-find": lr_find,
    "capacity": capacity,
    "learning-curve": learning_curve,
    "search": search,
    "backbones": backbones,
}
FAILURE, BAD_INPUT, INTERRUPTED, TERMINATED, CLOSED = 1, 2, 130, 143, 141
_WRONG_INPUT = (
    ValueError,
    TypeError,
    ImportError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
)
EPILOG = """\
exit codes: 0 done, 1 failure, 2 wrong usage or input, 130 interrupted, 143 terminated.
Results go to standard output, everything else to standard error."""


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(BAD_INPUT, f"tltoolkit: error: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Its words; None takes those of the process.

    Returns:
        The exit code: 0, or 1 for a failure, 2 for wrong usage or input, 130 after Ctrl-C, 143
        after SIGTERM, 141 where nobody reads the output.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with _terminated(), _warnings_in_one_line():
            args = parse(words)
            out = sys.stdout
            # What libraries print, such as Keras' progress, is no result.
            with contextlib.redirect_stdout(sys.stderr):
                code: int = COMMANDS[args.command].run(args, out)
            out.flush()
            return code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FAILURE
    except BrokenPipeError:
        # Python would complain once more when it flushes at its end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return CLOSED
    except KeyboardInterrupt:
        print("tltoolkit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        print(f"tltoolkit: error: {_said(error)}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, _WRONG_INPUT) else FAILURE


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The settings of a command: flags over those of `--settings` over those of `--from`."""
    parser, commands = parsers()
    args = parser.parse_args(words)
    values: dict[str, Any] = {}
    if getattr(args, "from_run", None):
        values |= record.read(args.from_run)["settings"]
    if getattr(args, "settings", None):
        values |= settings.read(args.settings)
    if not values:
        return args
    commands[args.command].set_defaults(**settings.as_defaults(values, commands[args.command]))
    return parser.parse_args(words)


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the program, and that of each command."""
    parser = Parser(
        prog="tltoolkit",
        description="Fine-tune pretrained image classifiers.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tltoolkit {__version__}")
    kinds = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = {}
    for name, module in COMMANDS.items():
        text = module.__doc__.splitlines()[0]
        own = kinds.add_parser(name, help=text, description=text, allow_abbrev=False)
        module.add(own)
        own.add_argument("--json", action="store_true", help="print JSON, for scripts")
        own.add_argument("--debug", action="store_true", help="show the traceback of an error")
        commands[name] = own
    return parser, commands


def _said(error: Exception) -> str:
    # A file system error's own text begins with "[Errno 2]".
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM leaves by SystemExit, so that files are closed; training has its own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: Any) -> NoReturn:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, UserWarning):
            print(f"tltoolkit: warning: {message}", file=sys.stderr)
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
