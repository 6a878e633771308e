"""The directory of a run: who may use it, what it records, what it refuses."""

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.callbacks import checkpoint
from tltoolkit.runs import directory, started

SIZE = 16
pytestmark = pytest.mark.usefixtures("eagerly")
PLAN = tl.Plan((tl.Stage("head", epochs=2, learning_rate=1e-2),))


def build() -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Conv2D(
        4, 3, strides=2, kernel_initializer=keras.initializers.GlorotUniform(1), name="conv"
    )(pixels)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    init = keras.initializers.GlorotUniform(2)
    return keras.Model(pixels, keras.layers.Dense(2, kernel_initializer=init, name="scores")(x))


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (20, SIZE, SIZE, 3)).astype(np.uint8), np.arange(20) % 2


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise InterruptedError


class Go(keras.callbacks.Callback):
    """Does nothing, by the same name in the record."""


Go.__name__ = "Stop"


def train(run_directory: Path, callback: Any = None, **options: Any) -> Any:
    given = {"data": tl.data.from_arrays(*images()), "plan": PLAN, "augment": "none", **options}
    return tl.fine_tune(
        build(), run_dir=run_directory, callbacks=[callback or Go()], verbose=0, **given
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after one of two epochs."""
    path = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(InterruptedError):
        train(path, Stop())
    return path


@pytest.fixture
def unfinished(begun: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(begun, tmp_path / "run"))


def test_a_finished_run_of_an_earlier_version_comes_back(tmp_path: Path) -> None:
    first = train(tmp_path)
    noted = json.loads((tmp_path / "started.json").read_text())
    del noted["settings"][started.START]  # was not noted then
    (tmp_path / "started.json").write_text(json.dumps(noted))
    again = train(tmp_path)
    assert again.history == first.history


def test_what_a_run_notes_at_its_start(unfinished: Path) -> None:
    noted = json.loads((unfinished / "started.json").read_text())
    assert noted["command"] == sys.argv
    assert noted["settings"]["batch_size"] == 32
    assert noted["settings"]["augment"] == "none"
    assert noted["settings"]["model"][-1] == [2]
    assert tl.Plan.from_dict(noted["settings"]["plan"]) == PLAN
    assert noted["versions"]["keras"] == keras.__version__
    assert noted["hardware"]["cores"] == os.cpu_count()
    assert noted["hardware"]["memory"] > 2**28
    assert noted["data"]["train"].startswith("15 images, SHA-256 ")
    assert sorted(path.name for path in unfinished.iterdir()) == [
        ".lock",
        "checkpoints",
        "data.json",
        "images.npy",
        "started.json",
    ]


def test_an_unfinished_run_is_no_classifier(unfinished: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no saved classifier .*its run is not finished"):
        tl.load(unfinished)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 4}, "batch_size was 32 and is 4"),
        ({"seed": 5}, "seed was 0 and is 5"),
        ({"augment": "light"}, "augment was 'none' and is 'light'"),
        ({"cache_dtype": "float16"}, "cache_dtype was 'float32' and is 'float16'"),
        ({"plan": tl.Plan((tl.Stage("head", epochs=3, learning_rate=1e-2),))}, "epochs was 2 and"),
        ({"plan": "auto"}, "plan was {'stages': .* and is 'auto'"),
        ({"data": tl.data.from_arrays(*images(1))}, "data.train was '15 images, SHA-256 "),
        ({"data": tl.data.from_arrays(*images(), val=0.3)}, r"images.train was 15 and is 14"),
        ({"callback": keras.callbacks.TerminateOnNaN()}, r"callbacks\[0\] was 'Stop' and is"),
    ],
)
def test_what_has_changed_is_named_and_refused(
    options: dict[str, Any], words: str, unfinished: Path
) -> None:
    said = f"holds a run with other settings: .*{words}.*'force' .on the command line: --force"
    with pytest.raises(ValueError, match=said):
        train(unfinished, **options)


def test_another_version_or_model_is_named(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = json.loads((unfinished / "started.json").read_text())
    noted["versions"]["keras"] = "3.0.0"
    (unfinished / "started.json").write_text(json.dumps(noted))
    with pytest.raises(ValueError, match=r"versions.keras was '3.0.0' and is '3\."):
        train(unfinished)
    (unfinished / "started.json").write_text("{")
    with pytest.raises(ValueError, match="is not what a run notes at its start"):
        train(unfinished)


def test_force_goes_on_with_the_new_settings(unfinished: Path) -> None:
    longer = tl.Plan((tl.Stage("head", epochs=4, learning_rate=1e-2),))
    with pytest.warns(UserWarning, match="goes on with other settings: .*epochs was 2 and is 4"):
        run = train(unfinished, plan=longer, batch_size=4, resume="force")
    assert len(run.history["loss"]) == 4
    noted = json.loads((unfinished / "started.json").read_text())
    assert noted["settings"]["batch_size"] == 4
    assert any("batch_size was 32" in change for change in noted["forced"][0]["changes"])
    with pytest.raises(ValueError, match="holds a finished run with other settings: batch_size"):
        train(unfinished, plan=longer, resume="force")


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files already; name a new or empty"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(FileExistsError, match="is a file; name a new or empty directory"):
        train(tmp_path / "thesis.txt")


def test_without_resume_a_run_is_refused_and_files_of_the_user_stay(unfinished: Path) -> None:
    with pytest.raises(FileExistsError, match="those of a run; .*pass resume=True"):
        train(unfinished, resume=False)
    (unfinished / "checkpoints" / "notes.txt").write_text("mine")
    (unfinished / "thesis.txt").write_text("mine")
    train(unfinished)
    assert os.listdir(unfinished / "checkpoints") == ["notes.txt"]
    assert (unfinished / "thesis.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="`resume` must be one of True, False, 'force'"):
        train(unfinished, resume="yes")
    with pytest.raises(ValueError, match="`save_freq` must be an integer >= 1"):
        train(unfinished, save_freq=0)


def test_two_runs_at_once_are_one_too_many_until_the_first_dies(tmp_path: Path) -> None:
    code = f"""
import fcntl, os, sys
with open({str(tmp_path / ".lock")!r}, "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print(os.getpid(), file=file, end="", flush=True)
    print("claimed", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as child:
        assert child.stdout.readline() == "claimed\n"
        with pytest.raises(BlockingIOError, match=rf"another run \(process {child.pid}\) is at wo"):
            train(tmp_path)
        child.kill()
        child.wait()
    with directory.claimed(tmp_path, True) as target:
        assert target == tmp_path
        with pytest.raises(BlockingIOError), directory.claimed(tmp_path, True):
            pass


def test_a_file_system_without_locks_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with (
        pytest.warns(UserWarning, match="cannot be locked: see that only one run uses it"),
        directory.claimed(tmp_path, True) as target,
    ):
        assert target == tmp_path


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """What a full disk does, at a chosen byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_is_noticed_before_the_first_epoch(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot take the checkpoints .*MiB are needed and .*free"):
        directory.reserve(tmp_path, 2**60)
    assert list(tmp_path.iterdir()) == []
    directory.reserve(tmp_path, 1000)
    assert list(tmp_path.iterdir()) == []
    with (
        largest_file(4000),
        pytest.raises(OSError, match="cannot take the checkpoints of this run: File too large"),
    ):
        train(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(tmp_path / "run")


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(OSError, match="/proc/nobody"):
        train(Path("/proc/nobody/run"))


def test_a_write_that_fails_anywhere_leaves_the_old_checkpoints_as_they_are(
    tmp_path: Path,
) -> None:
    for epoch in range(2):
        checkpoint.write(tmp_path, {"epoch": epoch, "weights": [np.arange(9.0)]})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    tree = {"weights": [np.arange(3000.0) + i for i in range(2)], "epoch": 7}
    # Of arrays.npz, 48,512 bytes; the least are too small for the JSON files as well.
    offsets = [0, 1, 50, 100, *np.linspace(300, 48_000, 16).astype(int).tolist()]
    said = "File too large.*; checkpoint-00000001 is what can be resumed"
    for offset in offsets:
        with largest_file(offset), pytest.raises(OSError, match=said):
            checkpoint.write(tmp_path, tree)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_a_write_that_fails_in_a_run_says_so_and_the_run_goes_on_later(unfinished: Path) -> None:
    class Shrink(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    Shrink.__name__ = "Stop"
    with (
        largest_file(2**30),
        pytest.raises(OSError, match="could not be written .*; checkpoint-00000000 is what"),
    ):
        train(unfinished, Shrink())
    assert len(train(unfinished).history["loss"]) == 2


def test_the_fingerprint_follows_names_sizes_and_labels_and_not_the_place(tmp_path: Path) -> None:
    def made(folder: str, size: int = SIZE) -> Any:
        for label in ("a", "b"):
            (tmp_path / folder / label).mkdir(parents=True)
            for i in range(3):
                image = np.full((size, SIZE, 3), 40 * i + ord(label), np.uint8)
                keras.utils.save_img(tmp_path / folder / label / f"{i}.png", image, scale=False)
        return tl.data.from_directory(tmp_path / folder, val=0.0)

    def prints(data: tl.data.ImageData) -> str:
        return started.record({}, data)["data"]["train"]

    here, there = made("here"), made("there")
    assert prints(here) == prints(there)
    assert started.record({}, here)["folder"] == str(tmp_path / "here")
    assert prints(made("larger", 2 * SIZE)) != prints(here)
    (tmp_path / "there" / "a" / "0.png").rename(tmp_path / "there" / "a" / "9.png")
    assert prints(tl.data.from_directory(tmp_path / "there", val=0.0)) != prints(here)


def test_a_function_in_a_pipeline_does_not_change_from_process_to_process() -> None:
    data = tl.data.from_arrays(*images())
    noted = [started.record({"augment": repr(lambda x: x)}, data) for _ in range(2)]
    assert started.changes(*noted) == []
