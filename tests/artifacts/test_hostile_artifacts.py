"""Artifacts made to harm: nothing runs, nothing outside is touched, the error names the file."""

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.artifacts import artifact, foreign
from tltoolkit.artifacts.verified import sha256
from tltoolkit.evaluation import Decision

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ("ant", "bee", "cow")
KERNEL = "layers/dense/vars/0"
SETTINGS, WEIGHTS, DECISION = "classifier.json", "model.weights.h5", "decision.json"
RUNS_CODE = {"os.system", "subprocess.Popen", "pickle.find_class", "os.exec"}
seen: list[str] = []
watching: list[bool] = []


def hook(event: str, args: Any) -> None:
    if watching and event in RUNS_CODE:
        seen.append(event)


sys.addaudithook(hook)


class Payload:
    """Unpickling it would make the file `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tl.build_classifier(class_names=NAMES, weights=None, image_size=32)
    return tl.save(model, tmp_path_factory.mktemp("artifact") / "model")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that must not come to be, while nothing may run code."""
    path = tmp_path / "canary"
    seen.clear()
    watching.append(True)
    yield path
    watching.clear()
    assert not path.exists()
    assert not seen


def signed(directory: Path) -> Path:
    """Make the manifest agree with the files, as who forges them would."""
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in manifest["sha256"]:
        if (directory / name).is_file():
            manifest["sha256"][name] = sha256(directory / name)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def json_of(file: str, **changes: Any) -> Callable[[Path], object]:
    """Change entries of a JSON file; those that are None stay away."""

    def change(directory: Path) -> None:
        values = json.loads((directory / file).read_text()) | changes
        (directory / file).write_text(json.dumps(values))

    return change


def head(**changes: Any) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        values = json.loads((directory / SETTINGS).read_text())
        values["head"] |= changes
        (directory / SETTINGS).write_text(json.dumps(values))

    return change


