"""Files and links of the user's: never written through, never replaced, and no folder left over."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.callbacks import checkpoint
from tltoolkit.cli import main
from tltoolkit.evaluation import Report
from tltoolkit.files import claiming, writing

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 8
PLAN = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-2),))
KEYS = "ssh-ed25519 mine\n"


def build(own: bool = False) -> Any:
    keras.utils.set_random_seed(0)  # a run directory goes on only with the same start weights
    if own:
        return tl.build_classifier(
            class_names=("0", "1"), weights=None, image_size=32, trunk="stem"
        )
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, name="conv")(pixels))
    return keras.Model(pixels, keras.layers.Dense(2)(x))


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, SIZE, SIZE, 3)).astype(np.uint8), np.arange(12) % 2


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        raise InterruptedError


class Go(keras.callbacks.Callback):
    """Does nothing, by the same name in the record."""


Go.__name__ = "Stop"


def train(run_dir: Path, *, model: Any = None, stop: bool = False) -> Any:
    callbacks = [Stop() if stop else Go()]
    data = tl.data.from_arrays(*images())
    return tl.fine_tune(
        model or build(), data, PLAN, "none", run_dir=run_dir, callbacks=callbacks, verbose=0
    )


def keys(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text(KEYS)
    return tmp_path / "keys"


def report(n: int = 6) -> Report:
    return Report.from_predictions([0, 1] * (n // 2), np.full((n, 2), 0.5))


EARLY = (".lock", ".probe", "command.json", ".started.json.new", "started.json", "checkpoints")


@pytest.mark.parametrize("name", EARLY)
def test_a_link_in_a_new_directory_of_a_run_is_refused(name: str, tmp_path: Path) -> None:
    target = keys(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to("../keys")
    with pytest.raises((OSError, ValueError), match="link|holds files already"):
        train(tmp_path / "run")
    assert target.read_text() == KEYS
    assert os.listdir(tmp_path / "run") == [name]
    assert (tmp_path / "run" / name).readlink() == Path("../keys")


LATE = ("run.json", "model.keras", ".run.json.new", "checkpoints/.checkpoint-being-written")


@pytest.mark.parametrize("name", LATE)
def test_a_link_in_the_directory_of_a_run_under_way_stays(name: str, tmp_path: Path) -> None:
    target, run = keys(tmp_path), tmp_path / "run"
    with pytest.raises(InterruptedError):
        train(run, stop=True)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(target)
    if name in claiming.OURS:
        with pytest.raises(FileExistsError, match=f"{name} is a symbolic link"):
            train(run)
    assert target.read_text() == KEYS
    assert (run / name).is_symlink()


@pytest.mark.parametrize("name", [*claiming.OURS])
def test_a_file_of_the_users_among_those_of_a_run_is_refused_before_the_work(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "started.json").write_text(json.dumps({"format": 1}))
    (tmp_path / name).write_text(KEYS)
    if name == "started.json":
        with pytest.raises(ValueError, match="is not what a run notes at its start"):
            train(tmp_path)
    else:
        with pytest.raises((FileExistsError, ValueError), match="is not a file of|bytes; at most"):
            claiming.check(tmp_path, True)
    assert (tmp_path / name).read_text() == KEYS


def test_what_a_run_writes_is_known_as_its_own(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        train(tmp_path / "theirs", stop=True)
    train(tmp_path / "theirs")
    model = build(own=True)
    train(tmp_path / "ours", model=model)
    # A head in closed form leaves sums, and distances of its validation images.
    pixels, labels = (np.concatenate([part] * 4) for part in images())
    more = tl.data.from_arrays(pixels, labels, val=0.4, duplicates="allow")
    solved = tl.Plan((tl.Stage("head", optimizer="lda"),))
    given: dict[str, Any] = {"run_dir": tmp_path / "solved", "verbose": 0}
    tl.fine_tune(build(own=True), more, solved, "none", **given)
    runs = [tmp_path / name for name in ("theirs", "ours", "solved")]
    known = {path.name for run in runs for path in run.iterdir()}
    assert known == {*claiming.OURS} - {"command.json"}
    for run in runs:
        claiming.check(run, True)


def test_a_folder_with_a_command_json_of_the_users_is_refused(tmp_path: Path) -> None:
    mine = '{"format": 1, "name": "mine"}'
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "command.json").write_text(mine)
    with pytest.raises(FileExistsError, match="command.json exists and is not a file of tltoolkit"):
        train(tmp_path / "run")
    assert (tmp_path / "run" / "command.json").read_text() == mine
    assert os.listdir(tmp_path / "run") == ["command.json"]


def test_hard_links_and_pipes_in_place_of_the_lock(tmp_path: Path) -> None:
    target = keys(tmp_path)
    for name in ("linked", "pipe"):
        (tmp_path / name).mkdir()
    os.link(target, tmp_path / "linked" / ".lock")
    os.mkfifo(tmp_path / "pipe" / ".lock")
    for name in ("linked", "pipe"):
        with pytest.raises(FileExistsError, match="exists and is not a file of tltoolkit"):
            train(tmp_path / name)
    assert target.read_text() == KEYS


def test_a_run_in_a_linked_directory_is_what_the_user_asked_for(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    train(tmp_path / "run")
    assert (tmp_path / "disk" / "run.json").is_file()
    (tmp_path / "dead").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="is a link to nothing"):
        train(tmp_path / "dead")


@pytest.mark.parametrize("name", ["report.json", "report.html", "report.json.partial"])
def test_a_report_follows_no_link(name: str, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    target = keys(tmp_path)
    target.write_text(KEYS + '<!-- tltoolkit report page --> "format": "tltoolkit.report/1"')
    before = target.read_text()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(target)
    if name.endswith("partial"):
        report().save(tmp_path / "out")
    else:
        with pytest.raises(FileExistsError, match="is a symbolic link"):
            report().save(tmp_path / "out")
        assert os.listdir(tmp_path / "out") == [name]
    assert target.read_text() == before
    assert (tmp_path / "out" / name).is_symlink()


def test_a_report_replaces_reports_alone(tmp_path: Path) -> None:
    report().save(tmp_path, page=False)
    report(8).save(tmp_path, page=False)
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == 8
    assert os.listdir(tmp_path) == ["report.json"]
    (tmp_path / "report.json").write_text('{"about": "a text on tltoolkit.report/1"}')
    with pytest.raises(FileExistsError, match="is not a report"):
        report().save(tmp_path, page=False)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError, match="is a file; name a folder"):
        report().save(tmp_path / "file")


def test_a_saved_classifier_follows_no_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.weights.h5").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="holds files already"):
        tl.save(build(own=True), tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(ValueError, match="is a remote name"):
        tl.save(build(own=True), "s3://bucket/x")


def test_checkpoints_beside_links_and_folders_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "state.json").write_text(KEYS)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / ".checkpoint-being-written").symlink_to("../keys")
    (folder / "checkpoint-00000000").symlink_to("../keys")
    for epoch in range(4):
        checkpoint.write(folder, {"epoch": epoch})
    assert checkpoint.read_latest(folder) == {"epoch": 3}
    checkpoint.delete_all(folder)
    assert (tmp_path / "keys" / "state.json").read_text() == KEYS
    assert {p.name for p in folder.iterdir()} == {
        ".checkpoint-being-written",
        "checkpoint-00000000",
    }


def test_a_writer_that_fails_or_is_killed_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        writing.text(path, "half \udc80", lambda _: True)
    assert os.listdir(tmp_path) == ["a.json"]
    code = f"""
