"""Files of features from the command line: with labels, and of plain files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import said

import tltoolkit as tl

pytestmark = pytest.mark.usefixtures("eagerly", "stump")


def test_labelled_folders_and_tables_keep_their_labels(
    photos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "all.csv"
    files = sorted(photos.glob("*/*.png"))
    pd.DataFrame({"path": files, "label": [f.parent.name for f in files]}).to_csv(table)
    for source in (photos, table):
        file = tmp_path / f"{source.stem}.npz"
        told = json.loads(said(["embed", trained, source, "--output", file, "--json"], capsys))
        with np.load(file) as read:
            assert (told["rows"], told["features"]) == read["features"].shape
            assert (told["rows"], told["path"]) == (60, str(file))
            assert [Path(n).parent.name for n in read["names"]] == read["labels"].tolist()
            names, features = read["names"].tolist(), read["features"]
        expected = tl.embed(str(trained), names)
        np.testing.assert_allclose(features, expected.features, atol=1e-4)


def test_plain_files_have_no_labels(
    photos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "in", tmp_path / "x.parquet"
    folder.mkdir()
    (folder / "note.txt").write_text("no image")
    (folder / "a.png").write_bytes((photos / "c0" / "0.png").read_bytes())
    text = said(["embed", trained, folder, photos / "c1" / "1.png", "--output", file], capsys)
    assert text.startswith("2 rows of ")
    read = pd.read_parquet(file)
    assert read["name"].tolist() == [str(folder / "a.png"), str(photos / "c1" / "1.png")]
    assert read["label"].tolist() == [None, None]
    assert read["predicted"].tolist() == [p.label for p in tl.load(trained).predict(read["name"])]
    (folder / "b.png").write_bytes(b"broken")
    assert "b.png" in said(["embed", trained, folder, "--output", tmp_path / "y.npz"], capsys, 2)
    assert not (tmp_path / "y.npz").exists()
