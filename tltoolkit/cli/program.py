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
    benchmark,
    capacity,
    embed,
    evaluate,
    export,
    fit,
    learning_curve,
    lr_find,
    predict,
    record,
    search,
    serve,
    settings,
    wording,
)

# name -> its module, in the order of the help
COMMANDS: dict[str, Any] = {
    "fit": fit,
    "evaluate": evaluate,
    "predict": predict,
    "embed": embed,
    "export": export,
    "benchmark": benchmark,
    "serve": serve,
    "audit": audit,
    "lr-find": lr_find,
    "capacity": capacity,
    "learning-curve": learning_curve,
    "search": search,
    "backbones": backbones,
}
# From 130 on as shells have it, 128 and the signal's number: SIGINT, SIGTERM, SIGPIPE.
FAILURE, BAD_INPUT, INTERRUPTED, TERMINATED, CLOSED = 1, 2, 130, 143, 141
# What the API raises for arguments and files; all else is a failure of the program or machine.
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
exit codes: 0 done, 1 failure, 2 wrong usage or input, 3 done but images were unreadable (predict)
or have problems (audit --strict), 130 interrupted, 141 nobody reads the output, 143 terminated.
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
        The exit code: 0, or 1 for a failure, 2 for wrong usage or input, 3 where all went well
        but images are not as they should be, 130 after Ctrl-C, 143 after SIGTERM, 141 where
        nobody reads the output.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    # Out here: the message of an error may meet the closed pipe, too.
    except BrokenPipeError:
        _close_broken()
        return CLOSED


def _run(words: list[str]) -> int:
    flags: dict[str, str] = {}
    try:
        with _terminated(), _warnings_in_one_line(flags):
            # Within, as reading settings can fail like any command.
            args = parse(words)
            flags |= wording.flags_of(parsers()[1][args.command])
            out = sys.stdout
            with _apart(args.quiet):
                code: int = COMMANDS[args.command].run(args, out)
            # Now, while a closed pipe can still be answered by an exit code.
            out.flush()
            sys.stderr.flush()
            return code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else FAILURE
    # An OSError, and so an Exception, whose message nobody could read.
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("tltoolkit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        # By the words: parsing may be what failed.
        if "--debug" in words:
            traceback.print_exc()
        print(f"tltoolkit: error: {_said(error, flags)}", file=sys.stderr)
        return BAD_INPUT if isinstance(error, _WRONG_INPUT) else FAILURE


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The settings of a command: flags over those of `--settings` over those of `--from`."""
    parser, commands = parsers()
    args = parser.parse_args(words)
    own = commands[args.command]
    values: dict[str, Any] = {}
    if getattr(args, "from_run", None):
        said = record.read(args.from_run)["settings"]
        values |= settings.as_defaults(said, own, str(record.path_of(args.from_run)))
    if getattr(args, "settings", None):
        values |= settings.as_defaults(settings.read(args.settings), own, args.settings)
    if not values:
        return args
    own.set_defaults(**values)
    # Parsed again: only now flags count over the new defaults.
    return parser.parse_args(words)


def parsers() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the program, and that of each command."""
    parser = Parser(
        prog="tltoolkit",
        description="Fine-tune pretrained image classifiers.",
        epilog=EPILOG,
        # A short form would come to mean another flag as flags are added.
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
        loudness = own.add_mutually_exclusive_group()
        add = loudness.add_argument
        add("-q", "--quiet", action="store_true", help="no progress: results, warnings, errors")
        add("-v", "--verbose", action="store_true", help="say more: versions, class counts")
        own.add_argument("--debug", action="store_true", help="show the traceback of an error")
        commands[name] = own
    return parser, commands


def _said(error: Exception, flags: dict[str, str]) -> str:
    # A file system error's own text begins with "[Errno 2]".
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error) or type(error).__name__
    return text if isinstance(error, wording.FileError) else wording.reworded(text, flags)


@contextlib.contextmanager
def _apart(quiet: bool) -> Iterator[None]:
    """What libraries print, such as Keras' progress, is no result; `quiet` drops it."""
    if not quiet:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    with (
        # Standard output alone is dropped: warnings and errors are on the other stream.
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        # Progress bars are shown on terminals alone.
        contextlib.redirect_stderr(_NoTerminal(sys.stderr)),
    ):
        yield


class _NoTerminal:
    """A stream that says that it is no terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _close_broken() -> None:
    """Let Python flush into nothing at its end, where it would complain once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            # In place of the pipe, below Python's buffer, which is flushed at exit once more.
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM leaves by SystemExit, so that files are closed; training has its own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: Any) -> NoReturn:
        # By default SIGTERM ends the process without any `finally`.
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _warnings_in_one_line(flags: dict[str, str]) -> Iterator[None]:
    others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        # The toolkit's own are UserWarnings; those of libraries stay in Python's form.
        if issubclass(category, UserWarning):
            said = wording.reworded(str(message), flags)
            print(f"tltoolkit: warning: {said}", file=sys.stderr)
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        # Once for each place: a warning in a loop would fill the screen.
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
