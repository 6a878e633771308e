"""tl.export: the file answers as the classifier does, says what it is, and harms nothing."""

import builtins
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import keras
import numpy as np
import onnx
import openvino
import pytest
from ai_edge_litert import schema_py_generated as schema
from sklearn.metrics import accuracy_score, f1_score, log_loss

import tltoolkit as tl
from tltoolkit.artifacts.given import BadImage
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.deploy import checking
from tltoolkit.evaluation import Abstention, Decision, Temperature, Thresholds
from tltoolkit.runtimes.card import KEY

pytestmark = [
    pytest.mark.usefixtures("shallow"),
    # Of int8 with labels by lot, which the network was never trained for.
    pytest.mark.filterwarnings("ignore:.*x.tflite. macro F1 falls:UserWarning"),
]

NAMES = ("ant", "bee", "fourmi à miel")
SIZE = 32
DECISION = Decision(
    temperature=Temperature(value=1.5, multi_label=False),
    thresholds=Thresholds(values=(0.2, 0.3, 0.4), metric="f1"),
    abstention=Abstention(threshold=0.5, coverage=0.9, accuracy=0.9),
)
NAME = {"litert": "x.tflite", "onnx": "x.onnx", "openvino": "x.xml", "saved_model": "x"}
KINDS = [
    ("litert", None), ("litert", "int8"), ("onnx", None), ("onnx", "float16"),
    ("openvino", None), ("openvino", "float16"), ("saved_model", None),
]  # fmt: skip
FLOAT = [kind for kind in KINDS if kind[1] is None]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    """Patches of a few colours each: of noise alone all probabilities would be alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 5, 6, 3)).astype(np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)


def split(count: int, seed: int = 1) -> tl.data.Split:
    images = pixels(count, seed)
    return tl.data.from_arrays(images, np.arange(count) % 3, NAMES, val=0.0).train


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    model = tl.build_classifier(
        class_names=NAMES, weights=None, image_size=SIZE, trunk="block2", fit="pad"
    )
    head = model.get_layer("logits")
    # So that images differ in what is said of them, as those of a trained model do.
    features = keras.Model(model.input, head.input).predict_on_batch(resized(pixels(50)))
    kernel = np.linalg.qr(np.random.default_rng(0).normal(size=head.kernel.shape))[0]
    kernel = 2 * kernel / (features @ kernel).std(axis=0)
    head.kernel.assign(kernel)
    head.bias.assign(-(features @ kernel).mean(axis=0))
    model.tltoolkit_settings = model.tltoolkit_settings.__class__(
        **{**vars(model.tltoolkit_settings), "train_prior": (0.2, 0.3, 0.5),
           "output_prior": (0.2, 0.3, 0.5)}
    )  # fmt: skip
    return Predictor(model=model, class_names=NAMES, decision=DECISION)


def resized(images: Any) -> np.ndarray:
    return np.stack([tl.augment.resize(image, SIZE, "pad") for image in images])


Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Exports each kind once."""
    made: dict[Any, Path] = {}

    def make(format: str, quantize: str | None = None) -> Path:
        if (format, quantize) not in made:
            path = tmp_path_factory.mktemp("exported") / NAME[format]
            tl.export(predictor, path, format, quantize, calibration=split(40))
            made[format, quantize] = path
        return made[format, quantize]

    return make


def found(answers: Any) -> np.ndarray:
    return np.array([list(answer.probabilities.values()) for answer in answers])


@pytest.mark.parametrize(("format", "quantize"), KINDS)
def test_a_file_answers_as_its_classifier(
    format: str, quantize: str | None, predictor: Predictor, make: Make
) -> None:
    images = list(pixels(70, seed=2))
    loaded = tl.load(make(format, quantize))
    expected, said = predictor.predict(images), loaded.predict(images, batch_size=16)
    difference = np.abs(found(expected) - found(said)).max()
    # The features of a network that was never trained hardly differ, which eight bits feel.
    assert difference <= {None: 1e-4, "float16": 1e-2, "int8": 0.3}[quantize]
    same = np.mean([a.label == b.label for a, b in zip(expected, said, strict=True)])
    assert same >= {None: 1, "float16": 0.98, "int8": 0.85}[quantize]
    # The classes, the temperature, the thresholds and the abstention matter here.
    assert len({answer.label for answer in expected}) == 3
    assert {answer.abstained for answer in expected} == {True, False}
    assert loaded.class_names == NAMES
    assert loaded.decision == DECISION
    if quantize is None:
        assert [a.abstained for a in said] == [a.abstained for a in expected]
        straight = predictor.model.predict_on_batch(resized(images))
        raw = DECISION.temperature.apply(straight)
        np.testing.assert_allclose(found(said), raw, atol=1e-4)


