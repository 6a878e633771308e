"""What the command line finds out before any work, and what it keeps when writing fails."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.cli import main, program, wording
from tltoolkit.files import reading
from tltoolkit.training import sweep

pytestmark = pytest.mark.usefixtures("eagerly", "stump", "few_draws")

SMALL = ["--weights", "none", "--image-size", "32", "--trunk", "stem"]
PLAN = "stages:\n- {name: head, epochs: 1, learning_rate: 1e-2}\n"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rungs of few steps: that a rate is told is enough here."""
    monkeypatch.setattr(sweep, "RUNG_STEPS", 2)


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    (run.parent / "plan.yaml").write_text(PLAN)
    words = ["fit", photos, *SMALL, "--plan", run.parent / "plan.yaml", "--augment", "none"]
    assert main([*map(str, words), "--run-dir", str(run)]) == 0
    return run


def error_of(words: list[Any], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    capsys.readouterr()
    assert main(list(map(str, words))) == code
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.removeprefix("tltoolkit: error: ").rstrip("\n")


REFUSED = [
    (["fit", "PHOTOS", "--epochs", "3"], "--epochs says nothing to the plan 'auto'"),
    (["fit", "PHOTOS", "--plan", "fine-tune"], "--plan must be one of 'auto', 'solve', 'linear_"),
    (["fit", "PHOTOS", "--plan", "linear_probe", "--epochs", "3"], "says nothing to the plan"),
    (["fit", "PHOTOS", "--plan", "none.yaml"], "none.yaml does not exist"),
    (["fit", "PHOTOS", "--plan", "PLAN"], "`epochs` must be an integer >= 1"),
    (["fit", "PHOTOS", "--plan", "fine_tune", "--learning-rate", "1"], "--learning-rate must be"),
    (["fit", "PHOTOS", "--augment", "much"], "--augment must be one of 'auto', 'none'"),
    (["fit", "PHOTOS", "--imbalance", "much"], "invalid choice: 'much' (choose from"),
    (["fit", "PHOTOS", "--backbone", "vgg"], "--backbone must be one of 'vgg16'"),
    (["fit", "PHOTOS", "--trunk", "block99"], "--trunk must be one of 'stem'"),
    (["fit", "PHOTOS", "--weights", "none.h5"], "none.h5 does not exist"),
    (["fit", "PHOTOS", "--batch-size", "0"], "argument --batch-size: must be an integer >= 1"),
    (["fit", "PHOTOS", "--save-freq", "often"], "--save-freq: must be an integer >= 1 or epoch"),
    (["fit", "PHOTOS", "--val", "2"], "--val must be a finite number"),
    (["fit", "PHOTOS", "--val", "0.6", "--test", "0.6"], "--val + --test must be less than 1"),
    (["fit", "nowhere"], "DIR must be a folder that exists"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[" ".join(w) for w, _ in REFUSED])
def test_fit_refuses_and_leaves_no_folder(
    words: list[str],
    message: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def late(*arguments: Any) -> None:
        raise AssertionError("TensorFlow would have been loaded")

    monkeypatch.setattr("tltoolkit.cli.options.toolkit", late)
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(PLAN.replace("epochs: 1", "epochs: 0"))
    given = [{"PHOTOS": str(photos), "PLAN": "bad.yaml"}.get(word, word) for word in words]
    assert message in error_of([*given, "--run-dir", "a/run"], capsys)
    assert os.listdir(tmp_path) == ["bad.yaml"]


def test_tensorflow_is_not_loaded_for_what_is_refused(photos: Path, tmp_path: Path) -> None:
    lines = [
        ["fit", str(photos), "--run-dir", "r", "--epochs", "3"],
        ["fit", str(photos), "--run-dir", "r", "--plan", "slow"],
        ["fit", "nowhere", "--run-dir", "r"],
        ["search", str(photos), "--space", "s", "--write-plan", "no/plan.yaml"],
        ["evaluate", "r", str(photos), "--report", "file"],
        ["lr-find", str(photos), "--plot", "x.jpg"],
        ["predict", "r", str(photos), "--output", "file"],
        ["embed", "r", str(photos), "--output", "file"],
        ["embed", "r", "nowhere", "--output", "x.csv"],
        ["export", "r", "file"],
        ["export", "r", "x.onnx", "--quantize", "int8", "--data", str(photos)],
        ["export", "r", "x.tflite", "--quantize", "int8"],
    ]
    (tmp_path / "file").write_text("mine")
    code = f"""
import sys
from tltoolkit.cli import main
print([main(words) for words in {lines!r}])
print({{"tensorflow", "keras"}} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == [str([2] * len(lines)), "set()"], done.stderr
    assert os.listdir(tmp_path) == ["file"]


OUTPUTS = [
    (["lr-find", "PHOTOS", *SMALL], "--plot", ".png"),
    (["capacity", "PHOTOS", *SMALL], "--plot", ".svg"),
    (["learning-curve", "PHOTOS", *SMALL], "--plot", ".pdf"),
    (["search", "PHOTOS", "--space", "space.yaml"], "--write-plan", ".yaml"),
    (["predict", "RUN", "PHOTOS"], "--output", ".csv"),
    (["embed", "RUN", "PHOTOS"], "--output", ".npz"),
    (["evaluate", "RUN", "PHOTOS"], "--report", ""),
    (["fit", "PHOTOS", *SMALL], "--run-dir", ""),
]


@pytest.mark.parametrize(("words", "flag", "suffix"), OUTPUTS, ids=[w[0] for w, *_ in OUTPUTS])
def test_every_output_is_checked_before_the_work(
    words: list[str],
    flag: str,
    suffix: str,
    photos: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def late(*arguments: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr("tltoolkit.cli.options.load_data", late)
    monkeypatch.setattr(tl, "load", late)
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text("epochs: 1\n")
    Path(f"mine{suffix}").write_text("mine")
    Path(f"link{suffix}").symlink_to("elsewhere")
    Path("file").write_text("mine")
    given = [{"PHOTOS": str(photos), "RUN": str(trained)}.get(word, word) for word in words]
    names = [f"mine{suffix}", f"link{suffix}", f"file/x{suffix}", f"/proc/x{suffix}"]
    if suffix:
        Path(f"folder{suffix}").mkdir()
        names += [f"folder{suffix}", f"none/x{suffix}"]
    for name in names:
        said = error_of([*given, flag, name], capsys)
        assert said.startswith(f"{flag}: "), said
    assert Path(f"mine{suffix}").read_text() == "mine"
    assert not Path("elsewhere").exists()
    if flag == "--plot":
        assert "--plot must end in .png, .pdf, .svg" in error_of([*given, flag, "x.bmp"], capsys)


@pytest.mark.usefixtures("short")
def test_a_result_is_printed_though_its_figure_cannot_be_drawn(
    photos: Path, trained: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    space = "{learning_rate: [1e-2, 1e-3], image_size: 32, trunk: stem, epochs: 1}"
    Path("space.yaml").write_text(space)
    search = ["search", photos, "--weights", "none", "--space", "space.yaml", "--trials", "1"]
    commands = {
        "suggestion": ["lr-find", photos, *SMALL, "--steps", "20", "--plot", "out/x.png"],
        "score": [*search, "--write-plan", "out/plan.yaml"],
        "rows": ["evaluate", trained, photos, "--split", "val", "--report", "out"],
    }
    for name, words in commands.items():
        assert main([*map(str, words), "--json"]) == 1
        said = capsys.readouterr()
        assert name in json.loads(said.out)
        assert said.err.rstrip().endswith("No space left on device")
    assert os.listdir("out") == []


@pytest.mark.usefixtures("short")
def test_every_json_has_a_format(
    photos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text(
        "{learning_rate: [1e-2, 1e-3], image_size: 32, trunk: stem}"
    )
    search = ["search", photos, "--weights", "none", "--space", tmp_path / "space.yaml"]
    commands = [
        ["backbones"],
        ["audit", photos],
        ["fit", photos, *SMALL, "--plan", "linear_probe", "--run-dir", tmp_path / "run"],
        ["fit", photos, *SMALL, "--plan", "linear_probe", "--dry-run"],
        ["evaluate", trained, photos, "--split", "val"],
        ["predict", trained, photos / "c0" / "0.png"],
        ["embed", trained, photos, "--output", tmp_path / "x.npz"],
        ["export", trained, tmp_path / "x.onnx"],
        ["benchmark", tmp_path / "x.onnx", "--repeats", "1"],
        ["lr-find", photos, *SMALL, "--steps", "20"],
        ["capacity", photos, *SMALL, "--steps", "10", "--samples", "4", "--unfreeze", "head"],
        ["learning-curve", photos, *SMALL, "--sizes", "4,8,12", "--repeats", "2"],
        [*search, "--trials", "1"],
    ]
    for words in commands:
        capsys.readouterr()
        assert main([*map(str, words), "--json"]) == 0
        name = {"evaluate": "report"}.get(words[0], words[0])
        assert json.loads(capsys.readouterr().out)["format"] == f"tltoolkit.{name}/1"
    # It ends when it is told to; its JSON is read in tests/deploy/test_serve_process.py.
    assert {words[0] for words in commands} | {"serve"} == set(program.COMMANDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "batch_size: null",
            "`batch_size` must be one text or number, not null; left out it is 32",
        ),
        ("resume: null", "`resume` must be true or false, not null; left out it is True"),
        ("imbalance: much", "`imbalance` must be one of auto, none,"),
        ("cache_dtype: int8", "`cache_dtype` must be one of float32, float16, not 'int8'"),
        ("seed: -1", "argument --seed: must be an integer >= 0 and <= 4294967295, not '-1'"),
    ],
)
def test_settings_that_are_null_or_unknown_are_named(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert message in error_of(["fit", "x", "--settings", tmp_path / "s.yaml"], capsys)


def test_null_and_exponents_in_settings_are_values(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("image_size: null\nlearning_rate: 1e-3\nval: 2.5E-1\n")
    args = program.parse(["fit", "x", "--settings", str(tmp_path / "s.yaml")])
    assert (args.image_size, args.learning_rate, args.val) == (None, 0.001, 0.25)


def test_yaml_reads_numbers_as_json_does_and_keeps_texts() -> None:
    for text in ("1e-3", "1E5", "-2.5e+3", "+.5e2", "1.e4"):
        assert reading.plain_yaml(f"a: {text}") == {"a": float(text)}
    for text in ("e3", "1e", "1e-3x", "1-e3", "0x1e3x", "v1e3"):
        assert reading.plain_yaml(f"a: {text}") == {"a": text}
    plan = tl.Plan((tl.Stage("1e-3", learning_rate=1e-7, clip_norm=None),))
    assert tl.Plan.from_yaml(plan.to_yaml()) == plan
    assert tl.Plan.from_yaml("stages: [{name: a, learning_rate: 1e-3}]").stages[0] == tl.Stage("a")


def test_errors_speak_of_flags() -> None:
    flags = wording.flags_of(program.parsers()[1]["fit"])
    said = {
        "`root` must be a folder. Received: root='x'": "DIR must be a folder. Received: 'x'",
        "`cache_gb` must be > 0. Received: cache_gb=-1": "--cache-gb must be > 0. Received: -1",
        "pass on_bad='skip' or val=0": "pass --on-bad skip or val=0",
        "none here (see `test=`)": "none here (see --test)",
        "`taps` must be None": "`taps` must be None",
    }
    for text, expected in said.items():
        assert wording.reworded(text, flags) == expected


def test_messages_of_the_library_that_reach_the_command_line_name_no_parameter(
    photos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keras.utils.save_img(tmp_path / "x.png", np.zeros((8, 8, 3)))
    for name in ("train/c0", "train/c1", "val/c0", "val/c1"):
        (tmp_path / "twice" / name).mkdir(parents=True)
        for i in range(3):
            keras.utils.save_img(
                tmp_path / "twice" / name / f"{i}.png",
                np.full((8, 8, 3), 9 * i + 60 * name.endswith("1")), scale=False,
            )  # fmt: skip
    (tmp_path / "bad" / "c0").mkdir(parents=True)
    lines = [
        ["fit", tmp_path / "twice", *SMALL, "--run-dir", tmp_path / "r", "--plan", "linear_probe"],
        ["capacity", photos, *SMALL, "--samples", "999"],
        ["lr-find", photos, *SMALL, "--steps", "2"],
        ["lr-find", photos, *SMALL, "--optimizer", "adamx"],
        ["lr-find", photos, "--weights", "none", "--image-size", "5"],
        ["learning-curve", photos, *SMALL, "--sizes", "1,2,3"],
        ["evaluate", trained, photos, "--split", "test", "--test", "0"],
        ["predict", trained, photos, "--views", "2", "--augment", "much"],
        ["audit", tmp_path / "bad"],
    ]
    for words in lines:
        said = error_of(words, capsys)
        own = "|".join(wording.flags_of(program.parsers()[1][words[0]]))
        import re

        assert not re.search(rf"`({own})`|Received: ({own})=", said), said
        assert "\n" not in said or words[0] == "fit"
