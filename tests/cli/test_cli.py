"""The command line, mostly in this process; exit codes and the time of --help in a process."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score

import tltoolkit as tl
from tltoolkit.cli import main, options, program, record
from tltoolkit.evaluation import Decision
from tltoolkit.plans import ready
from tltoolkit.runs.estimate import Estimate, StageEstimate

pytestmark = pytest.mark.usefixtures("eagerly", "stump", "few_draws")

SMALL = ["--weights", "none", "--image-size", "32", "--trunk", "block1"]
PLAN = """\
stages:
- {name: head, epochs: 2, learning_rate: 0.01}
"""


def folder(root: Path, count: int = 12, classes: int = 2) -> Path:
    """Noise, the brighter the higher its class."""
    rng = np.random.default_rng(0)
    for c in range(classes):
        (root / f"c{c}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 100, (40, 40, 3)) + 70 * c
            keras.utils.save_img(root / f"c{c}" / f"{i}.png", pixels, scale=False)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The photos, the plan's file and the run."""
    top = tmp_path_factory.mktemp("cli")
    photos = folder(top / "photos")
    (top / "plan.yaml").write_text(PLAN)
    assert main(fit(photos, top / "plan.yaml", top / "run")) == 0
    return photos, top / "plan.yaml", top / "run"


def fit(photos: Path, plan: Path | str, run: Path, *more: str) -> list[str]:
    words = ["fit", photos, *SMALL, "--plan", plan, "--augment", "none", "--test", 0.2]
    return [*map(str, [*words, "--run-dir", run]), *more]


