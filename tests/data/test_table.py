"""from_table: CSV files and DataFrames, several labels per image, and rows that are wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tltoolkit.data import from_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        Image.new("RGB", (3, 2), (i, 0, 0)).save(tmp_path / f"{i}.png")
    return tmp_path


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"path": [f"{i}.png" for i in range(12)], **columns})


def test_a_csv_file_with_paths_from_its_own_folder(folder: Path) -> None:
    frame(label=["NA", "None"] * 6).to_csv(folder / "t.csv", index=False)
    data = from_table(folder / "t.csv", val=0.5)
    assert data.class_names == ("NA", "None")  # not taken for missing values
    assert len(data.train) + len(data.val) == 12
    for split in data.splits.values():
        for i in range(len(split)):
            row = int(split.image(i)[0, 0, 0])
            assert split.paths[i] == str(folder / f"{row}.png")
            assert split.labels[i] == row % 2


def test_a_frame_with_other_columns_and_a_root(folder: Path) -> None:
    table = frame(label=[1.0, 2.0] * 6).rename(columns={"path": "file", "label": "kind"})
    table["file"] = table["file"].map(Path)
    data = from_table(table, "file", "kind", root=folder)
    assert data.class_names == ("1", "2")
    assert data.train.paths[0].startswith(str(folder))
    with pytest.raises(ValueError, match="`image` must be one of 'file', 'kind'. Received: image="):
        from_table(table, label="kind", root=folder)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([10, 9], ("9", "10")), (["10", "9a"], ("10", "9a")), ([True, False], ("False", "True"))],
)
def test_class_names_and_their_order(
    folder: Path, labels: list[object], expected: tuple[str, ...]
) -> None:
    assert from_table(frame(label=labels * 6), root=folder).class_names == expected


def test_several_labels_in_a_cell(folder: Path) -> None:
    cells = ["b|a", "a", "c | b|"] * 4
    data = from_table(frame(label=cells), root=folder, val=0.25)
    assert data.multi_label
    assert data.class_names == ("a", "b", "c")
    rows = {0: [1, 1, 0], 1: [1, 0, 0], 2: [0, 1, 1]}
    for split in data.splits.values():
        assert split.labels.dtype == np.uint8
        for i in range(len(split)):
            assert split.labels[i].tolist() == rows[int(split.image(i)[0, 0, 0]) % 3]
    plain = from_table(frame(label=cells), root=folder, separator=None)
    assert plain.class_names == ("a", "b|a", "c | b|")
    assert from_table(frame(label=["a;b", "b"] * 6), root=folder, separator=";").multi_label


def test_a_column_of_splits(folder: Path) -> None:
    splits = ["train"] * 6 + ["Validation"] * 3 + ["test"] * 3
    data = from_table(frame(label=["a", "b"] * 6, part=splits), split="part", root=folder)
    assert [[int(s.image(i)[0, 0, 0]) for i in range(len(s))] for s in data.splits.values()] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]
    without_val = [name.replace("Validation", "train") for name in splits]
    table = frame(label=["a", "b"] * 6, part=without_val)
    data = from_table(table, split="part", root=folder, val=0.4)
    assert len(data.train) + len(data.val) == 9
    assert len(data.test) == 3


def test_one_file_in_two_rows_stays_in_one_split(folder: Path) -> None:
    table = pd.concat([frame(label=["a", "b"] * 6)] * 2)
    for seed in range(5):
        data = from_table(table, root=folder, val=0.4, seed=seed)
        assert not set(data.train.paths) & set(data.val.paths)


def change(column: str, **rows: object) -> pd.DataFrame:
    table = frame(label=["a", "b"] * 6, part=["train"] * 12).astype(object)
    for row, value in rows.items():
        table.loc[int(row[1:]) - 1, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            change("label", _3=None),
            r"no label in column .label. of 1 rows .*: 3; multi_label=True lets images have no",
        ),
        (
            change("label", _3="", _12=float("nan")),
            r"no label in column 'label' of 2 rows.*: 3, 12",
        ),
        (change("label", _3=" | "), "no label in column 'label' of 1 rows .*: 3"),
        (change("path", _5=None), "no image in column 'path' of 1 rows .*: 5"),
        (
            change("path", _2="x/y.png"),
            r"1 of 12 images of the table do not exist .*\n  row 2: .*y",
        ),
        (
            change("part", _4="holdout"),
            "column 'part' must hold train, val or test. .* row 4 .*: 'holdout'",
        ),
        (change("part", _4=None), "no split in column 'part' of 1 rows"),
        (change("label", _4="cat/dog", _5="cat/dog"), "without slashes.*cat/dog"),
        (change("label", _4="zebra"), r"too few: zebra \(1\)"),
        (change("label", _4=["a", "b"]), r"must hold text or a number. Received: \['a', 'b'\]"),
        (frame(label="a"), "at least two classes are needed"),
        (change("path")[:0], "the table has no rows"),
    ],
)
def test_wrong_rows_are_named(folder: Path, table: pd.DataFrame, message: str) -> None:
    split = "part" if "part" in table else None
    with pytest.raises(ValueError, match=message):
        from_table(table, root=folder, split=split)


def test_of_many_faults_the_first_are_named_and_the_others_counted(folder: Path) -> None:
    empty = pd.concat([frame(label=[""] * 12)] * 2)
    listed = ", ".join(str(row) for row in range(1, 21))
    with pytest.raises(ValueError, match=f"of 24 rows .*: {listed} and 4 more; multi"):
        from_table(empty, root=folder)
    lost = pd.DataFrame({"path": [f"lost/{i}.png" for i in range(53)], "label": "a"})
    with pytest.raises(ValueError, match=r"row 50: \S*49.png\n  and 3 more$"):
        from_table(lost, root=folder)


def test_a_class_only_in_val_is_named(folder: Path) -> None:
    table = frame(label=["a", "b"] * 5 + ["c", "c"], part=["train"] * 10 + ["val"] * 2)
    with pytest.raises(ValueError, match="val split has classes that the train split lacks: c"):
        from_table(table, split="part", root=folder)


def test_a_missing_file_can_be_skipped(folder: Path) -> None:
    data = from_table(change("path", _2="gone.png"), root=folder, on_bad="skip", val=0)
    with pytest.warns(UserWarning, match=r"1 of 12 images cannot be read:\n  .*gone.png: No such"):
        assert len(data.check().train) == 11


def test_wrong_arguments_are_named(folder: Path) -> None:
    table = frame(label=["a", "b"] * 6)
    with pytest.raises(ValueError, match="`table` must be a file that exists"):
        from_table(folder / "no.csv")
    with pytest.raises(TypeError, match="`table` must be a CSV path or a pandas DataFrame"):
        from_table([1])
    with pytest.raises(ValueError, match="`root` must be a folder that exists"):
        from_table(table, root=folder / "no")
    with pytest.raises(ValueError, match="`separator` must be text"):
        from_table(table, root=folder, separator="")
    with pytest.raises(ValueError, match="`split` must be one of 'path', 'label'"):
        from_table(table, root=folder, split="part")
    (folder / "empty.csv").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot read the table .*empty.csv: "):
        from_table(folder / "empty.csv")
    (folder / "binary.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    with pytest.raises(ValueError, match="cannot read the table .*binary.csv: "):
        from_table(folder / "binary.csv")