def text(file: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda directory: (directory / file).write_bytes(data)


def in_weights(edit: Callable[[h5py.File, Path], object]) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        with h5py.File(directory / WEIGHTS, "r+") as file:
            edit(file, directory.parent)

    return change


def replaced(make: Callable[[h5py.File, Path], object]) -> Callable[[Path], object]:
    """Something else in the place of the last kernel."""

    def edit(file: h5py.File, outside: Path) -> None:
        del file[KERNEL]
        make(file, outside)

    return in_weights(edit)


def elsewhere(outside: Path) -> Path:
    with h5py.File(outside / "secret.h5", "w") as file:
        file["kernel"] = np.zeros((1280, 3), "float32")
    return outside / "secret.h5"


def linked(file: str) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        moved = directory.parent / "moved"
        (directory / file).rename(moved)
        (directory / file).symlink_to(moved)

    return change


def in_place_of(file: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        (directory / file).unlink()
        make(directory / file)

    return change


def virtual(file: h5py.File, outside: Path) -> None:
    layout = h5py.VirtualLayout((1280, 3), "float32")
    layout[:] = h5py.VirtualSource(str(elsewhere(outside)), "kernel", (1280, 3))
    file.create_virtual_dataset(KERNEL, layout)


def external(file: h5py.File, outside: Path) -> None:
    storage = [(str(elsewhere(outside)), 0, 1280 * 3 * 4)]
    file.create_dataset(KERNEL, (1280, 3), "f4", external=storage)


def external_link(file: h5py.File, outside: Path) -> None:
    file[KERNEL] = h5py.ExternalLink(str(elsewhere(outside)), "kernel")


def soft_link(file: h5py.File, outside: Path) -> None:
    file[KERNEL] = h5py.SoftLink("/layers/conv2d/vars/0")


def huge(file: h5py.File, outside: Path) -> None:
    file.create_dataset(KERNEL, (2**40, 3), "f4", chunks=(1024, 3))


def words(file: h5py.File, outside: Path) -> None:
    file[KERNEL] = ["import os"]


def not_a_number(file: h5py.File, outside: Path) -> None:
    file[KERNEL][0, 0] = np.nan


THRESHOLDS = {"values": [0.5, 0.5], "multi_label": False, "metric": "f1", "reached": []}
DEEP = '{"a":' * 100_000
# name -> (what is done to the files, whether the manifest is made to agree, the error)
HOSTILE: dict[str, tuple[Callable[[Path], object], bool, str]] = {
    "changed weights": (in_weights(not_a_number), False, f"{WEIGHTS} is not the file that was sav"),
    "changed settings": (json_of(SETTINGS, seed=1), False, f"{SETTINGS} is not the file that was"),
    "traversal": (
        json_of("manifest.json", sha256={"../../secret": "0"}),
        False,
        r"must have hashes of .* not of \['../../secret'\]",
    ),
    "no hashes": (json_of("manifest.json", sha256=None), False, "must have hashes of"),
    "future format": (json_of("manifest.json", format=2), False, "format must be 1, not 2"),
    "truncated manifest": (text("manifest.json", '{"format": 1'), False, "is not JSON"),
    "manifest is a list": (text("manifest.json", "[1]"), False, "must hold a mapping, not a list"),
    "truncated JSON": (text(SETTINGS, '{"backbone": "efficientnet'), True, "is not JSON"),
    "deep JSON": (text(SETTINGS, DEEP), True, "is nested too deeply"),
    "no text": (text(SETTINGS, b"\xff\xfe\x00"), True, f"{SETTINGS} is not JSON"),
    "YAML tags": (text(SETTINGS, "!!python/object/apply:os.system [id]"), True, "is not JSON"),
    "linked weights": (linked(WEIGHTS), True, f"{WEIGHTS} is a symbolic link"),
    "linked settings": (linked(SETTINGS), True, f"{SETTINGS} is a symbolic link"),
    "linked manifest": (linked("manifest.json"), False, "manifest.json is a symbolic link"),
    "folder": (in_place_of(WEIGHTS, Path.mkdir), True, f"{WEIGHTS} is a folder"),
    "pipe": (in_place_of(DECISION, os.mkfifo), True, f"{DECISION} is a pipe, socket or device"),
    "missing": (in_place_of(WEIGHTS, lambda path: None), True, f"{WEIGHTS} does not exist"),
    "missing variable": (replaced(lambda file, _: None), True, r"dense layers have \[\] units"),
    "missing state": (
        in_weights(lambda file, _: file.__delitem__("layers/batch_normalization/vars/3")),
        True,
        "1 variables are missing",
    ),
    "extra variable": (
        in_weights(lambda file, _: file.create_dataset("layers/conv2d/vars/7", data=[1.0])),
        True,
        r"1 variables are too many, among them one of \(1,\)",
    ),
    "one class more": (
        json_of(SETTINGS, class_names=[*NAMES, "dog"]),
        True,
        r"dense layers have \[3\] units, not \[4\]",
    ),
    "huge layer": (head(hidden=[10**9, 10**9]), True, r"\[3\] units, not \[1000000000,"),
    "huge image": (json_of(SETTINGS, image_size=10**9), True, "`image_size` must be an integer"),
    "NaN image": (json_of(SETTINGS, image_size=float("nan")), True, "Received: image_size=nan"),
    "image as text": (json_of(SETTINGS, image_size="32"), True, "Received: image_size='32'"),
    "unknown backbone": (json_of(SETTINGS, backbone="os.system"), True, "Received: .*'os.system'"),
    "backbone as list": (json_of(SETTINGS, backbone=["x"]), True, SETTINGS),
    "unknown setting": (json_of(SETTINGS, run="id"), True, "`settings` has unknown entries: run"),
    "unknown head": (head(layer="Lambda"), True, "`head` has unknown entries: layer"),
    "head as text": (json_of(SETTINGS, head="Lambda"), True, "`head` must be a mapping, not a str"),
    "names as numbers": (json_of(SETTINGS, class_names=[1, 2, 3]), True, "`class_names` must be"),
    "names twice": (json_of(SETTINGS, class_names=["a", "a", "b"]), True, "`class_names` must be"),
    "dropout list": (json_of(SETTINGS, spatial_dropout=[1]), True, "`spatial_dropout` must be"),
    "external link": (replaced(external_link), True, "vars/0 is a link, which is not followed"),
    "soft link": (replaced(soft_link), True, "vars/0 is a link, which is not followed"),
    "external storage": (replaced(external), True, f"{KERNEL} lies outside the file"),
    "virtual array": (replaced(virtual), True, f"{KERNEL} lies outside the file"),
    "huge array": (replaced(huge), True, "takes 0 bytes and says that it holds 13194139533312"),
    "array of text": (replaced(words), True, "holds object, not numbers"),
    "NaN weights": (in_weights(not_a_number), True, "holds NaN or infinite values"),
    "two thresholds": (json_of(DECISION, thresholds=THRESHOLDS), True, "2 thresholds for 3 classe"),
    "other labels": (json_of(DECISION, multi_label=True), True, "must have multi_label=False"),
    "decision of text": (json_of(DECISION, temperature="hot"), True, f"{DECISION} is not a decisi"),
    "NaN threshold": (
        json_of(DECISION, abstention={"threshold": float("nan"), "coverage": 1, "accuracy": 1}),
        True,
        "`threshold` must be a finite number",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_artifact_is_refused_with_the_file_named(
    kind: str, copy: Path, canary: Path
) -> None:
    change, sign, message = HOSTILE[kind]
    change(copy)
    if sign:
        signed(copy)
    before = sorted(copy.parent.rglob("*"))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        tl.load(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(copy.parent.rglob("*")) == before


@pytest.mark.parametrize("file", [SETTINGS, WEIGHTS, DECISION])
def test_a_pickle_in_the_place_of_a_file_is_never_unpickled(
    file: str, copy: Path, canary: Path
) -> None:
    text(file, pickle.dumps(Payload(canary)))(copy)
    with pytest.raises(ValueError, match=file):
        tl.load(signed(copy))


def test_a_file_without_end_is_not_read(saved: Path, copy: Path) -> None:
    for name in (WEIGHTS, DECISION, SETTINGS, "manifest.json"):
        with (copy / name).open("wb") as file:
            file.truncate(2**40)  # takes no room
        with pytest.raises(ValueError, match=rf"(?s){name} has 1099511627776 bytes; at most"):
            tl.load(copy)
        shutil.copy(saved / name, copy)


@pytest.mark.parametrize("name", ["s3://bucket/model", "https://host/m", "hf://a/b", "gs://m"])
def test_remote_names_are_not_fetched(name: str) -> None:
    with pytest.raises(ValueError, match="is a remote name; fetch it"):
        tl.load(name)
    with pytest.raises(ValueError, match="is a remote name; fetch it"):
        tl.load(Path(name))
    with pytest.raises(ValueError, match="is a remote name; fetch it"):
        tl.build_classifier(class_names=NAMES, weights=name + "/x.keras")
    with pytest.raises(ValueError, match="is a remote name; fetch it"):
        foreign.load(name + "/x.keras", NAMES)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_model_file_is_not_loaded_as_an_artifact(suffix: str, tmp_path: Path) -> None:
    small(3).save(tmp_path / f"model.{suffix}")
    with pytest.raises(ValueError, match="is a file, not a saved classifier's directory"):
        tl.load(tmp_path / f"model.{suffix}")


def test_class_names_stay_text(copy: Path, tmp_path: Path) -> None:
    names = ["../../etc/passwd", "<script>alert(1)</script>", "{0.__class__}"]
    json_of(SETTINGS, class_names=names)(copy)
    predictor = tl.load(signed(copy))
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    said = predictor.predict(list(images))
    assert {prediction.label for prediction in said} <= set(names)
    prob = np.array([list(p.probabilities.values()) for p in said])
    report = tl.Report.from_predictions(np.arange(6) % 3, prob, names)
    written = report.save(tmp_path / "report", page=True)
    assert {path.parent for path in written} == {tmp_path / "report"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "report"]
    assert "<script>alert(1)" not in (tmp_path / "report" / "report.html").read_text()


# ---- a foreign .keras file ----


def small(units: int, *layers: Any) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, keras.layers.Dense(units, activation="softmax", name="top")(x))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    small(3).save(tmp_path / "theirs.keras")
    return tmp_path / "theirs.keras"


def rezipped(
    path: Path, *, config: Any = None, extra: dict[str, bytes] | None = None, weights: Any = None
) -> Path:
    """The archive again, with another configuration, more members or other weights."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    if config is not None:
        parts["config.json"] = config(parts["config.json"].decode()).encode()
    if weights is not None:
        inner = path.with_suffix(".inner")
        inner.write_bytes(parts["model.weights.h5"])
        with h5py.File(inner, "r+") as file:
            weights(file)
        parts["model.weights.h5"] = inner.read_bytes()
        inner.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**parts, **(extra or {})}.items():
            archive.writestr(name, content)
    return path


def test_a_foreign_model_answers_as_it_does(theirs: Path) -> None:
    model = keras.saving.load_model(theirs)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    said = foreign.load(theirs, NAMES).predict(list(images))
    found = [list(prediction.probabilities.values()) for prediction in said]
    np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-6)


def test_a_compiled_model_and_a_run_of_ones_own_model_load(tmp_path: Path) -> None:
    model = small(3)
    model.compile("adam", "categorical_crossentropy")
    model.fit(np.zeros((4, 8, 8, 3)), np.eye(3)[[0, 1, 2, 0]], verbose=0)
    artifact.write(model, tmp_path)
    with pytest.raises(ValueError, match=r"tltoolkit\.foreign\.load reads a \.keras file"):
        tl.load(tmp_path)
    assert foreign.load(tmp_path / artifact.FOREIGN, NAMES).class_names == NAMES


@pytest.fixture
def opted_out() -> Iterator[None]:
    from keras.src.backend.common import global_state

    keras.config.enable_unsafe_deserialization()
    yield
    global_state.set_global_attribute("safe_mode_saving", None)


@pytest.mark.usefixtures("opted_out")
def test_a_lambda_is_refused_whatever_the_process_allows(tmp_path: Path, canary: Path) -> None:
    path = tmp_path / "lambda.keras"
    target = str(canary)
    layer = keras.layers.Lambda(lambda x: (__import__("os").system(f"touch {target}"), x)[1])
    watching.clear()  # building it runs it
    small(3, layer).save(path)
    canary.unlink()
    seen.clear()
    watching.append(True)
    with pytest.raises(ValueError, match="it has a Lambda layer, which is code"):
        foreign.load(path, NAMES)
    for old, new in (('"Lambda"', '"Lambd\\u0061"'), ('"Lambd\\u0061"', '"layers.Lambda"')):
        hidden = rezipped(path, config=lambda c, old=old, new=new: c.replace(old, new))
        with pytest.raises(ValueError, match="it has a Lambda layer, which is code"):
            foreign.load(hidden, NAMES)


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "foreign code": (
        {"config": lambda c: c.replace('"keras.layers"', '"os.path"')},
        "names os.path.* neither Keras' nor registered",
    ),
    "huge layer": (
        {"config": lambda c: c.replace('"units": 3', '"units": 1000000000')},
        "variables are missing, among them one of",
    ),
    "deep configuration": ({"config": lambda c: DEEP}, "config.json is nested too deeply"),
    "no configuration": ({"config": lambda c: "[]"}, "must hold a mapping, not a list"),
    "pickled weights": ({"extra": {"model.weights.npz": b"x"}}, "member 'model.weights.npz' bes"),
    "traversal": ({"extra": {"../outside.txt": b"x"}}, "it has a member '../outside.txt'"),
    "absolute path": ({"extra": {"/tmp/outside.txt": b"x"}}, "it has a member '/tmp/outside.txt'"),
    "bomb": ({"extra": {"config.json": b" " * 2**25}}, "and says that it holds 33554432"),
    "external link": (
        {"weights": lambda f: f.__setitem__("x", h5py.ExternalLink("/etc/passwd", "y"))},
        "/x is a link, which is not followed",
    ),
    "huge array": (
        {"weights": lambda f: f.create_dataset("y", (2**40,), chunks=(1024,))},
        "takes 0 bytes and says",
    ),
    "extra array": ({"weights": lambda f: f.__setitem__("y", [1.0])}, "1 variables are too many"),
    "missing array": (
        {"weights": lambda f: f.__delitem__("layers/dense/vars/1")},
        "1 variables are missing",
    ),
    "NaN": ({"weights": lambda f: f["layers/dense/vars/1"].__setitem__(0, np.nan)}, "holds NaN or"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_hostile_keras_file_is_refused(kind: str, theirs: Path, canary: Path) -> None:
    changes, message = FOREIGN[kind]
    before = sorted(theirs.parent.iterdir())
    with pytest.raises(ValueError, match=message) as caught:
        foreign.load(rezipped(theirs, **changes), NAMES)
    assert str(theirs) in str(caught.value)
    assert sorted(theirs.parent.iterdir()) == before


def test_a_foreign_file_of_another_form_is_refused(theirs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data with the model's 3 classes"):
        foreign.load(theirs, ("a", "b"))
    (tmp_path / "linked.keras").symlink_to(theirs)
    with pytest.raises(ValueError, match="is a symbolic link"):
        foreign.load(tmp_path / "linked.keras", NAMES)
    (tmp_path / "no.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"no\.keras is not loaded: File is not a zip file"):
        foreign.load(tmp_path / "no.keras", NAMES)
    with pytest.raises(ValueError, match=r"`path` must be a \.keras file"):
        foreign.load(tmp_path / "model.h5", NAMES)


def test_a_refused_file_leaves_no_variables_behind(theirs: Path) -> None:
    from keras.src.backend.common import global_state

    with pytest.raises(ValueError, match="missing"):
        foreign.load(rezipped(theirs, **FOREIGN["huge layer"][0]), NAMES)
    assert not global_state.get_global_attribute("uninitialized_variables")


# ---- weights of a backbone, plans and pipelines ----


@pytest.mark.parametrize("kind", ["bomb", "external link"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_backbone_weights_are_refused(kind: str, theirs: Path, canary: Path) -> None:
    changes, message = FOREIGN[kind]
    with pytest.raises(ValueError, match=message):
        tl.build_classifier(class_names=NAMES, weights=rezipped(theirs, **changes), image_size=32)


BOMB = "a: &a [x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stages: !!python/object/apply:os.system ['touch {canary}']", "must be plain YAML"),
        ("!!python/object/new:subprocess.Popen [[touch, '{canary}']]", "must be plain YAML"),
        (BOMB, "without references"),
        ("[" * 10_000, "at most 40 levels deep"),
    ],
    ids=["apply", "new", "bomb", "deep"],
)
@pytest.mark.parametrize("read", [tl.Plan.from_yaml, tl.augment.Pipeline.from_yaml])
def test_yaml_makes_no_objects(
    read: Callable[[str], object], content: str, message: str, canary: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(content.replace("{canary}", str(canary)))


def test_what_was_saved_still_loads(copy: Path) -> None:
    assert tl.load(copy).decision == Decision()
