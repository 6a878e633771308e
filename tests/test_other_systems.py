"""What only Linux has is taken away: a run, its data and its estimate do without."""

import builtins
import contextlib
import os
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import filelock  # loaded before `elsewhere`, since it has locks of its own for each system
import keras
import numpy as np
import psutil
import pytest

import tltoolkit as tl
from tltoolkit.augment import threads
from tltoolkit.data import walk
from tltoolkit.data.spool import Spool
from tltoolkit.files import claiming
from tltoolkit.runs import started
from tltoolkit.runs.estimate import estimate
from tltoolkit.training.features import Storage
from tltoolkit.tune import batch_child

SIZE, GIB = 16, 2**30
MISSING = ("posix_fallocate", "pread", "sysconf", "sched_getaffinity")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows: no such calls and modules, and no /proc for our own code."""
    for name in MISSING:
        monkeypatch.delattr(os, name, raising=False)
    for name in ("fcntl", "resource"):
        monkeypatch.setitem(sys.modules, name, None)
    opened = builtins.open

    def refusing(file: Any, *args: Any, **options: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if str(file).startswith("/proc") and caller.startswith("tltoolkit"):
            raise FileNotFoundError(file)
        return opened(file, *args, **options)

    monkeypatch.setattr(builtins, "open", refusing)
    is_file = pathlib.Path.is_file
    monkeypatch.setattr(
        pathlib.Path, "is_file", lambda path: not str(path).startswith("/proc") and is_file(path)
    )
    monkeypatch.setattr(batch_child, "STATUS", Path("/nowhere/proc/self/status"))


def build() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(pixels)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, keras.layers.Dense(2, name="scores")(x))


def images(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8), np.arange(count) % 2


PLAN = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-2),))


def test_a_run_begins_and_ends(elsewhere: None, tmp_path: Path) -> None:
    run = tl.fine_tune(
        build(),
        tl.data.from_arrays(*images()),
        PLAN,
        augment="none",
        cache_gb=3000 / GIB,  # room for a batch, so that the rest goes to a file
        batch_size=4,
        run_dir=tmp_path / "run",
        verbose=0,
    )
    assert len(run.history["loss"]) == 1
    assert (tmp_path / "run" / "run.json").is_file()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: nobody but the holder reads a lock, and no open file is deleted."""
    held: set[int] = set()
    real, read, unlink = filelock.lock_descriptor, Path.read_bytes, Path.unlink

    def lock(number: int, **options: Any) -> bool:
        if locked := real(number, **options):
            held.add(number)
        return locked

    def is_held(path: Path) -> bool:
        for number in held:
            with contextlib.suppress(OSError):  # closed
                if path.samefile(f"/dev/fd/{number}"):
                    return True
        return False

    def refusing(call: Any) -> Any:
        def made(path: Path, *arguments: Any, **options: Any) -> Any:
            if is_held(path):
                raise PermissionError(13, "The process cannot access the file", str(path))
            return call(path, *arguments, **options)

        return made

    monkeypatch.setattr(filelock, "lock_descriptor", lock)
    monkeypatch.setattr(Path, "read_bytes", refusing(read))
    monkeypatch.setattr(Path, "unlink", refusing(unlink))
    monkeypatch.setattr(claiming, "DELETES_OPEN", False)


def test_a_directory_is_claimed_once_on_windows(windows: None, tmp_path: Path) -> None:
    with claiming.claimed(tmp_path / "run", True) as target:
        assert os.listdir(target) == [".lock"]
        with (
            pytest.raises(BlockingIOError, match=r"another run \(process .*\) is at work in"),
            claiming.claimed(target, True),
        ):
            pass
    assert os.listdir(tmp_path) == []


def test_activations_on_disk_have_their_room(elsewhere: None, tmp_path: Path) -> None:
    storage = Storage(memory_gb=20_000 / GIB, directory=tmp_path)
    stored = storage.empty((1, 3000, 333), batch_size=1)
    assert isinstance(stored, np.memmap)
    assert not stored.any()
    stored[:] = 7
    assert (stored == 7).all()


def test_a_full_disk_is_said_before_it_is_written_to(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tltoolkit.training.features._reserve", full)
    storage = Storage(memory_gb=20_000 / GIB, directory=tmp_path)
    with pytest.raises(OSError, match="on disk, and .* has .* No space left"):
        storage.empty((1, 3000, 333), batch_size=1)


def test_a_stream_is_read_by_many_threads_and_grows(elsewhere: None) -> None:
    rng = np.random.default_rng(0)
    contents = [rng.bytes(int(n)) for n in rng.integers(0, 5000, 200)]
    spool = Spool(1.0)
    for content in contents[:150]:
        spool.append(content)
    start = threading.Barrier(8)

    def reads(seed: int) -> bool:
        start.wait()
        order = np.random.default_rng(seed).permutation(150)
        return all(spool.read(int(i)) == contents[i] for i in order)

    with ThreadPoolExecutor(8) as pool:
        checked = [pool.submit(reads, seed) for seed in range(8)]
        for content in contents[150:]:  # meanwhile
            spool.append(content)
        assert all(one.result() for one in checked)
    assert [spool.read(i) for i in range(200)] == contents


def test_from_stream_gives_the_images_back(elsewhere: None) -> None:
    pixels, labels = images()
    data = tl.data.from_stream(zip(pixels, labels.tolist(), strict=True), val=0)
    for i, index in enumerate(data.train.indices):
        np.testing.assert_array_equal(data.train.image(i), pixels[index])


def test_the_machine_is_described(elsewhere: None) -> None:
    assert started.hardware()["memory"] == psutil.virtual_memory().total
    assert threads.cores() == os.cpu_count()


def test_an_estimate_knows_the_memory_held(elsewhere: None) -> None:
    found = estimate(build(), tl.data.from_arrays(*images()), PLAN, augment="none")
    held = psutil.Process().memory_info().rss / GIB
    assert 0.5 * held < found.gib < held + 1


def test_the_batch_size_is_found_without_a_limit(elsewhere: None) -> None:
    batch_child._limit(None)
    assert np.isnan(batch_child._held("VmHWM"))


def test_folders_without_numbers_are_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "x.png").write_bytes(b"")
    real = os.stat

    class Unnumbered:
        st_dev = st_ino = 0

        def __init__(self, path: str) -> None:
            self.st_mode = real(path).st_mode

    monkeypatch.setattr(walk.os, "stat", Unnumbered)
    assert list(walk.files(str(tmp_path), walk.Counter())) == [str(deep / "x.png")]
