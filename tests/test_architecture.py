"""Who may import whom, how long files and functions are, and what `import tltoolkit` costs."""

import ast
import functools
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Set
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
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
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


@pytest.mark.parametrize(
    "room", ["augment", "data", "evaluation", "files", "imbalance", "plans", "runtimes"]
)
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


# What stands with an underscore and is public all the same, or has no other form: named tuples'
# methods, and the flags of a parser of argparse.
STANDARD = {"_replace", "_fields", "_actions"}
# Code that the two frameworks export nowhere.
INSIDE = re.compile(r"keras\.src|keras\._|tensorflow\.(python|core)|tf\.(python|core|__internal__)")
PRIVATE = ROOT / "tltoolkit" / "layers" / "private.py"
others = pytest.mark.parametrize("path", [p for _, p in modules() if p != PRIVATE], ids=str)


def is_private(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"_[A-Za-z]\w*", name) is not None


def defined(source: str) -> set[str]:
    """The private names that a module gives to what is its own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if is_private(name)}


def taken(source: str, own: Set[str], known: Set[str] = frozenset()) -> list[str]:
    """What a module uses that others keep to themselves.

    `own` are private names that may be asked of self, cls and super(), `known` are names that
    may not even stand in a text, as for `getattr`.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=asked, attr=name) if is_private(name):
                mine = ast.unparse(asked) in ("self", "cls", "super()") and name in own
                found += [] if mine or name in STANDARD else [ast.unparse(node)]
            case ast.Attribute() if INSIDE.fullmatch(ast.unparse(node)):
                found.append(ast.unparse(node))
            case ast.ImportFrom(module=str(module), names=names):
                full = [f"{module}.{alias.name}" for alias in names]
                found += [
                    name for name in full if not name.startswith("tltoolkit.") and hidden(name)
                ]
            case ast.Import(names=names):
                found += [alias.name for alias in names if hidden(alias.name)]
            case ast.Call(func=ast.Name("getattr" | "setattr" | "hasattr" | "delattr")):
                asked, name = node.args[0], getattr(node.args[1], "value", None)
                mine = ast.unparse(asked) in ("self", "cls") and name in own
                found += [ast.unparse(node)] if is_private(name) and not mine else []
            case ast.Constant(value=str(text)) if text in known:
                found.append(text)
    return found


def hidden(module: str) -> bool:
    return INSIDE.match(module) is not None or any(map(is_private, module.split(".")))


@functools.cache
def own_names() -> Set[str]:
    return set().union(*(defined(path.read_text()) for _, path in modules() if path != PRIVATE))


@functools.cache
def known_names() -> Set[str]:
    """Those that `layers/private.py` deals with, as attributes or in texts."""
    nodes = list(ast.walk(ast.parse(PRIVATE.read_text())))
    names = {getattr(node, "attr", getattr(node, "value", None)) for node in nodes}
    return {name for name in names if is_private(name)}


def test_the_private_parts_are_known() -> None:
    assert {"_nodes_by_depth", "_learning_rate", "_functional", "_layers"} <= known_names()
    assert "_batches_seen_since_last_saving" in known_names()


@others
def test_private_parts_of_others_stand_in_one_module(path: Path) -> None:
    assert taken(path.read_text(), own_names(), known_names()) == []


@pytest.mark.parametrize(
    "line",
    [
        "layer._layers",
        "self.model._initial_epoch = 3",
        "super()._is_improvement(1, 2)",
        "self._model.name",
        "getattr(model, '_functional', None)",
        "setattr(self.model, '_own', 1)",
        "NAMES = ('best', '_batches_seen')",
        "import keras.src.saving",
        "from keras.src import ops",
        "from keras import src",
        "from tensorflow.python.framework import op_def_registry",
        "from tensorflow.core.framework import types_pb2",
        "from keras import _tf_keras",
        "keras.src.ops.relu",
        "tf.__internal__.tracking",
    ],
)
def test_a_private_part_would_be_found(line: str) -> None:
    assert taken(line, {"_own"}, {"_batches_seen"})


@pytest.mark.parametrize(
    "line",
    [
        "self._own = 1",
        "getattr(self, '_own')",
        "super()._own()",
        "row._replace(x=1)",
        "from tltoolkit.callbacks import _monitor",
        "from tltoolkit import _checks",
        "name + '_relu'",
        "keras.ops.relu(layer.__class__)",
        "import tensorflow as tf",
    ],
)
def test_what_is_ones_own_is_not(line: str) -> None:
    assert not taken(line, {"_own"}, {"_batches_seen"})


@pytest.mark.parametrize("name", [name for name, path in modules() if path.stem != "__main__"])
def test_no_class_puts_its_own_in_place_of_a_private_part_of_keras(name: str) -> None:
    for own in vars(importlib.import_module(name)).values():
        if inspect.isclass(own) and own.__module__ == name:
            bases = [
                b for b in own.__mro__ if b.__module__.split(".")[0] in ("keras", "tensorflow")
            ]
            theirs = {part for base in bases for part in vars(base) if is_private(part)}
            assert not theirs & set(vars(own)), own


def test_the_module_of_private_parts_loads_no_framework() -> None:
    code = """
import sys
import tltoolkit.layers.private
print({"keras", "tensorflow"} & set(sys.modules))
"""
    assert run(code).stdout.strip() == "set()"
