"""Strangers on the command line and over HTTP: rows, limits, and what is refused early."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from fastapi.testclient import TestClient

import tltoolkit as tl
from tltoolkit.cli import main
from tltoolkit.deploy import serving
from tltoolkit.deploy.service import application

pytestmark = pytest.mark.usefixtures("eagerly", "stump")

SMALL = ["--weights", "none", "--image-size", "32", "--trunk", "stem", "--plan", "solve", "-q"]


def ran(words: list[Any], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(map(str, words))) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err.removeprefix("tltoolkit: error: ").rstrip("\n")


@pytest.fixture(scope="module")
def fitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("fitted") / "run"
    assert main(["fit", str(photos), "--val", "0.4", *SMALL, "--run-dir", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def unknowing(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unknowing") / "run"
    left_out = ["--no-familiarity", "--no-statistics", "--run-dir", str(run)]
    assert main(["fit", str(photos), "--val", "0.4", *SMALL, *left_out]) == 0
    return run


@pytest.fixture(scope="module")
def pictures(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One that is known, a stranger, and none."""
    folder = tmp_path_factory.mktemp("new")
    stripes = np.zeros((16, 16, 3))
    stripes[::4] = 255
    keras.utils.save_img(folder / "stranger.png", stripes, scale=False)
    (folder / "bad.png").write_text("no image")
    return [photos / "c0" / "1.png", folder / "stranger.png", folder / "bad.png"]


def test_rows_say_how_familiar_images_are(
    fitted: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    known, stranger = pictures[:2]
    words = ["predict", fitted, known, stranger, "--min-familiarity", "0.001"]
    expected = tl.load(fitted).predict([known, stranger])
    rows = [json.loads(line) for line in ran([*words, "--json"], capsys).splitlines()]
    for row, one in zip(rows, expected, strict=True):
        assert row["familiarity"] == pytest.approx(one.familiarity, rel=1e-3, abs=1e-9)
    assert [row["abstained"] for row in rows] == [False, True]
    table = [*csv.DictReader(io.StringIO(ran([*words, "--probabilities"], capsys)))]
    assert [row["abstained"] for row in table] == ["0", "1"]
    assert float(table[0]["familiarity"]) == pytest.approx(expected[0].familiarity, rel=1e-3)
    target = tmp_path / "new.csv"
    assert main(["predict", *map(str, [fitted, *pictures, "--output", target])]) == 3
    last = [*csv.reader(target.open())][-1]
    assert last[:4] == [str(pictures[2]), "", "", ""]
    assert last[5] == ""


def test_other_classifiers_have_the_rows_that_they_had(
    unknowing: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = ran(["predict", unknowing, *pictures[:2]], capsys)
    assert out.splitlines()[0] == "image,label,probability,abstained,error"
    assert "familiarity" not in ran(["predict", unknowing, pictures[0], "--json"], capsys)
    assert {path.suffix for path in unknowing.iterdir()} >= {".h5"}
    assert not (unknowing / "familiarity.h5").exists()
    assert not (unknowing / "statistics.h5").exists()


@pytest.mark.parametrize("command", ["predict", "serve"])
def test_what_is_not_known_is_refused_before_any_image_is_read(
    command: str, unknowing: Path, fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, unknowing, *(["gone.png"] if command == "predict" else ["--port", "0"])]
    message = ran([*words, "--min-familiarity", "0.01"], capsys, 2)
    assert message.startswith("--min-familiarity must be None for a classifier that does not know")
    out_of_range = [command, fitted, *words[2:], "--min-familiarity", "1.5"]
    assert main(list(map(str, out_of_range))) == 2
    assert "--min-familiarity: must be a finite number >= 0 and <= 1" in capsys.readouterr().err


def test_a_finished_run_does_not_ignore_what_it_lacks(
    unknowing: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit", photos, "--val", "0.4", *SMALL, "--run-dir", unknowing]
    for name in ("familiarity", "statistics"):
        message = ran([*words, f"--{name}"], capsys, 2)
        assert message.startswith(f"--{name} must be None or False for a finished run without")


def test_a_service_abstains_of_strangers(fitted: Path, pictures: list[Path]) -> None:
    predictor = tl.load(fitted)
    contents = [path.read_bytes() for path in pictures[:2]]
    form = [("image", (f"{i}.png", content)) for i, content in enumerate(contents)]
    for limit, abstained in ((None, [False, False]), (0.001, [False, True])):
        with TestClient(application(predictor, min_familiarity=limit)) as client:
            rows = client.post("/predict", files=form).json()["predictions"]
        assert [row["abstained"] for row in rows] == abstained
        assert rows[0]["familiarity"] > 0.001 > rows[1]["familiarity"]
    with pytest.raises(ValueError, match="`min_familiarity` must be a finite number"):
        application(predictor, min_familiarity=2.0)


def test_the_command_hands_it_to_the_service(
    fitted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(serving, "run", lambda *args, **kwargs: given.update(kwargs))
    ran(["serve", fitted, "--port", "0", "--min-familiarity", "0.05"], capsys)
    assert given == {"min_familiarity": 0.05}
