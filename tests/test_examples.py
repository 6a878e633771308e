"""The examples do what their first lines promise. The only tests that train a real backbone."""

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import tltoolkit as tl

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs an example in `tmp_path` and returns what it prints.

    In this process: a child would spend most of its time on loading TensorFlow.
    """

    def run(name: str, *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def figure(output: str, name: str) -> float:
    found = re.search(rf"^{name} +([0-9.]+)", output, re.MULTILINE)
    assert found, output
    return float(found[1])


@pytest.mark.slow
def test_the_quick_start_reads_digits(tmp_path: Path) -> None:
    # By itself, as in the README.
    command = [sys.executable, str(EXAMPLES / "01_quickstart.py"), "--run-dir", "run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    output = done.stdout
    assert figure(output, "Accuracy") > 0.98
    right = re.findall(r"^true (\d): predicted (\d)", output, re.MULTILINE)
    assert len(right) == 5
    assert sum(true == said for true, said in right) >= 4
    assert tl.load(tmp_path / "run").class_names == tuple("0123456789")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    images, labels = load_digits(n_class=2, return_X_y=True)
    for i, (image, label) in enumerate(zip(images[:60], labels[:60], strict=True)):
        (root / str(label)).mkdir(exist_ok=True)
        pixels = np.repeat(image.reshape(8, 8, 1) * 15, 3, axis=2).astype(np.uint8)
        keras.utils.save_img(root / str(label) / f"{i}.png", pixels, scale=False)
    return root


@pytest.mark.slow
def test_a_folder_of_ones_own(run: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    output = run(
        "02_fine_tune_folder.py", folder, "--plan", "linear_probe", "--image-size", 64,
        "--augment", "none", "--run-dir", "run",
    )  # fmt: skip
    assert figure(output, "Accuracy") > 0.8
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert made >= {"manifest.json", "run.json", "report.json", "report.html"}


@pytest.mark.slow
def test_methods_against_imbalance_side_by_side(run: Callable[..., str]) -> None:
    output = run(
        "03_imbalanced.py", "--seeds", 1, "--epochs", 10, "--methods", "none", "logit", "smote"
    )
    assert figure(output, "logit") > figure(output, "none")
    assert figure(output, "smote") > 0.5


@pytest.mark.slow
def test_rates_curves_and_searches(run: Callable[..., str], tmp_path: Path) -> None:
    output = run("06_tune.py", "--images", 500, "--trials", 2, "--storage", "trials.db")
    assert "use a learning rate of about" in output
    assert "twice the images" in output
    assert "2 trials: " in output
    assert "no validation figure is left" in output
    assert figure(output, "test accuracy") > 0.85  # of a quarter of the digits
    assert (tmp_path / "trials.db").is_file()


@pytest.mark.slow
def test_a_family_is_climbed_on_a_folder(run: Callable[..., str], folder: Path) -> None:
    output = run(
        "07_climb_family.py", "--data", folder, "--plan", "linear_probe", "--image-size", 32
    )
    rows = re.findall(r"^(efficientnet_lite\d) +([0-9. MiB]+)$", output, re.MULTILINE)
    assert [name for name, _ in rows] == [f"efficientnet_lite{i}" for i in range(len(rows))]
    assert len(rows) >= 2
    accuracy, seconds, size, _, milliseconds = rows[0][1].split()
    assert float(accuracy) > 0.8
    assert float(seconds) > 0 < float(milliseconds)
    # 3,413,024 weights and the head's 2,562, of four bytes.
    assert float(size) == pytest.approx(3_415_586 * 4 / 2**20, abs=0.05)
    assert "is the best" in output


def test_the_folder_script_names_what_it_does_not_know(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "02_fine_tune_folder.py"), "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "`root` must be a folder that exists" in done.stderr.splitlines()[-1]