def error_of(words: list[Any], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """The one line that a failing command leaves."""
    capsys.readouterr()
    assert main(list(map(str, words))) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tltoolkit: error: ")
    assert "Traceback" not in said.err
    return said.err.removeprefix("tltoolkit: error: ").rstrip("\n")


def test_fit_writes_a_run_that_loads_and_can_be_evaluated(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, _, run = trained
    record = json.loads((run / "command.json").read_text())
    assert record["settings"]["plan"] == PLAN
    assert record["settings"]["data"] == str(photos)
    words = ["evaluate", str(run), str(photos)]
    assert main([*words, "--json", "--report", str(tmp_path / "r")]) == 0
    told = json.loads(capsys.readouterr().out)
    # The test images are those that the run held out.
    data = tl.data.from_directory(photos, test=0.2)
    report = tl.evaluate(tl.load(run), data.test)
    counts = {name: len(split) for name, split in data.splits.items()}
    assert told["rows"] == counts["test"]
    assert told.pop("images") == {
        "split": "unseen",
        "scored": {"test": counts["test"]},
        "left_out": {"val": counts["val"], "train": counts["train"]},
    }
    assert told == json.loads(json.dumps(report.to_dict()))
    assert (tmp_path / "r" / "report.html").is_file()
    assert main([*words, "--split", "all"]) == 0
    data = tl.data.from_directory(photos, val=0)
    assert capsys.readouterr().out == f"{tl.evaluate(tl.load(run), data.train)}\n"


def test_evaluate_scores_the_answers_that_predict_gives(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, _, run = trained
    # Every image is taken for one class until a threshold tells the two apart.
    model, data = tl.load(run).model, tl.data.from_directory(photos, val=0)
    raw = tl.evaluate(model, data.train)
    decision = Decision(thresholds=raw.tune_thresholds("f1"))
    words = [tl.save(model, tmp_path / "m", decision=decision)]
    assert main(["predict", *map(str, words), str(photos), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    truth = [Path(row["image"]).parent.name for row in rows]
    expected = accuracy_score(truth, [row["label"] for row in rows])
    assert expected != raw.accuracy
    words = ["evaluate", *map(str, words), str(photos), "--split", "all"]
    assert main([*words, "--json", "--report", str(tmp_path / "r")]) == 0
    told = json.loads(capsys.readouterr().out)
    splits = tl.data.from_directory(photos, test=0.2).splits
    assert told.pop("images") == {
        "split": "all",
        "scored": {name: len(split) for name, split in splits.items()},
        "left_out": {},
    }
    assert told["scalars"]["accuracy"] == expected
    assert told["raw"]["scalars"]["accuracy"] == raw.accuracy
    assert told["decision"] == json.loads(json.dumps(decision.to_dict()))
    assert json.loads((tmp_path / "r" / "report.json").read_text()) == told
    assert main(words) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^Accuracy +{expected:.4f} +{raw.accuracy:.4f}", said, re.MULTILINE)
    assert "Decided by thresholds (c0 " in said


def test_the_same_command_again_trains_nothing(
    trained: tuple, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, plan, run = trained
    before = (run / "model.weights.h5").stat().st_mtime_ns
    assert main(fit(photos, plan, run, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run_dir"] == str(run)
    assert 0 <= told["scores"]["val_f1_macro"] <= 1
    assert (run / "model.weights.h5").stat().st_mtime_ns == before
    changed = error_of(fit(photos, plan, run, "--batch-size", "7"), capsys)
    assert "batch_size was 32 and is 7" in changed


def test_from_repeats_a_run_to_the_bit_even_when_its_data_moved(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _, _, run = trained
    assert main(["fit", "--from", str(run), "--run-dir", str(tmp_path / "again")]) == 0
    old, new = tl.load(run).model, tl.load(tmp_path / "again").model
    for before, after in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    moved = folder(tmp_path / "moved")
    (moved / "c0" / "more.png").write_bytes((moved / "c0" / "0.png").read_bytes())
    words = ["fit", moved, "--from", run, "--run-dir", tmp_path / "x"]
    assert "are not those that" in error_of(words, capsys)
    assert not (tmp_path / "x").exists()
    assert "does not exist" in error_of(["fit", "--from", tmp_path, "--run-dir", "x"], capsys)


def test_a_yaml_file_stands_for_flags_and_flags_for_it(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, plan, _ = trained
    given = {"data": str(photos), "weights": "none", "image_size": 32, "plan": str(plan)}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**given, "seed": 3, "resume": False}))
    args = program.parse(["fit", "--settings", str(tmp_path / "s.yaml"), "--seed", "4"])
    assert (args.seed, args.image_size, args.resume, args.val) == (4, 32, False, 0.2)
    assert args.data == str(photos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 3", "unknown settings: batchsize; known: "),
        ("force: true", "unknown settings: force"),
        ("batch_size: [3]", "`batch_size` must be one text or number, not a list"),
        ("batch_size: many", "argument --batch-size: invalid int value: 'many'"),
        ("resume: 1", "`resume` must be true or false, not a int"),
        ("[1, 2]", "must hold settings"),
        ("seed: !!python/object/apply:os.getcwd []", "must be plain YAML"),
        ("a: &a [1]\nb: *a", "without references"),
    ],
)
def test_bad_settings_are_named(
    text: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert message in error_of(["fit", "--settings", tmp_path / "s.yaml"], capsys)


def test_a_dry_run_tells_and_writes_nothing(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, _, _ = trained
    words = fit(photos, "fine_tune", tmp_path / "never", "--epochs", "4", "--dry-run")
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    # Digests of the images are remembered, in the user's cache folder.
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    names = ("c0", "c1")
    model = tl.build_classifier(class_names=names, weights=None, image_size=32, trunk="block1")
    head, rest = told["stages"]
    assert told["parameters"] == model.count_params()
    assert head["trains"] == 16 * 2 + 2
    tl.freeze(model, "all")
    assert rest["trains"] == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    splits = tl.data.from_directory(photos, test=0.2).splits
    assert told["counts"] == {name: split.class_counts.tolist() for name, split in splits.items()}
    assert told["plan"]["stages"][1]["epochs"] == 4
    assert told["seconds"] == pytest.approx(head["seconds"] + rest["seconds"])
    assert 0 < head["seconds"] < 60
    assert 0.1 < head["gib"] < 16


def test_an_estimate_prints_as_a_table() -> None:
    plan = ready.linear_probe()
    one = StageEstimate(stage=plan.stages[0], trains=2562, views=1, seconds=3725.2, gib=1.25)
    found = Estimate(
        plan=plan,
        parameters=3_000_000,
        counts={"train": (8, 9), "val": (2, 2)},
        class_names=("c0", "c1"),
        stages=(one, one),
    )
    lines = str(found).splitlines()
    assert [line.split() for line in lines[3:6]] == [
        ["images", "train", "val"],
        ["c0", "8", "2"],
        ["c1", "9", "2"],
    ]
    assert lines[8].split() == ["probe", "2,562", "1", "1:02:05", "1.2", "GiB"]
    assert lines[10].split() == ["in", "all", "of", "3,000,000", "2:04:10", "1.2", "GiB"]


def test_predict_writes_a_row_for_each_image_and_goes_on_after_a_bad_one(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, _, run = trained
    odd = folder(tmp_path / "in", 2, 1) / "c0" / "line\nbreak.png"
    (tmp_path / "in" / "c0" / "0.png").rename(odd)
    bad = tmp_path / "in" / "=cmd.jpg"
    bad.write_text("<html>")
    words = [run, tmp_path / "in", photos / "c1" / "0.png", photos / "c1" / "[12].png", "gone.png"]
    assert main(["predict", *map(str, words), "--json", "--batch-size", "2"]) == 3
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    named = sorted([str(bad), str(tmp_path / "in" / "c0" / "1.png"), str(odd)])
    glob = [str(photos / "c1" / f"{i}.png") for i in (1, 2)]
    assert [row["image"] for row in rows] == [*named, str(words[2]), *glob, "gone.png"]
    assert [row["image"] for row in rows if "error" in row] == [str(bad), "gone.png"]
    assert said.err == "tltoolkit: 2 of 7 images could not be read\n"
    good = [row for row in rows if "error" not in row]
    expected = tl.load(run).predict([row["image"] for row in good])
    for row, prediction in zip(good, expected, strict=True):
        assert row["label"] == prediction.label
        assert row["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-6)


def test_predict_writes_csv_that_no_name_can_break(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    photos, _, run = trained
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", 'a"b,c.png', "new\nline.png"]
    for name in names:
        Path(name).write_bytes((photos / "c0" / "0.png").read_bytes())
    words = ["predict", str(run), *names, "--output", "out.csv", "--probabilities"]
    assert main(words) == 0
    assert capsys.readouterr().out == ""
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["'=1+1.png", *names[1:]]
    expected = tl.load(run).predict(names[:1])[0]
    assert rows[0]["label"] == expected.label
    assert float(rows[0]["probability of c1"]) == pytest.approx(expected.probabilities["c1"], 1e-4)
    assert "out.csv: File exists" in error_of(words, capsys)
    assert "no files in *.jpg" in error_of(["predict", run, "*.jpg"], capsys)
    assert "is a remote name" in error_of(["predict", run, "s3://x/a.png"], capsys)


def test_audit_and_backbones(trained: tuple, capsys: pytest.CaptureFixture[str]) -> None:
    photos, _, _ = trained
    audit = tl.data.from_directory(photos).audit()
    assert main(["audit", str(photos)]) == 0
    assert capsys.readouterr().out == f"{audit}\n"
    assert main(["audit", str(photos), "--json", "--strict"]) == 3  # tiny classes
    told = json.loads(capsys.readouterr().out)
    assert [p["kind"] for p in told["problems"]] == [p.kind for p in audit.problems]
    assert main(["backbones", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["backbones"]
    assert [row["name"] for row in rows] == list(tl.backbones.names())
    assert main(["backbones"]) == 0
    # A line for each, one above and one below.
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 2


def test_a_backbone_is_chosen_on_the_images_once_for_a_run(
    trained: tuple, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, plan, run = trained
    asked: list[Any] = []

    def choose(data: tl.data.ImageData, **how: Any) -> Any:
        asked.append((len(data.train), how["budget"], how["image_size"]))
        return SimpleNamespace(backbone="vgg16")

    def build(args: Any, data: Any, dry: bool) -> Any:
        raise ValueError(f"built {args.backbone}")

    # Where the command looks it up, whether or not the room has it already.
    monkeypatch.setattr(tl.tune, "choose_backbone", choose)
    monkeypatch.setattr(options, "build_model", build)
    words = ["fit", photos, "-q", "--backbone", "auto", "--image-size", "64", "--run-dir"]
    assert "built vgg16" in error_of([*words, run.parent / "new"], capsys)
    assert "built vgg16" in error_of([*words, run.parent / "new", "--budget", "2m"], capsys)
    assert [budget for _, budget, _ in asked] == [120, 30]
    assert asked[0][::2] == (len(tl.data.from_directory(photos).train), 64)
    # A run that is there has its backbone.
    assert "built efficientnet_lite0" in error_of([*words, run, "--plan", plan], capsys)
    assert len(asked) == 2
    hub = ["fit", photos, "--backbone", "hub:vit", "--run-dir", run.parent / "new"]
    assert "presets are for tl.build_classifier in Python" in error_of(hub, capsys)
    for wrong in (["--trunk", "block1"], ["--weights", "none"], ["--dry-run"]):
        said = f"{wrong[0]} must be left out with --backbone auto"
        assert said in error_of([*words, run.parent / "new", *wrong], capsys)


def test_wrong_input_is_one_line_and_exit_code_2(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, _, run = trained
    lines = {
        "invalid choice: 'fot'": ["fot"],
        "unrecognized arguments: --epoch=3": ["fit", photos, "--epoch=3"],
        "DIR is missing": ["fit"],
        "--run-dir is missing": ["fit", photos],
        "DIR must be a folder that exists": ["fit", "nowhere", "--run-dir", tmp_path / "x"],
        "--backbone must be one of": [
            "fit",
            photos,
            "--backbone",
            "x",
            "--run-dir",
            tmp_path / "x",
        ],
        "--plan must be one of": fit(photos, "slow", tmp_path / "x"),
        "--epochs says nothing to the plan 'auto'": fit(
            photos, "auto", tmp_path / "x", "--epochs", "3"
        ),
        "plan.yml does not exist": fit(photos, "plan.yml", tmp_path / "x"),
        "--val must be a finite number": ["audit", photos, "--val", 3],
        "no saved classifier in": ["predict", tmp_path, "a.png"],
        "--test 0 is not what": ["evaluate", run, photos, "--test", 0],
        "invalid choice: 'some'": ["evaluate", run, photos, "--split", "some"],
    }
    for message, words in lines.items():
        said = error_of(words, capsys)
        assert message in said
        assert "\n" not in said


def test_the_record_is_that_of_the_run_that_began(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for seed in (1, 2):
        with record.noted(str(run), True, {"seed": seed}, "x"):
            assert record.read(str(run))["settings"] == {"seed": seed}
            if seed == 2:
                (run / "started.json").write_text("{}")
    with record.noted(str(run), True, {"seed": 3}, "x"):
        pass
    assert record.read(str(run))["settings"] == {"seed": 2}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError), record.noted(str(tmp_path / "file"), True, {}, "x"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "nowhere", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_is_1_and_an_interruption_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code in ((FloatingPointError("NaN"), 1), (OSError(28, "full"), 1)):

        def fail(args: Any, out: Any, error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(program.backbones, "run", fail)
        error_of(["backbones"], capsys, code)

    def leave(args: Any, out: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(program.backbones, "run", leave)
    assert main(["backbones"]) == 130
    monkeypatch.setattr(program.backbones, "run", lambda args, out: sys.exit(143))
    assert main(["backbones"]) == 143


def test_warnings_and_what_libraries_print_stay_off_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import warnings

    def run(args: Any, out: Any) -> int:
        print("Epoch 1/3")
        warnings.warn("left out: 3 images", stacklevel=2)
        print("result", file=out)
        return 0

    monkeypatch.setattr(program.backbones, "run", run)
    assert main(["backbones"]) == 0
    said = capsys.readouterr()
    assert said.out == "result\n"
    assert said.err == "Epoch 1/3\ntltoolkit: warning: left out: 3 images\n"


def test_the_help_names_every_plan_preset_and_method() -> None:
    from tltoolkit.augment import PRESETS
    from tltoolkit.imbalance import METHODS

    text = " ".join(program.parsers()[1]["fit"].format_help().split())
    for name in ("auto", *ready.PLANS, *PRESETS, *METHODS):
        assert name in text


def test_questions_before_training(
    trained: tuple, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photos, _, _ = trained
    small = [str(photos), *SMALL]
    figure = tmp_path / "curve.png"
    ladder = ["--mode", "ladder", "--steps", "4"]
    assert main(["lr-find", *small, *ladder, "--plot", str(figure), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"format", "suggestion", "suggestions", "advice"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    quick = ["--samples", "4", "--steps", "10", "--unfreeze", "head"]
    assert main(["capacity", *small, *quick]) == 0
    assert capsys.readouterr().out.split(":")[0] in ("fine", "too small", "bug")
    assert main(["learning-curve", *small, "--sizes", "4,8,16", "--json"]) == 0
    assert [p["size"] for p in json.loads(capsys.readouterr().out)["points"]] == [4, 8, 16]
    space = tmp_path / "space.yaml"
    rate = "{low: 0.001, high: 0.1, log: true}"
    space.write_text(f"{{learning_rate: {rate}, image_size: 32, trunk: block1, epochs: 1}}")
    plan = tmp_path / "best.yaml"
    search = ["search", str(photos), "--weights", "none", "--space", str(space), "--trials", "2"]
    search.append("--json")
    assert main([*search, "--write-plan", str(plan)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert tl.Plan.from_yaml(plan.read_text()).to_dict() == told["plan"]
    assert 0.001 <= told["settings"]["learning_rate"] <= 0.1
    space.write_text("learning_rate: {from: 1, to: 2}")
    assert "must have low, high and log" in error_of(search, capsys)


def process(*words: Any, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tltoolkit", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **options})


@pytest.mark.parametrize("words", [[], ["fit"], ["evaluate"], ["predict"], ["audit"]])
def test_help_loads_nothing_heavy_and_takes_no_time(words: list[str]) -> None:
    code = f"""
import sys, time
start = time.process_time()
from tltoolkit.cli import main
assert main({[*words, "--help"]!r}) == 0
seconds = time.process_time() - start
heavy = {{"tensorflow", "keras", "numpy", "PIL", "yaml"}} & set(sys.modules)
print(seconds < 0.3, sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True []", done.stdout + done.stderr


def test_a_process_says_one_line_and_its_exit_code(tmp_path: Path) -> None:
    child = process("audit", tmp_path / "gone")
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out) == (2, "")
    assert re.fullmatch(r"tltoolkit: error: DIR must be a folder that exists.*\n", err)


def test_a_signal_in_training_leaves_a_checkpoint_and_143(
    trained: tuple, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photos, _, _ = trained
    (tmp_path / "long.yaml").write_text(PLAN.replace("epochs: 2", "epochs: 100000"))
    run, over = tmp_path / "run", threading.Event()

    def pull() -> None:
        while not over.wait(0.1):
            if list(run.glob("checkpoints/*")):
                os.kill(os.getpid(), signal.SIGTERM)
                return

    # By default a signal that the command does not take would end the tests themselves.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    puller = threading.Thread(target=pull)
    puller.start()
    try:
        assert main(fit(photos, tmp_path / "long.yaml", run)) == 143
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        over.set()
        puller.join()
        signal.signal(signal.SIGTERM, before)
    said = capfd.readouterr()
    assert "a checkpoint follows this step" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert list(run.glob("checkpoints/*"))


def test_a_closed_pipe_is_no_error(trained: tuple) -> None:
    child = process("backbones", "--json")
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(60) in (0, 141)
    assert child.stderr is not None
    assert child.stderr.read() == ""