def test_streams_priors_and_views_work_on_a_file(
    predictor: Predictor, make: Make, tmp_path: Path
) -> None:
    loaded, images = tl.load(make("onnx")), list(pixels(5, seed=3))
    prior = {"ant": 0.6, "bee": 0.3, NAMES[2]: 0.1}
    pipeline = tl.augment.preset("light", SIZE, seed=3)
    for options in ({"prior": prior}, {"pipeline": pipeline, "views": 3}, {"min_confidence": 0.9}):
        expected, said = predictor.predict(images, **options), loaded.predict(images, **options)
        np.testing.assert_allclose(found(said), found(expected), atol=1e-4)
        assert [a.abstained for a in said] == [a.abstained for a in expected]
    answers = list(loaded.stream([images[0], "gone.png", images[1]], batch_size=2))
    assert isinstance(answers[1], BadImage)
    np.testing.assert_allclose(
        found([answers[0], answers[2]]), found(predictor.predict(images[:2])), atol=1e-4
    )
    with pytest.raises(ValueError, match="`views` must be above 1"):
        loaded.predict(images, pipeline=pipeline)
    with pytest.raises(ValueError, match="the model's image_size 32"):
        loaded.predict(images, pipeline=tl.augment.preset("light", 8), views=2)


def test_a_file_is_evaluated_as_its_classifier(predictor: Predictor, make: Make) -> None:
    data = split(30, seed=5)
    expected, report = tl.evaluate(predictor, data), tl.evaluate(make("onnx"), data)
    assert report.coverage == expected.coverage < 1
    assert report.accuracy == expected.accuracy
    np.testing.assert_allclose(report.raw.log_loss, expected.raw.log_loss, atol=1e-4)
    wrong = tl.data.from_arrays(pixels(6), np.arange(6) % 2, ("ant", "bee"), val=0.0).train
    with pytest.raises(ValueError, match="data with the predictor's classes"):
        tl.evaluate(make("onnx"), wrong)


