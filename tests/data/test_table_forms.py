"""Tables as people have them: delimiters, headers, columns of zeros and ones, lists, suffixes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tltoolkit.cli import main
from tltoolkit.data import ImageData, from_table

LABELS = ["cat", "dog", "cow"] * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (3, 2), (i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
    return tmp_path


def write(folder: Path, lines: list[str], name: str = "t.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / name


def found(data: ImageData) -> list[str]:
    """The label of each image, in the order of their colours."""
    labels = {
        int(split.image(i)[0, 0, 0]): split.label_text(i)
        for split in data.splits.values()
        for i in range(len(split))
    }
    return [labels[i] for i in range(12)]


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_with_and_without_a_header(
    folder: Path, mark: str, header: bool, encoding: str
) -> None:
    lines = [f"images/{i}.png{mark}{label}" for i, label in enumerate(LABELS)]
    lines = [f"path{mark}label", *lines] if header else lines
    path = write(folder, lines, encoding=encoding)
    assert found(from_table(path)) == LABELS
    assert found(from_table(path, delimiter=mark, header=header)) == LABELS


def test_a_list_file_of_path_and_number_as_imagenet_has_it(folder: Path) -> None:
    (folder / "images" / "a b.png").write_bytes((folder / "images" / "0.png").read_bytes())
    lines = ["images/a b.png 0", *(f"images/{i}.png {i % 3}" for i in range(1, 12))]
    data = from_table(write(folder, lines, "val.txt"), val=0)
    assert found(data) == [str(i % 3) for i in range(12)]
    assert data.train.paths[0] == str(folder / "images" / "a b.png")


def test_columns_by_place(folder: Path) -> None:
    lines = [f"{i},{label},images/{i}.png" for i, label in enumerate(LABELS)]
    assert found(from_table(write(folder, lines), image=2, label=1)) == LABELS
    frame = pd.read_csv(write(folder, lines), header=None)
    assert found(from_table(frame, image=2, label=1, root=folder)) == LABELS
    named = write(folder, ["id,kind,file", *lines], "named.csv")
    assert found(from_table(named, image="file", label="kind")) == LABELS
    with pytest.raises(ValueError, match="`image` must be one of 'id', 'kind', 'file'"):
        from_table(named)
    with pytest.raises(ValueError, match="`label` must be one of '0', '1', '2'"):
        from_table(write(folder, lines), image=2, label=3)


def test_labels_with_blanks_between_them(folder: Path) -> None:
    cells = ["sky  tree", "sky", "tree "] * 4
    lines = [f"images/{i}.png,{cell}" for i, cell in enumerate(cells)]
    path = write(folder, ["path,label", *lines])
    assert found(from_table(path, separator=" ")) == ["sky|tree", "sky", "tree"] * 4
    assert from_table(path).class_names == ("sky", "sky  tree", "tree")  # names hold blanks, too


@pytest.mark.parametrize("yes", ["1", "1.0", "True"])
def test_columns_of_zeros_and_ones(folder: Path, yes: str) -> None:
    no = {"1": "0", "1.0": "0.0", "True": "False"}[yes]
    rows = [[yes if label == name else no for name in ("dog", "cat", "cow")] for label in LABELS]
    lines = [f"images/{i}.png,{','.join(row)}" for i, row in enumerate(rows)]
    path = write(folder, ["path,dog,cat,cow", *lines])
    columns = ["dog", "cat", "cow"]
    one_hot = from_table(path, label=columns, class_names=columns)
    assert not one_hot.multi_label
    assert one_hot.class_names == ("dog", "cat", "cow")
    assert found(one_hot) == LABELS
    assert from_table(path, label=columns, multi_label=True).multi_label
    frame = pd.read_csv(path)
    frame.loc[0, ["dog", "cat", "cow"]] = frame.loc[1, "cat"]  # none of them
    several = from_table(frame, label=columns, root=folder, val=0)
    assert several.multi_label
    assert several.train.labels[0].tolist() == [0, 0, 0]
    assert found(several) == ["", *LABELS[1:]]
    with pytest.raises(ValueError, match="no label in column 'dog, cat, cow' of 1 rows"):
        from_table(frame, label=columns, root=folder, multi_label=False)


def test_a_column_of_something_else_is_named(folder: Path) -> None:
    lines = [f"images/{i}.png,{i % 2},{-1 if i == 3 else 0}" for i in range(12)]
    path = write(folder, ["path,a,b", *lines])
    with pytest.raises(ValueError, match=r"'b' must hold zeros and ones. .* row 4 .*: '-1'"):
        from_table(path, label=["a", "b"])
    with pytest.raises(ValueError, match="`label` must be a column, or several"):
        from_table(path, label=[])


@pytest.mark.parametrize("kind", [list, tuple, set, np.array, repr])
def test_cells_that_hold_lists(folder: Path, kind: type) -> None:
    cells = [["sky", "tree"], ["sky"], ["tree"]] * 4
    frame = pd.DataFrame({"path": [f"images/{i}.png" for i in range(12)]})
    frame["label"] = [kind(cell) for cell in cells]
    data = from_table(frame, root=folder)
    assert data.multi_label
    assert found(data) == ["|".join(cell) for cell in cells]
    if kind in (list, repr):
        frame.to_csv(folder / "lists.csv", index=False)
        assert found(from_table(folder / "lists.csv")) == found(data)


@pytest.mark.parametrize("empty", ["", None, []])
def test_images_without_any_label(folder: Path, empty: object) -> None:
    cells: list[object] = [["sky", "tree"], ["sky"], empty] * 4
    if empty != []:
        cells = [cell if cell is empty else "|".join(cell) for cell in cells]
    frame = pd.DataFrame({"path": [f"images/{i}.png" for i in range(12)], "label": cells})
    assert found(from_table(frame, root=folder)) == ["sky|tree", "sky", ""] * 4
    single = frame.assign(label=["sky", "tree", ""] * 4)
    with pytest.raises(ValueError, match="multi_label=True lets images have no label"):
        from_table(single, root=folder)
    data = from_table(single, root=folder, multi_label=True)
    assert found(data) == ["sky", "tree", ""] * 4
    several = frame.assign(label=["sky|tree", "tree", "sky"] * 4)
    with pytest.raises(ValueError, match="several labels in column 'label' of 4 rows .*: 1, 4,"):
        from_table(several, root=folder, multi_label=False)


@pytest.mark.parametrize("values", [(True, False), (1, 0), ("True", "False"), (1.0, 0.0)])
def test_a_column_that_says_what_is_for_validation(
    folder: Path, values: tuple[object, object]
) -> None:
    frame = pd.DataFrame({"path": [f"images/{i}.png" for i in range(12)], "label": LABELS})
    frame["is_valid"] = [values[0] if i >= 9 else values[1] for i in range(12)]
    data = from_table(frame, root=folder, split="is_valid")
    assert [int(data.val.image(i)[0, 0, 0]) for i in range(3)] == [9, 10, 11]
    assert (len(data.train), len(data.val)) == (9, 3)
    with pytest.warns(UserWarning, match="column 'is_valid' that is not used"):
        from_table(frame, root=folder)


@pytest.mark.parametrize("ids", [[f"images/{i}" for i in range(12)], list(range(12))])
def test_ids_without_a_suffix(folder: Path, ids: list[object]) -> None:
    root = folder / "images" if ids[0] == 0 else folder
    frame = pd.DataFrame({"path": ids, "label": LABELS})
    assert found(from_table(frame, root=root, suffix=".png")) == LABELS
    with pytest.raises(ValueError, match="do not exist (.|\n)*with suffix='.png' the first"):
        from_table(frame, root=root)


def test_backslashes(folder: Path) -> None:
    frame = pd.DataFrame({"path": [f"images\\{i}.png" for i in range(12)], "label": LABELS})
    assert found(from_table(frame, root=folder)) == LABELS
    odd = folder / "a\\b.png"
    odd.write_bytes((folder / "images" / "0.png").read_bytes())
    frame.loc[0, "path"] = odd.name  # a file of that very name goes first
    assert str(odd) in {p for s in from_table(frame, root=folder).splits.values() for p in s.paths}


def test_two_columns_of_one_name_are_named(folder: Path) -> None:
    lines = [f"images/{i}.png,{label},x" for i, label in enumerate(LABELS)]
    path = write(folder, ["path,label,label", *lines])
    with pytest.raises(ValueError, match="more than one column named label"):
        from_table(path)
    frame = pd.DataFrame([line.split(",") for line in lines], columns=["path", "label", "label"])
    with pytest.raises(ValueError, match="more than one column named label"):
        from_table(frame, root=folder)
    assert found(from_table(write(folder, ["path,label,x,x", *(f"{line},y" for line in lines)])))


def test_a_row_of_another_length_is_named(folder: Path) -> None:
    lines = [f"images/{i}.png,{label}" for i, label in enumerate(LABELS)]
    lines[4] += ",black and white"
    with pytest.raises(ValueError, match=r"row 6 \(1 is the first line\) has 3 cells where 2"):
        from_table(write(folder, ["path,label", *lines]))


def test_the_command_line_reads_tables_of_any_form(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{i};{label};{i % 4 == 3}" for i, label in enumerate(LABELS)]
    path = write(folder, ["id;kind;is_valid", *lines])
    shown = ["audit", str(path), "--image-column", "id", "--label-column", "kind"]
    shown += ["--suffix", ".png", "--image-root", str(folder / "images"), "--json"]
    assert main(shown) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["class_counts"] == {"train": [3, 3, 3], "val": [1, 1, 1]}
    columns = [f"images/{i}.png,{i % 2},{(i + 1) % 2}" for i in range(12)]
    path = write(folder, ["path,odd,even", *columns], "columns.csv")
    shown = ["audit", str(path), "--label-column", "odd,even", "--class-names", "odd,even"]
    assert main([*shown, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["odd", "even"]
