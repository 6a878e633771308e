"""Who may work in the directory of a run: one process at a time, and over no file of the user's.

Nothing here needs Keras, so that the command line looks before it loads anything.
"""

import contextlib
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tltoolkit.files import reading, writing

STARTED = "started.json"
COMMAND = "command.json"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
# What files of these forms begin with.
HDF5, ZIP, NUMPY = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY"
# Bytes of a lock: a process id.
LONGEST_LOCK = 20
# Windows deletes no file that is open: not this process's own lock, nor that of the next one.
DELETES_OPEN = os.name != "nt"


def _keyed(*names: str) -> writing.Ours:
    return lambda path: set(names) <= set(writing.mapping(path))


def _is_lock(path: Path) -> bool:
    try:
        content = reading.regular(path, LONGEST_LOCK).read_bytes()
    except PermissionError:
        return True  # on Windows a lock that is held cannot be read
    return not content or content.isdigit()


# What the toolkit writes into the directory of a run -> how a file of that name is told to be it.
OURS: Mapping[str, writing.Ours] = {
    LOCK: _is_lock,
    COMMAND: _keyed("format", "settings", "fingerprint", "command"),
    # One that is damaged is refused when it is read, and never written over.
    STARTED: lambda path: True,
    "classifier.json": _keyed("backbone", "class_names", "image_size"),
    "decision.json": _keyed("temperature", "thresholds", "abstention"),
    "manifest.json": _keyed("format", "sha256", "versions"),
    "run.json": _keyed("settings", "plan", "stages"),
    "data.json": _keyed("format", "images", "origin"),
    "images.npy": lambda path: writing.marked(path, NUMPY),
    "model.weights.h5": lambda path: writing.marked(path, HDF5),
    "familiarity.h5": lambda path: writing.marked(path, HDF5),
    "statistics.h5": lambda path: writing.marked(path, HDF5),
    "model.keras": lambda path: writing.marked(path, ZIP),
}
# Written before a run is noted as started: they make no directory a used one.
EARLY = {LOCK, COMMAND}


@contextlib.contextmanager
def claimed(directory: str | Path | None, resume: bool | str) -> Iterator[Path | None]:
    """Hold a directory for one process; within it nobody else can claim it.

    The lock goes with the process, however that ends. A directory in which no run has begun
    when the claim ends is left as it was found.

    Args:
        directory: New, empty, or (with `resume`) of a run; None yields None.
        resume: Whether it may hold a run.

    Raises:
        FileExistsError: It holds something else, or is a file.
        BlockingIOError: Another process works in it.
        OSError: It cannot be made.
    """
    if directory is None:
        yield None
        return
    target = reading.local(directory)
    # Twice: before anything is made, and again once nobody else can write.
    check(target, resume)
    made, file = _locked(target)
    with file:
        try:
            check(target, resume)
            _sweep(target)
            yield target
        finally:
            _withdraw(target, made, file)


@contextlib.contextmanager
def noted(directory: str | Path, resume: bool | str, command: Mapping[str, Any]) -> Iterator[None]:
    """Note the command of a run that is about to begin; taken back if none has begun within.

    Args:
        directory: As in `claimed`; so are the errors.
        resume: As in `claimed`.
        command: What command.json says; that of a run which has begun already stays.
    """
    target = reading.local(directory)
    check(target, resume)
    made, file = _locked(target)
    with file:
        check(target, resume)
        if not os.path.lexists(target / STARTED):
            write(target, COMMAND, command)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # another process may be at work in it by now
            more, file = _locked(target)
            with file:
                _withdraw(target, [*made, *more], file)


def check(target: Path, resume: bool | str) -> None:
    """See that a run can be written into `target`, now or later, without any harm.

    Raises:
        FileExistsError: It is no folder, or holds something that is not a run's.
        OSError: It cannot be made or written to.
    """
    if os.path.lexists(target) and not target.is_dir():
        kind = "a link to nothing" if target.is_symlink() and not target.exists() else "a file"
        raise FileExistsError(f"{target} is {kind}; name a new or empty directory")
    writing.check_room(target)
    held = _held(target)
    # A command that was noted, and whose run never began, leaves the directory free.
    if STARTED not in held and held - EARLY:
        raise FileExistsError(f"{target} holds files already; name a new or empty directory")
    for name in sorted(held & set(OURS)):
        writing.free(target / name, OURS[name])
    checkpoints = target / CHECKPOINTS
    if checkpoints.is_symlink() or (checkpoints.exists() and not checkpoints.is_dir()):
        raise FileExistsError(f"{checkpoints} is not the folder of a run's checkpoints; move it")
    if STARTED in held and not resume:
        raise FileExistsError(
            f"{target} holds files already, those of a run; name a new or empty directory, or "
            "pass resume=True to go on with it"
        )


def write(target: Path, name: str, data: Any) -> None:
    """Write one of the JSON files of `OURS`, whole or not at all."""
    writing.plain_json(target / name, data, OURS[name])


def _withdraw(target: Path, made: list[Path], file: IO[bytes]) -> None:
    """Unless a run has begun, take back what was written, and the folders that were made."""
    if os.path.lexists(target / STARTED):
        return
    if not DELETES_OPEN:
        file.close()
    for name in EARLY & _held(target):
        with contextlib.suppress(OSError, ValueError):
            if OURS[name](target / name):
                (target / name).unlink()
    _unmake(made)


def _unmake(made: list[Path]) -> None:
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _held(target: Path) -> set[str]:
    names = {path.name for path in target.iterdir()} if target.is_dir() else set()
    return {name for name in names if not writing.PARTIAL.fullmatch(name)}


def _sweep(target: Path) -> None:
    """Delete what writers that were killed have left; while locked, there are no others."""
    for path in target.iterdir():
        if writing.PARTIAL.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def _locked(target: Path) -> tuple[list[Path], IO[bytes]]:
    """The folders that were made, and the lock, which is held as long as it is open."""
    made = writing.made(target)
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        file = os.fdopen(os.open(target / LOCK, flags, 0o666), "r+b")
        try:
            writing.free(target / LOCK, _is_lock)
            _lock(file, target)
            # Whoever held it before may have taken it away.
            if _same(file, target / LOCK):
                # Only once the lock is held: it may be another process's id.
                file.truncate(0)
                file.write(str(os.getpid()).encode())
                file.flush()
                return made, file
        except BaseException:
            file.close()
            _unmake(made)
            raise
        file.close()
        made += writing.made(target)


def _same(file: IO[bytes], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    return False


def _lock(file: IO[bytes], target: Path) -> None:
    """Lock a file that is open already: what opens it here follows no link and empties nothing."""
    # It takes longer to load than the rest of the command line's help.
    import filelock

    try:
        held = not filelock.lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        # Some network file systems have no such locks.
        warnings.warn(f"{target} cannot be locked: see that only one run uses it", stacklevel=5)
        return
    if held:
        raise BlockingIOError(f"another run (process {_holder(file)}) is at work in {target}")


def _holder(file: IO[bytes]) -> str:
    with contextlib.suppress(PermissionError):  # on Windows what is locked cannot be read
        return file.read(LONGEST_LOCK).decode() or "?"
    return "?"
