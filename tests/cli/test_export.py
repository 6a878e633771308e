"""`tltoolkit export`, and the commands that take what it wrote."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import said

import tltoolkit as tl

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")


def test_a_run_is_exported_and_compared_on_the_images_that_it_held_out(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.onnx"
    told = json.loads(said(["export", trained, file, "--data", photos, "--json"], capsys))
    assert told["format"] == "tltoolkit.export/1"
    val = tl.data.from_directory(photos, val=0.3, seed=3).val
    report = tl.evaluate(tl.load(trained), val)
    found = told["export"]
    assert (found["format"], found["images"]) == ("onnx", len(val))
    assert found["accuracy"] == [report.accuracy, report.accuracy]
    np.testing.assert_allclose(found["log_loss"], report.log_loss, atol=1e-4)
    # The same answers, and a score of them.
    rows = [said(["predict", one, photos / "c1", "--json"], capsys) for one in (trained, file)]
    rows = [[json.loads(line) for line in text.splitlines()] for text in rows]
    assert len(rows[0]) == 30
    for row, other in zip(*rows, strict=True):
        assert (row["image"], row["label"]) == (other["image"], other["label"])
        assert row["probability"] == pytest.approx(other["probability"], abs=1e-4)
    words = [photos, "--split", "all", "--json"]
    scores = [json.loads(said(["evaluate", one, *words], capsys)) for one in (trained, file)]
    assert scores[0]["scalars"]["accuracy"] == scores[1]["scalars"]["accuracy"]
    assert scores[0]["rows"] == scores[1]["rows"] == 60


def test_evaluate_needs_no_tensorflow_for_a_file(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(["export", trained, tmp_path / "x.onnx"], capsys)
    assert "16 made-up images" in text
    words = ["evaluate", str(tmp_path / "x.onnx"), str(photos), "--split", "all", "-v"]
    code = f"""
import sys
from tltoolkit.cli import main
assert main({words!r}) == 0
print({{"tensorflow", "keras"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


REFUSED = [
    (["RUN", "OUT.txt"], "OUT must be a name that ends in .tflite for --format litert"),
    (["RUN", "OUT.onnx", "--format", "litert"], "OUT must be a name that ends in .tflite"),
    (["RUN", "OUT.onnx", "--quantize", "int8", "--data", "PHOTOS"], "--quantize must be one of"),
    (["RUN", "OUT.tflite", "--quantize", "int8"], "--quantize int8 needs --data DIR"),
    (["RUN", "OUT.onnx", "--format", "pytorch"], "argument --format: invalid choice: 'pytorch'"),
    (["nowhere", "OUT.onnx"], "no saved classifier in"),
    (["RUN", "no/OUT.onnx"], "the folder no does not exist"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[" ".join(w) for w, _ in REFUSED])
def test_wrong_usage_is_one_line(
    words: list[str],
    message: str,
    trained: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [{"RUN": str(trained), "PHOTOS": str(photos)}.get(word, word) for word in words]
    text = said(["export", *given], capsys, 2)
    assert message in text
    assert text.count("\n") == 1
    assert not [one for one in tmp_path.iterdir() if one.name != "cache"]


def test_what_is_there_stays_and_strict_fails(
    trained: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.onnx").write_text("mine")
    text = said(["export", trained, tmp_path / "x.onnx"], capsys, 2)
    assert "x.onnx: File exists; name a new file" in text
    assert (tmp_path / "x.onnx").read_text() == "mine"
    monkeypatch.setattr("tltoolkit.deploy.checking.DIFFERENCES", {None: -1.0})
    text = said(["export", trained, tmp_path / "y.onnx", "--strict"], capsys, 1)
    assert "is not written: probabilities differ" in text
    assert not (tmp_path / "y.onnx").exists()


def test_benchmark_reports_on_unseen_images_with_a_chart(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, report = tmp_path / "x.onnx", tmp_path / "report"
    said(["export", trained, file], capsys)
    words = ["benchmark", trained, file, "--data", photos, "--repeats", 1, "--report", report]
    told = json.loads(said([*words, "--json"], capsys))
    val = tl.data.from_directory(photos, val=0.3, seed=3).val
    accuracy = tl.evaluate(tl.load(trained), val).accuracy
    # The run kept no test images: those that it validated on are the least seen.
    assert [row["accuracy"] for row in told["rows"]] == [accuracy, accuracy]
    assert told["images"] == len(val)
    page = (report / "report.html").read_text()
    costs = json.loads(page.split('id="data">')[1].split("</script>")[0])["costs"]
    assert [row["name"] for row in costs["rows"]] == ["run", "x.onnx"]
    assert said(["benchmark", file, "--report", report], capsys, 2).startswith(
        "tltoolkit: error: --report needs --data"
    )
