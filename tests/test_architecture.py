"""Who may import whom, how long files and functions are, and what `import tltoolkit` costs."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tltoolkit

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "tltoolkit": ROOT / "tltoolkit",
    "tltoolkit.callbacks": ROOT / "callbacks",
    "tltoolkit.augment": ROOT / "augment",
}


def floors() -> dict[str, int]:
    """Room -> floor, by the README's table "Where things are"."""
    table = (ROOT / "README.md").read_text().split("## Where things are")[1]
    rows = re.findall(r"^\| (\d+) \| `(\w+)(?:/|\.py)` \|", table, re.MULTILINE)
    return {"__version__": 0, **{room: int(floor) for floor, room in rows}, "__main__": 99}


LEVEL = floors()


def modules() -> list[tuple[str, Path]]:
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found.append((name, path))
    return found


NAMES = {name for name, _ in modules()}


def imported(path: Path) -> set[str]:
    """Full names of all tltoolkit modules that a file imports, whether at its top or inside."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            base = node.module or ""
            for full in (f"{base}.{alias.name}" for alias in node.names):
                names.add(full if base == "tltoolkit" or full in NAMES else base)
    return {name for name in names if name.split(".")[0] == "tltoolkit"}


@pytest.mark.parametrize(("name", "path"), [m for m in modules() if m[0] != "tltoolkit"])
def test_rooms_import_only_what_lies_below_them(name: str, path: Path) -> None:
    room = name.split(".")[1]
    assert room in LEVEL, f"say in the README on which floor {room} stands"
    for target in imported(path):
        # The package itself stands for everything, so that only the command line may import it.
        other = target.split(".")[1] if "." in target else "cli"
        assert other == room or LEVEL[other] < LEVEL[room], f"{name} imports {target}"


def test_every_room_of_the_table_is_there() -> None:
    assert set(LEVEL) - {"__version__"} == {
        name.split(".")[1] for name, _ in modules() if "." in name
    }


def test_no_circles_among_files() -> None:
    """Imports inside functions and for type checkers count, and a room's `__init__` is a file."""
    graph = {name: imported(path) & NAMES for name, path in modules()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # Each module of the circle is imported by the next.
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", [path for _, path in modules()], ids=str)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            code = node.body[ast.get_docstring(node) is not None :]
            if code:
                assert (node.end_lineno or 0) - code[0].lineno < 60, node.name


def run(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)


def test_import_is_quick_and_loads_no_framework(tmp_path: Path) -> None:
    code = """
import sys, time
start = time.perf_counter()
import tltoolkit
seconds = time.perf_counter() - start
heavy = {"tensorflow", "keras", "numpy", "sklearn", "albumentations"} & set(sys.modules)
print(seconds < 0.3, sorted(heavy))
"""
    assert run(code, tmp_path).stdout.strip() == "True []"


@pytest.mark.parametrize("room", ["augment", "data", "evaluation", "files", "imbalance", "plans"])
def test_rooms_that_need_no_tensorflow_load_none(room: str, tmp_path: Path) -> None:
    code = f"import sys, tltoolkit.{room}; print('tensorflow' in sys.modules)"
    assert run(code, tmp_path).stdout.strip() == "False"


@pytest.mark.parametrize("room", ["callbacks", "augment"])
def test_a_bare_import_names_the_right_one(room: str) -> None:
    failed = run(f"import {room}", ROOT)
    assert failed.returncode
    assert f"ImportError: import it as `tltoolkit.{room}`" in failed.stderr


def test_every_public_name_is_there() -> None:
    for name in tltoolkit.__all__:
        assert getattr(tltoolkit, name) is not None
    assert set(tltoolkit.__all__) <= set(dir(tltoolkit))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute fine_tuna"):
        _ = tltoolkit.fine_tuna


def test_the_version_is_that_of_the_package() -> None:
    metadata = importlib.import_module("importlib.metadata")
    assert metadata.version("tltoolkit") == tltoolkit.__version__
