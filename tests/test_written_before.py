"""What an earlier commit wrote is still read: a classifier, runs that are done, runs that go on."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.artifacts.artifact import versions

pytestmark = pytest.mark.usefixtures("eagerly")

WRITTEN = Path(__file__).parent / "written_before"
spec = importlib.util.spec_from_file_location("written_before_make", WRITTEN / "make.py")
assert spec is not None
assert spec.loader is not None
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
BUILDERS = {"built": make.built, "own": make.own}
CLOSE = 1e-4  # another processor rounds otherwise, and five epochs of training carry that on


def copied(name: str, tmp_path: Path) -> Path:
    """A run directory as if the libraries were still the versions of its day."""
    target = tmp_path / name
    shutil.copytree(WRITTEN / name, target)
    started = json.loads((target / "started.json").read_text())
    started["versions"] = versions()
    (target / "started.json").write_text(json.dumps(started))
    return target


def says(model: Any) -> np.ndarray:
    return np.asarray(model.predict(make.images()[0], verbose=0))


def test_a_classifier_answers_as_it_did() -> None:
    predictor = tl.load(WRITTEN / "artifact")
    said = predictor.predict(list(make.images()[0]))
    expected = np.load(WRITTEN / "artifact_says.npy")
    np.testing.assert_allclose(
        [list(one.probabilities.values()) for one in said], expected, atol=CLOSE
    )
    assert [one.abstained for one in said] == list(expected.max(1) < 0.4)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_finished_run_comes_back(name: str, tmp_path: Path) -> None:
    target = copied(f"{name}_finished", tmp_path)
    run = make.train(BUILDERS[name](WRITTEN / f"{name}.npz"), target)
    expected = np.load(WRITTEN / f"{name}_says.npy")
    np.testing.assert_allclose(says(run.model), expected, atol=CLOSE)
    assert [stage.epochs for stage in run.stages] == [2, 3]


@pytest.mark.parametrize("name", BUILDERS)
def test_an_interrupted_run_goes_on_and_ends_as_the_whole_one_did(
    name: str, tmp_path: Path
) -> None:
    target = copied(f"{name}_interrupted", tmp_path)
    stages = json.loads((WRITTEN / f"{name}_finished" / "run.json").read_text())["stages"]
    run = make.train(BUILDERS[name](WRITTEN / f"{name}.npz"), target)
    np.testing.assert_allclose(says(run.model), np.load(WRITTEN / f"{name}_says.npy"), atol=CLOSE)
    assert [stage.best_epoch for stage in run.stages] == [stage["best_epoch"] for stage in stages]
    if name == "built":
        assert tl.load(target).class_names == make.NAMES
