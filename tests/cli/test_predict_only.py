"""What requirements-predict.txt installs is enough for exported files."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import colours
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
# A process in which nothing but the distributions of the list can be imported.
ALONE = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuses())
from tltoolkit.cli import main

sys.exit(main(sys.argv[1:]))
"""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def listed() -> list[Requirement]:
    lines = (ROOT / "requirements-predict.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """Modules of all other distributions."""
    known, waiting = {"tltoolkit"}, [one.name for one in listed()]
    while waiting:
        name = plain(waiting.pop())
        if name in known:
            continue
        known.add(name)
        needed = map(Requirement, requires(name) or [])
        waiting += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    return [
        module
        for module, owners in packages_distributions().items()
        if not known & set(map(plain, owners))
    ]


def run(refused: list[str], *words: object, code: int = 0) -> str:
    script = ALONE.format(refused=set(refused))
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_commands_for_exported_files_need_no_more(refused: list[str], tmp_path: Path) -> None:
    assert {"tensorflow", "keras", "sklearn", "pandas", "albumentations", "h5py"} <= set(refused)
    file = colours.write(tmp_path / "x.onnx")
    shades = {"red": (200, 30, 30), "green": (30, 200, 30), colours.NAMES[2]: (20, 20, 190)}
    for i, (name, shade) in enumerate(shades.items()):
        folder = tmp_path / "photos" / name.replace("/", "")
        folder.mkdir(parents=True)
        (folder / f"{i}.png").write_bytes(colours.file(shade))
    said = run(refused, "predict", file, tmp_path / "photos", "--json").splitlines()
    assert {json.loads(line)["label"] for line in said} == set(colours.NAMES)
    scored = json.loads(
        run(refused, "evaluate", file, tmp_path / "photos", "--split", "all", "--json")
    )
    assert scored["scalars"]["accuracy"] == 1
    costs = json.loads(run(refused, "benchmark", file, "--repeats", 1, "--json"))
    assert costs["rows"][0]["format"] == "onnx"
    check = "from tltoolkit.deploy import serving; import sys; serving.listening(sys.argv[1])"
    script = ALONE.split("from tltoolkit.cli")[0].format(refused=set(refused)) + check
    subprocess.run([sys.executable, "-c", script, str(file)], check=True)


def test_a_run_says_what_is_missing(refused: list[str], tmp_path: Path) -> None:
    said = run(refused, "predict", tmp_path, "x.jpg", code=2)
    assert said == (
        "tltoolkit: error: this needs TensorFlow and Keras, and tensorflow is not installed: only "
        "exported files do without, see `tltoolkit export`\n"
    )


def test_ranges_are_those_of_the_package() -> None:
    declared = map(Requirement, requires("tltoolkit") or [])
    # With its extras, so that a name may come twice.
    ranges = {(plain(one.name), str(one.specifier)) for one in declared}
    assert {(plain(one.name), str(one.specifier)) for one in listed()} <= ranges