import os
from pathlib import Path
from tltoolkit.files import writing
with writing.replacing(Path({str(tmp_path / "run" / "run.json")!r}), lambda _: True) as beside:
    beside.write_text("half")
    os._exit(9)
"""
    (tmp_path / "run").mkdir()
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert len(os.listdir(tmp_path / "run")) == 1
    train(tmp_path / "run")
    assert not [p for p in (tmp_path / "run").iterdir() if writing.PARTIAL.fullmatch(p.name)]
    assert path.read_text() == "old"


def test_files_have_the_rights_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        writing.text(tmp_path / "a", "x")
        tl.save(build(own=True), tmp_path / "out")
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "a", *(tmp_path / "out").iterdir())} == {
        0o640
    }


@pytest.mark.parametrize("bad", [{"plan": "quick"}, {"batch_size": 0}, {"model": None}])
def test_a_refused_run_leaves_no_folder(bad: dict[str, Any], tmp_path: Path) -> None:
    given = {"model": build(), "data": tl.data.from_arrays(*images()), **bad}
    with pytest.raises((ValueError, TypeError)):
        tl.fine_tune(**given, run_dir=tmp_path / "a" / "run")
    assert os.listdir(tmp_path) == []


def test_a_run_that_ends_before_it_begins_leaves_no_folder(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for c in "ab":
        (photos / c).mkdir(parents=True)
        for i in range(4):
            keras.utils.save_img(photos / c / f"{i}.png", images()[0][i + 4 * (c == "b")])
    (photos / "a" / "bad.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"bad\.png"):
        tl.fine_tune(build(), tl.data.from_directory(photos), PLAN, run_dir=tmp_path / "x" / "run")
    assert os.listdir(tmp_path) == ["photos"]
    words = ["fit", str(photos), "--weights", "none", "--image-size", "32", "--trunk", "stem"]
    assert main([*words, "--run-dir", str(tmp_path / "y" / "run")]) == 2
    assert (
        main([*words, "--on-bad", "skip", "--save-freq", "0", "--run-dir", str(tmp_path / "z")])
        == 2
    )
    assert os.listdir(tmp_path) == ["photos"]


def test_a_study_is_no_database_of_another_program(tmp_path: Path) -> None:
    import sqlite3

    from tltoolkit.tune import study

    with sqlite3.connect(tmp_path / "own.db") as database:
        database.execute("create table passwords (word text)")
    database.close()
    before = (tmp_path / "own.db").read_bytes()
    with pytest.raises(ValueError, match="a new file or that of a search"):
        study.address_of(tmp_path / "own.db")
    assert (tmp_path / "own.db").read_bytes() == before
    (tmp_path / "link.db").symlink_to("elsewhere.db")
    with pytest.raises(ValueError, match="symbolic link"):
        study.address_of(tmp_path / "link.db")
    with zipfile.ZipFile(tmp_path / "zip.db", "w"):
        pass
    with pytest.raises(ValueError, match="a new file or that of a search"):
        study.address_of(tmp_path / "zip.db")
