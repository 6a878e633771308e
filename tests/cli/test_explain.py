"""Maps that `predict` writes and `evaluate` puts into a report."""

import base64
import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import said
from PIL import Image

import tltoolkit as tl

pytestmark = pytest.mark.usefixtures("eagerly", "stump")


@pytest.fixture
def names(photos: Path, tmp_path: Path) -> list[Path]:
    """Images of which two have one name, another only as it is read, and one that is none."""
    made = [tmp_path / "in" / name for name in ("a/x.png", "b/X.png", "b/x.jpg", "c/y.png")]
    for i, path in enumerate(made):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((photos / "c0" / f"{i}.png").read_bytes())
    made[3].write_bytes(b"no image")
    return made


@pytest.mark.parametrize("method", ["cam", "occlusion"])
def test_predict_writes_an_overlay_for_each_image(
    method: str,
    trained: Path,
    names: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "maps" / "inner"
    words = ["predict", trained, *names, "--explain", folder, "--batch-size", 2]
    words += ["--explain-method", method] if method != "cam" else []
    text = said(words, capsys, 3)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["map"] for row in rows] == [
        *(str(folder / name) for name in ("x.png", "X-2.png", "x-3.png")),
        "",
    ]
    told = tl.explain(str(trained), [str(name) for name in names[:3]], method)
    assert list(told.targets) == [row["label"] for row in rows[:3]]
    for i, row in enumerate(rows[:3]):
        pixels = np.asarray(Image.open(row["map"]))
        np.testing.assert_allclose(pixels.astype(int), told.overlay(i), atol=1)
    assert sorted(os.listdir(folder)) == ["X-2.png", "x-3.png", "x.png"]
    # The same rows without, but for the column.
    plain = list(csv.DictReader(io.StringIO(said(words[:6], capsys, 3))))
    assert plain == [{k: v for k, v in row.items() if k != "map"} for row in rows]


def test_json_rows_name_the_maps(
    trained: Path, names: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "maps"
    folder.mkdir()
    words = ["predict", trained, names[0], names[3], "--explain", folder, "--json"]
    rows = [json.loads(line) for line in said(words, capsys, 3).splitlines()]
    assert [row.get("map") for row in rows] == [str(folder / "x.png"), None]


def test_wrong_words_are_told_before_the_work(
    trained: Path,
    names: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def late(*arguments: Any) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(tl, "load", late)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere")
    photos = names[0].parent
    predict = ["predict", trained, names[0]]
    cases: dict[str, list[Any]] = {
        "--explain: .* holds files already": [*predict, "--explain", photos],
        "--explain: .*file is a file": [*predict, "--explain", tmp_path / "file"],
        "--explain: .*link is a link to nothing": [*predict, "--explain", tmp_path / "link"],
        "--explain-method says nothing without --explain": [*predict, "--explain-method", "cam"],
        "leave --views out": [*predict, "--explain", tmp_path / "x", "--views", 3],
        "invalid choice: 'lime'": [*predict, "--explain-method", "lime"],
        "--explain says nothing without --report": [
            "evaluate",
            trained,
            photos,
            "--explain",
            "cam",
        ],
    }
    for message, words in cases.items():
        assert re.search(message, said(words, capsys, 2)), message
    assert not (tmp_path / "x").exists()


def test_an_exported_file_is_explained_by_covering_alone(
    trained: Path, names: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tf2onnx")
    file = tmp_path / "x.onnx"
    said(["export", trained, file], capsys)
    words = ["predict", file, names[0], "--explain", tmp_path / "maps"]
    message = "--explain-method must be 'occlusion' for the exported file x.onnx"
    assert message in said(words, capsys, 2)
    assert not (tmp_path / "maps").exists()
    said([*words, "--explain-method", "occlusion"], capsys)
    assert os.listdir(tmp_path / "maps") == ["x.png"]
    covered = [tl.explain(str(one), [str(names[0])], "occlusion") for one in (trained, file)]
    np.testing.assert_allclose(covered[0].evidence, covered[1].evidence, atol=1e-3)


def test_evaluate_puts_maps_into_the_page(
    trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly")
    words = ["evaluate", trained, photos, "--split", "all"]
    pages = []
    for name, more in (("plain", []), ("with", ["--explain", "cam"])):
        said([*words, "--report", tmp_path / name, *more], capsys)
        page = (tmp_path / name / "report.html").read_text()
        text = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
        pages.append(json.loads(text))
    plain, drawn = pages
    assert plain.pop("maps") == {}
    maps = drawn.pop("maps")
    assert plain == drawn
    assert maps.keys() == drawn["images"].keys() != set()
    split = tl.data.from_directory(photos, val=0).train
    names = [split.name(i) for i in range(len(split))]
    told = tl.explain(str(trained), split).maps
    for row, uri in maps.items():
        image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA")
        cover = np.asarray(image)[..., 3] / 255 / 0.7
        shown = told[names.index(drawn["listed"][row][0])]
        # In sixteen steps.
        np.testing.assert_allclose(cover, shown, atol=1 / 30 + 1 / 255)