def test_files_need_neither_tensorflow_nor_keras(make: Make, tmp_path: Path) -> None:
    files = [str(make(format)) for format in ("litert", "onnx", "openvino")]
    image = tmp_path / "one.png"
    keras.utils.save_img(image, pixels(1)[0], scale=False)
    code = f"""
import json, sys
import tltoolkit as tl
from tltoolkit.cli import main
for file in {files!r}:
    predictor = tl.load(file)
    said = predictor.predict([{str(image)!r}])
    assert [*predictor.stream([{str(image)!r}])] == said
    assert main(["predict", file, {str(image)!r}, "--json"]) == 0
print({{"tensorflow", "keras", "albumentations"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *rows, loaded = done.stdout.splitlines()
    assert loaded == "set()"
    assert len({json.loads(row)["label"] for row in rows}) == 1
    assert len(rows) == 3


# What the formats' own libraries read


def card_of(text: str | bytes) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(text)
    assert tuple(card["class_names"]) == NAMES
    assert Decision.from_dict(card["decision"]) == DECISION
    assert card["image_size"] == SIZE
    assert card["preparation"]["fit"] == "pad"
    assert card["train_prior"] == card["output_prior"] == [0.2, 0.3, 0.5]
    return card


def test_onnx_and_openvino_read_the_metadata(make: Make) -> None:
    model = onnx.load(make("onnx"))
    onnx.checker.check_model(model)
    (entry,) = (one for one in model.metadata_props if one.key == KEY)
    assert card_of(entry.value)["quantize"] is None
    half = onnx.load(make("onnx", "float16"))
    (entry,) = (one for one in half.metadata_props if one.key == KEY)
    assert card_of(entry.value)["quantize"] == "float16"
    read = openvino.Core().read_model(make("openvino"))
    card_of(read.get_rt_info(KEY).astype(str))
    large = [one for one in half.graph.initializer if np.prod(one.dims) >= 256]
    assert {one.data_type for one in large} == {onnx.TensorProto.FLOAT16}
    kinds = [make("openvino", quantize).with_suffix(".bin") for quantize in (None, "float16")]
    whole, halved = (one.stat().st_size for one in kinds)
    assert halved < 0.6 * whole


def test_a_saved_model_has_its_card_among_its_assets(make: Make) -> None:
    card_of((make("saved_model") / "assets.extra" / "tltoolkit.json").read_text())


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_tflite_file_has_labels_where_task_libraries_look(
    quantize: str | None, make: Make
) -> None:
    content = make("litert", quantize).read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == list(NAMES)
    assert schema.Model.ModelBufferHasIdentifier(content, 0)
    model = schema.Model.GetRootAs(content)
    entries = {
        model.Metadata(i).Name(): model.Buffers(model.Metadata(i).Buffer()).DataAsNumpy().tobytes()
        for i in range(model.MetadataLength())
    }
    card_of(entries[KEY.encode()])
    metadata = entries[b"TFLITE_METADATA"]
    assert metadata[4:8] == b"M001"
    assert read_metadata(metadata) == {
        "input": (b"image", 2, 1, (SIZE, SIZE), 1, [0.0], [1.0]),
        "output": (b"probability", b"labels.txt", 2),
        "parser": b"1.0.0",
    }


def read_metadata(content: bytes) -> dict[str, Any]:
    """The fields by their numbers in metadata_schema.fbs, read by a walk of its own."""

    def number(at: int, size: int, signed: bool = False) -> int:
        return int.from_bytes(content[at : at + size], "little", signed=signed)

    def follow(at: int) -> int:
        return at + number(at, 4)

    def field(table: int, index: int) -> int:
        vtable = table - number(table, 4, signed=True)
        offset = number(vtable + 4 + 2 * index, 2) if 4 + 2 * index < number(vtable, 2) else 0
        assert offset, index
        return table + offset

    def text(at: int) -> bytes:
        at = follow(at)
        return content[at + 4 : at + 4 + number(at, 4)]

    def first(at: int) -> int:
        at = follow(at)
        assert number(at, 4) == 1
        return follow(at + 4)

    def floats(at: int) -> list[float]:
        at = follow(at)
        return np.frombuffer(content, "<f4", number(at, 4), at + 4).tolist()

    root = follow(0)
    graph = first(field(root, 3))
    image, scores = first(field(graph, 2)), first(field(graph, 3))
    shown = follow(field(image, 3))
    kind, properties = number(field(shown, 0), 1), follow(field(shown, 1))
    sides = follow(field(properties, 1))
    unit = first(field(image, 4))
    options = follow(field(unit, 1))
    labels = first(field(scores, 6))
    return {
        "input": (
            text(field(image, 0)), kind, number(field(properties, 0), 1),
            (number(field(sides, 0), 4), number(field(sides, 1), 4)),
            number(field(unit, 0), 1), floats(field(options, 0)), floats(field(options, 1)),
        ),
        "output": (text(field(scores, 0)), text(field(labels, 0)), number(field(labels, 2), 1)),
        "parser": text(field(root, 7)),
    }  # fmt: skip


def test_int8_computes_in_bytes_but_for_its_probabilities(make: Make) -> None:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(make("litert", "int8").read_bytes()))
    (graph,) = model.subgraphs
    kinds = {
        schema.BuiltinOperator.CONV_2D: 1, schema.BuiltinOperator.DEPTHWISE_CONV_2D: 1,
        schema.BuiltinOperator.SOFTMAX: 0,
    }  # fmt: skip
    types: dict[int, set[int]] = {}
    for one in graph.operators:
        kind = model.operatorCodes[one.opcodeIndex].builtinCode
        if kind in kinds:
            types.setdefault(kind, set()).add(graph.tensors[one.inputs[kinds[kind]]].type)
    int8, floats = {schema.TensorType.INT8}, {schema.TensorType.FLOAT32}
    assert list(map(types.get, kinds)) == [int8, int8, floats]
    said = found(tl.load(make("litert", "int8")).predict(list(pixels(20))))
    undone = said**DECISION.temperature.value
    undone /= undone.sum(axis=1, keepdims=True)
    assert np.abs(undone * 256 - np.round(undone * 256)).max() > 0.1
    assert said.min() > 0


def test_operations_that_need_more_than_litert_are_named(
    predictor: Predictor, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a converter writes them whose TensorFlow has kernels for them.
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(make("litert").read_bytes()))
    model.operatorCodes[0].customCode = b"FlexErf"
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")

    def export(self: Any, path: str, **options: Any) -> None:
        Path(path).write_bytes(builder.Output())

    monkeypatch.setattr(keras.Model, "export", export)
    with pytest.raises(ValueError, match="operations that are not LiteRT's own: FlexErf$"):
        tl.export(predictor, tmp_path / "x.tflite")


# The comparison


def test_the_comparison_counts_what_scikit_learn_counts(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Predictor(model=predictor.model, class_names=NAMES)
    # Labels that it gets wrong now and then.
    images = pixels(60, seed=7)
    prob = predictor.model.predict_on_batch(resized(images)).astype(float)
    labels = np.where(np.arange(60) % 4, prob.argmax(axis=1), np.arange(60) % 3)
    data = tl.data.from_arrays(images, labels, NAMES, val=0.0).train
    told = tl.export(plain, tmp_path / "x.onnx", validation=data)
    for found, figure in (
        (told.accuracy, accuracy_score(labels, prob.argmax(axis=1))),
        (told.f1_macro, f1_score(labels, prob.argmax(axis=1), average="macro")),
        (told.log_loss, log_loss(labels, prob / prob.sum(axis=1, keepdims=True))),
    ):
        np.testing.assert_allclose(found, (figure, figure), atol=1e-5)
    assert (told.images, told.label_agreement, told.advice) == (60, 1, "")
    assert 0 < told.largest_difference < 1e-4
    text = str(told)
    assert "compared on 60 images" in text
    assert f"accuracy            {told.accuracy[0]:.4f} before" in text
    beside = json.loads((tmp_path / "x.onnx.json").read_text())
    assert beside["format"] == "tltoolkit.export/1"
    assert beside["export"]["accuracy"] == list(told.accuracy)
    assert beside["export"]["path"] == "x.onnx"
    assert set(beside["versions"]) >= {"keras", "tltoolkit"}


@pytest.mark.parametrize(
    ("quantize", "figures", "said"),
    [
        (None, {"largest_difference": 1.1e-3}, "differ by up to 0.0011, above 0.001"),
        (None, {"largest_difference": 0.9e-3}, ""),
        ("float16", {"largest_difference": 5e-3}, ""),
        ("int8", {"largest_difference": 0.3}, ""),
        ("int8", {"f1_macro": (0.9, 0.8899)}, "macro F1 falls from 0.9000 to 0.8899: calibrate"),
        ("int8", {"f1_macro": (0.9, 0.8901)}, ""),
        ("int8", {"f1_macro": (0.8, 0.9)}, ""),
    ],
)
def test_what_differs_too_much_gets_advice(
    quantize: str | None, figures: dict[str, Any], said: str
) -> None:
    text = checking.advice(quantize, {"largest_difference": 0.0, **figures})
    assert said in text
    assert bool(said) == bool(text)


def test_strict_writes_nothing_and_otherwise_there_is_a_warning(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "DIFFERENCES", {None: 0.0})
    with pytest.raises(RuntimeError, match=r"x.onnx is not written: probabilities differ by up to"):
        tl.export(predictor, tmp_path / "x.onnx", strict=True)
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="x.onnx: probabilities differ"):
        told = tl.export(predictor, tmp_path / "x.onnx")
    assert told.advice
    assert told.accuracy is None
    assert "16 made-up images" in str(told)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.onnx", "x.onnx.json"]


# What is refused


@pytest.mark.parametrize("format", NAME)
def test_a_changed_file_is_refused(format: str, make: Make, tmp_path: Path) -> None:
    shutil.copytree(make(format).parent, tmp_path / "copy")
    path = tmp_path / "copy" / NAME[format]
    tl.load(path)
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    files += [path.with_suffix(".bin")] if format == "openvino" else []
    for file in files:
        content = file.read_bytes()
        # A bit of a weight, of a name or of the card.
        for place in (len(content) // 2, len(content) // 5):
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            with pytest.raises(ValueError, match="its hash differs|was not written by tl.export"):
                tl.load(path)
        file.write_bytes(content)
    tl.load(path)
    if path.is_dir():
        (path / "more").write_text("x")
        with pytest.raises(ValueError, match="its hash differs"):
            tl.load(path)


def test_another_class_name_in_the_metadata_is_a_change(make: Make, tmp_path: Path) -> None:
    for format in ("onnx", "litert", "openvino"):
        shutil.copytree(make(format).parent, tmp_path / format)
        path = tmp_path / format / NAME[format]
        content = path.read_bytes()
        assert content.count(b"ant") >= 1
        path.write_bytes(content.replace(b"bee", b"wasp"[:3]))
        with pytest.raises(ValueError, match="is not the file that was exported"):
            tl.load(path)


def test_files_of_other_tools_and_no_files_are_one_clear_error(make: Make, tmp_path: Path) -> None:
    model = onnx.load(make("onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    (tmp_path / "theirs.xml").write_text("<net/>")
    (tmp_path / "theirs.bin").write_bytes(b"")
    (tmp_path / "theirs.tflite").write_bytes(b"")
    shutil.copytree(make("saved_model"), tmp_path / "theirs")
    shutil.rmtree(tmp_path / "theirs" / "assets.extra")
    for name in ("theirs.onnx", "theirs.xml", "theirs.tflite", "theirs"):
        with pytest.raises(ValueError, match=rf"{name} was not written by tl\.export"):
            tl.load(tmp_path / name)
    for name in ("gone.onnx", "gone.tflite", "gone.xml"):
        with pytest.raises(FileNotFoundError, match="does not exist"):
            tl.load(tmp_path / name)
    (tmp_path / "link.onnx").symlink_to(make("onnx"))
    with pytest.raises(ValueError, match="is a symbolic link"):
        tl.load(tmp_path / "link.onnx")
    with pytest.raises(ValueError, match="a run, a predictor of a Keras model"):
        tl.export(make("onnx"), tmp_path / "again.onnx")


def test_what_is_missing_is_named_with_its_extra(
    predictor: Predictor, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = builtins.__import__
    gone = {"onnxruntime", "ai_edge_litert", "openvino"}

    def without(name: str, *more: Any, **options: Any) -> Any:
        if name.split(".")[0] in gone:
            raise ImportError(name)
        return genuine(name, *more, **options)

    files = {format: make(format) for format in ("litert", "onnx", "openvino")}
    for name in [one for one in sys.modules if one.split(".")[0] in gone]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("importlib.import_module", without)
    for format, file in files.items():
        with pytest.raises(ImportError, match=rf"pip install 'tltoolkit\[{format}\]'"):
            tl.load(file)
        with pytest.raises(ImportError, match=rf"pip install 'tltoolkit\[{format}\]'"):
            tl.export(predictor, tmp_path / NAME[format])
    assert not list(tmp_path.iterdir())


def no(*arguments: Any, **options: Any) -> None:
    raise AssertionError("the work has begun")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("x.onnx", {"format": "litert"}, r"must end|a name that ends in \.tflite for format='lit"),
        ("x", {}, r"a name that ends in \.tflite"),
        ("x.onnx", {"format": "saved_model"}, "the name of a new folder for format='saved_model'"),
        ("x.xml", {"quantize": "int8"}, "`quantize` must be one of None, 'float16' for format='op"),
        ("x.tflite", {"quantize": "int8"}, "`calibration` must be a Split of 16 images or more"),
        (
            "x.tflite",
            {"quantize": "int8", "calibration": split(15)},
            r"`calibration` must be a Split of 16 .* Received: calibration=Split\(15 images",
        ),
        ("x.onnx", {"validation": pixels(3)}, "`validation` must be a Split, such as data.train"),
        (
            "x.onnx",
            {"validation": tl.data.from_arrays(pixels(4), [0, 1] * 2, ("a", "b"), val=0).train},
            "among those of the classifier",
        ),
        ("s3://bucket/x.onnx", {}, "is a remote name"),
        ("none/x.onnx", {}, "the folder .*none does not exist"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    path: str,
    options: dict[str, Any],
    message: str,
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tltoolkit.deploy.converting.convert", no)
    where = path if path.startswith("s3") else tmp_path / path
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        tl.export(predictor, where, **options)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tltoolkit.deploy.converting.convert", no)
    for path, taken in (
        ("a.onnx", "a.onnx"), ("b.onnx", "b.onnx.json"), ("c.xml", "c.bin"), ("d", "d"),
    ):  # fmt: skip
        (tmp_path / taken).write_text("mine")
        with pytest.raises(FileExistsError, match=taken):
            tl.export(predictor, tmp_path / path, "saved_model" if path == "d" else None)
        assert (tmp_path / taken).read_text() == "mine"
    (tmp_path / "e.onnx").symlink_to("elsewhere")
    (tmp_path / "f").mkdir()
    for path in ("e.onnx", "f"):
        with pytest.raises(FileExistsError):
            tl.export(predictor, tmp_path / path, "saved_model" if path == "f" else None)
    assert not (tmp_path / "elsewhere").exists()


def test_a_failure_while_writing_leaves_nothing(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tl.export(predictor, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("os.rename", full)
    with pytest.raises(OSError, match="No space left"):
        tl.export(predictor, tmp_path / "x", "saved_model")
    assert not list(tmp_path.iterdir())
