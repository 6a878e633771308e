"""tl.benchmark: a run and its files measured side by side, in processes of their own."""

import json
from pathlib import Path

import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.deploy import benchmark, timing

pytestmark = pytest.mark.usefixtures("shallow")

NAMES = ("ant", "bee")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, shallow: None) -> Path:
    """A classifier, and an OpenVINO file beside an ONNX file of the same name."""
    folder = tmp_path_factory.mktemp("files")
    model = tl.build_classifier(class_names=NAMES, weights=None, image_size=32, trunk="stem")
    tl.save(model, folder / "saved")
    for name in ("x.onnx", "x.xml"):
        tl.export(folder / "saved", folder / name)
    return folder


@pytest.fixture(scope="module")
def test_images() -> tl.data.Split:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 30, 3)).astype(np.uint8)
    return tl.data.from_arrays(pixels, np.arange(20) % 2, NAMES, val=0.0).train


@pytest.fixture(scope="module")
def found(files: Path, test_images: tl.data.Split) -> benchmark.Benchmark:
    return tl.benchmark(
        [files / "saved", files / "x.onnx", files / "x.xml"], test_images, repeats=2
    )


def test_each_row_says_what_its_classifier_costs(found: benchmark.Benchmark, files: Path) -> None:
    assert [row.name for row in found.rows] == ["saved", "x.onnx", "x.xml"]
    assert [row.format for row in found.rows] == ["keras", "onnx", "openvino"]
    onnx = (files / "x.onnx").stat().st_size
    openvino = (files / "x.xml").stat().st_size + (files / "x.bin").stat().st_size
    # The weights of OpenVINO have the name of the ONNX file, and are not a part of it.
    assert [row.size for row in found.rows[1:]] == [onnx, openvino]
    for row in found.rows:
        assert {(s.threads, s.batch_size) for s in row.speeds} == {
            (1, 1), (1, 16), (0, 1), (0, 16),
        }  # fmt: skip
        assert all(0 < s.median_ms <= s.p95_ms for s in row.speeds)
    # TensorFlow is what takes the time and the memory.
    keras, *others = found.rows
    assert all(row.start_s < keras.start_s and row.memory < keras.memory for row in others)


def test_scores_are_those_of_evaluate(
    found: benchmark.Benchmark, files: Path, test_images: tl.data.Split
) -> None:
    report = tl.evaluate(files / "saved", test_images)
    assert found.images == 20
    for row in found.rows:
        assert (row.accuracy, row.f1_macro) == (report.accuracy, report.f1_macro)
        assert row.log_loss == pytest.approx(report.log_loss, abs=1e-5)


def test_it_prints_a_table_and_turns_into_json(found: benchmark.Benchmark) -> None:
    head, *rows = str(found).splitlines()
    assert head.split()[:2] == ["format", "MB"]
    assert [row.split()[:2] for row in rows[:3]] == [
        ["saved", "keras"], ["x.onnx", "onnx"], ["x.xml", "openvino"],
    ]  # fmt: skip
    assert json.loads(json.dumps(found.to_dict()))["rows"][1]["speeds"][0]["threads"] == 1


def test_passes_are_timed_one_by_one() -> None:
    seen: list[int] = []
    taken = timing.passes(lambda images: seen.append(len(images)), np.zeros((4, 2, 2, 3)), 5)
    assert seen == [4] * (timing.WARM + 5)
    assert 0 <= taken["median_ms"] <= taken["p95_ms"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [Path("a/x.onnx"), Path("b/x.onnx"), Path("b/y.onnx")]
    assert [name for name, _ in benchmark.named(paths)] == ["a/x.onnx", "b/x.onnx", "y.onnx"]


def test_what_is_not_there_is_found_before_anything_is_measured(files: Path) -> None:
    for missing in (files / "none", files / "none.onnx"):
        with pytest.raises(FileNotFoundError, match="none"):
            tl.benchmark([files / "x.onnx", missing])


def test_a_changed_file_is_named_with_its_reason(files: Path, tmp_path: Path) -> None:
    content = bytearray((files / "x.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "y.onnx").write_bytes(content)
    with pytest.raises(RuntimeError, match=r"y\.onnx could not be measured: .*its hash differs"):
        tl.benchmark([tmp_path / "y.onnx"], repeats=1)
