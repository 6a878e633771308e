"""groups=: one patient's images on one side, in splits, folds, subsets and inner splits."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import tltoolkit as tl
from tltoolkit.cli import main
from tltoolkit.data import ImageData, from_arrays, from_directory, from_stream, from_table
from tltoolkit.data.folds import set_aside
from tltoolkit.data.seen import Seen
from tltoolkit.runs import refitting
from tltoolkit.training import probe
from tltoolkit.tune.subsets import nested

SHARES = {"val": 0.25, "test": 0.25}


def folder(root: Path, patients: int = 40, each: int = 3) -> Path:
    """root/<a or b>/p<patient>_<number>.png; odd patients are of class b."""
    for p in range(patients):
        for i in range(each):
            path = root / "ab"[p % 2] / f"p{p}_{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{p} {i}".encode())
    return root


def pixels(count: int) -> np.ndarray:
    values = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(count, 4)
    return np.broadcast_to(values[:, None, :3, None], (count, 2, 3, 3)).copy()


def sides(data: ImageData) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, split in data.splits.items():
        for group in split.groups.tolist():
            found.setdefault(group, set()).add(name)
    return found


def expected(group: str, seed: int = 0) -> str:
    """The rule as the documentation says it."""
    digest = hashlib.sha256(seed.to_bytes(4, "big") + group.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if place < 0.25 else "val" if place >= 0.75 else "train"


def patient_of(path: str) -> int:
    assert path[:3] in ("a/p", "b/p")
    return int(path[3:].split("_")[0])


@pytest.mark.parametrize("groups", [r"p(\d+)_", r"(?<=p)\d+(?=_)", patient_of])
def test_a_pattern_or_a_function_of_the_path(tmp_path: Path, groups: Any) -> None:
    data = from_directory(folder(tmp_path), groups=groups, seed=3, **SHARES)
    assert sides(data) == {str(p): {expected(str(p), 3)} for p in range(40)}
    for split in data.splits.values():
        for path, group in zip(split.paths, split.groups, strict=True):
            assert Path(path).name.startswith(f"p{group}_")


def test_a_column_a_function_or_a_row_of_a_table(tmp_path: Path) -> None:
    folder(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    patients = [patient_of(file) for file in files]
    frame = pd.DataFrame({"path": files, "label": [f[0] for f in files], "who": patients})
    for groups in ("who", patient_of, patients, frame["who"]):
        data = from_table(frame, root=tmp_path, groups=groups, **SHARES)
        assert sides(data) == {str(p): {expected(str(p))} for p in range(40)}
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = from_table(tmp_path / "t.csv", groups="who", **SHARES)
    assert sides(data) == {str(p): {expected(str(p))} for p in range(40)}


def test_a_row_for_arrays_and_a_key_for_streams() -> None:
    images, patients = pixels(120), np.arange(120) // 3
    labels = patients % 2
    arrays = from_arrays(images, labels, groups=patients, **SHARES)
    rows = [
        {"image": i, "label": y, "who": f"{p}".encode()}
        for i, y, p in zip(images, labels, patients, strict=True)
    ]
    for data in (arrays, from_stream(rows, groups="who", **SHARES)):
        assert sides(data) == {str(p): {expected(str(p))} for p in range(40)}
        for split in data.splits.values():
            np.testing.assert_array_equal(split.groups.astype(int), split.indices // 3)


def test_more_images_and_patients_move_nobody(tmp_path: Path) -> None:
    before = sides(from_directory(folder(tmp_path, 20), groups=r"p\d+", **SHARES))
    after = sides(from_directory(folder(tmp_path, 40, 5), groups=r"p\d+", **SHARES))
    assert {group: after[group] for group in before} == before
    assert all(len(names) == 1 for names in after.values())


def test_a_copy_makes_two_groups_one(tmp_path: Path) -> None:
    folder(tmp_path)
    apart = sides(from_directory(tmp_path, groups=r"p\d+", **SHARES))
    low, high = next(
        (f"p{a}", f"p{b}")
        for a in range(0, 40, 2)
        for b in range(0, 40, 2)
        if f"p{a}" < f"p{b}" and apart[f"p{a}"] != apart[f"p{b}"]
    )
    (tmp_path / "a" / f"{high}_9.png").write_bytes((tmp_path / "a" / f"{low}_0.png").read_bytes())
    data = from_directory(tmp_path, groups=r"p\d+", **SHARES)
    assert sides(data) == {**apart, high: apart[low]}


@pytest.mark.parametrize("several", [False, True])
def test_folds_keep_groups_and_copies_together(several: bool) -> None:
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 40, 300)
    labels = (rng.random((300, 3)) < 0.3).astype(np.uint8) if several else patients % 3
    images = pixels(300)
    images[150:170] = images[:20]  # copies under other names
    data = from_arrays(images, labels, groups=patients, val=0.2, test=0.2, seed=1)
    seen: list[int] = []
    pool = len(data.train) + len(data.val)
    for fold in data.kfold(4, seed=2):
        assert not set(fold.train.groups) & set(fold.val.groups)
        train = {fold.train.image(i).tobytes() for i in range(len(fold.train))}
        assert not train & {fold.val.image(i).tobytes() for i in range(len(fold.val))}
        seen += fold.val.indices.tolist()
        assert 0.5 * pool / 4 < len(fold.val) < 2 * pool / 4
        assert fold.val.class_counts.min() > 0
    assert sorted(seen) == sorted([*data.train.indices, *data.val.indices])


def small() -> keras.Model:
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(4, 3, name="conv")(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2)(x))


def test_every_training_of_a_cross_validation_holds_groups_apart(tmp_path: Path) -> None:
    patients = np.arange(90) // 3
    data = from_arrays(pixels(90), patients % 2, groups=patients, val=0)
    plan = tl.Plan((tl.Stage("head", optimizer="lbfgs", augment=None),))
    options = {"plan": plan, "augment": "none", "verbose": 0, "run_dir": tmp_path / "cv"}
    scored = tl.cross_validate(small, data, 3, **options)
    assert sorted(len(report.labels) for report in scored.reports) == [30, 30, 30]
    digests = [data.train.source.digest(i) for i in range(90)]
    for number, report in enumerate(scored.reports, 1):
        rows = Seen.read(tmp_path / "cv" / f"fold_{number}").rows
        parts = {bytes(row["digest"]).ljust(32, b"\0").hex(): int(row["split"]) for row in rows}
        train, val = (
            {int(patients[i]) for i, digest in enumerate(digests) if parts.get(digest) == part}
            for part in (0, 1)
        )
        names = {int(patients[int(name[7:-1])]) for name in report.names}
        assert (len(train), len(val), len(names)) == (16, 4, 10)
        assert not train & val
        assert not names & (train | val)


def test_subsets_and_joined_splits_keep_their_groups() -> None:
    patients = np.arange(240) // 4
    labels = patients % 3
    data = from_arrays(pixels(240), labels, groups=patients, val=0.2)
    both = refitting.joined(data)
    assert both.groups.tolist() == [str(index // 4) for index in both.indices]
    order = nested(both, seed=1)
    assert sorted(order.tolist()) == list(range(240))
    assert set(both.labels[order[:3]].tolist()) == {0, 1, 2}
    for size in (60, 120, 200):
        taken, left = both.groups[order[:size]], both.groups[order[size:]]
        # The one that is cut, and those of the first image of each class.
        assert len(set(taken) & set(left)) <= 1 + 3
        counts = np.bincount(both.labels[order[:size]], minlength=3)
        assert np.ptp(counts) <= 8


def test_the_stand_in_for_validation_keeps_rows_of_a_group_together() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 20, 200)
    for multi_label in (False, True):
        targets = np.eye(3, dtype=np.uint8)[groups % 3]
        labels = targets if multi_label else targets.argmax(1)
        held = set_aside(labels, groups, 1 / probe.FOLDS, 0)
        assert held.shape == (200,)
        assert not set(groups[~held]) & set(groups[held])
        for part in (held, ~held):
            assert targets[part].any(0).all()


def test_a_penalty_is_picked_by_other_patients() -> None:
    """Features that tell patients apart, and not the classes, deserve the strongest penalty."""
    rng = np.random.default_rng(0)
    groups = np.arange(240) // 8
    labels = rng.permutation(np.arange(30) % 2)[groups]
    features = np.eye(30)[groups] + rng.normal(0, 0.05, (240, 30))
    targets = np.eye(2)[labels]
    alone, together = (
        [probe.solve(features, targets, None, False, seed, groups=by).penalty for seed in range(5)]
        for by in (None, groups)
    )
    # Under strong penalties the loss is flat, so that one seed may pick a neighbour by chance.
    assert np.median(together) < 1e-3
    assert max(together) < 1e-2 < 1 <= min(alone)


def test_groups_that_cannot_be_found_are_named(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "a" / "loose.png").write_bytes(b"x")
    message = r"`groups` gives no group to 1 of 121 images: a/loose.png. Received: groups='p"
    for groups in (r"p(\d+)_", r"p(\d+)_|loose"):
        with pytest.raises(ValueError, match=message):
            from_directory(tmp_path, groups=groups)
    with pytest.raises(ValueError, match="no group to 121 of 121 images: a/loose.png, a/p0_0.png"):
        from_directory(tmp_path, groups=lambda path: None)
    with pytest.raises(ValueError, match=r"`groups` must be a regular expression \(.*groups='\('"):
        from_directory(tmp_path, groups="(")
    with pytest.raises(TypeError, match="`groups` must be a regular expression as text, or a func"):
        from_directory(tmp_path, groups=3)
    with pytest.raises(
        ValueError, match="`groups` must be at least two groups to split.*all 'png'"
    ):
        from_directory(tmp_path, groups="png")


def test_wrong_columns_and_rows_are_named(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["1.png", "2.png"], "label": ["a", "b"], "who": ["x", None]})
    for i in (1, 2):
        (tmp_path / f"{i}.png").write_bytes(b"%d" % i)
    with pytest.raises(ValueError, match=r"`groups` must be one of 'path', .*groups='patient'"):
        from_table(frame, root=tmp_path, groups="patient")
    with pytest.raises(ValueError, match="no groups in column 'who' of 1 rows .*: 2"):
        from_table(frame, root=tmp_path, groups="who")
    with pytest.raises(ValueError, match="`groups` must be a row with the group of each of 2 im"):
        from_table(frame, root=tmp_path, groups=[1, 2, 3])
    labels = np.arange(8) % 2
    for groups in (np.arange(7), np.ones((8, 2)), "who"):
        with pytest.raises(ValueError, match="a row with the group of each of 8 images"):
            from_arrays(pixels(8), labels, groups=groups)
    with pytest.raises(ValueError, match=r"no group to 2 of 8 images: images\[1\], images\[3\]"):
        from_arrays(pixels(8), labels, groups=[0, None, 1, float("nan"), 2, 3, 4, 5])
    pairs = list(zip(pixels(8), labels, strict=True))
    with pytest.raises(ValueError, match=r"`groups` must be a key of examples\[0\].*groups='who'"):
        from_stream(pairs, groups="who")


def test_a_group_in_two_given_splits_is_an_error(tmp_path: Path) -> None:
    folder(tmp_path / "train", 12)
    folder(tmp_path / "test", 2, 9)
    with pytest.raises(ValueError, match="2 of 12 groups are in more than one") as caught:
        from_directory(tmp_path, groups=r"p\d+")
    assert "'p0' (train, test)" in str(caught.value)
    data = from_directory(tmp_path, groups=r"\w+/\w/p\d+", val=0.3)
    assert len(set(data.test.groups)) == 2
    assert not set(data.train.groups) & set(data.val.groups)


def test_too_few_groups_for_the_folds_are_named() -> None:
    patients = np.arange(40) // 10
    data = from_arrays(pixels(40), patients % 2, groups=patients, val=0)
    assert len(list(data.kfold(2))) == 2
    with pytest.raises(ValueError, match="number of groups of every class: class '0' has 2"):
        data.kfold(3)
    with pytest.raises(ValueError, match="`groups` must be as many as the 40 images"):
        replace(data.train, groups=data.train.groups[:3])


def test_the_probe_of_the_first_batch_judges_by_other_groups() -> None:
    """Every patient has a colour, and a class that has nothing to do with it."""
    rng = np.random.default_rng(0)
    patients = np.arange(240) // 15
    colours = rng.integers(0, 256, (16, 1, 1, 3))
    images = (colours[patients] + rng.integers(-4, 5, (240, 4, 4, 3))).clip(0, 255)
    labels = rng.permutation(np.arange(16) % 2)[patients]
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 3))
    x = keras.layers.Rescaling(1 / 128, -1)(image)
    x = keras.layers.Conv2D(64, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    found = {
        name: tl.check.data(
            from_arrays(images.astype(np.uint8), labels, val=0, groups=groups), model
        )
        for name, groups in (("images", None), ("patients", patients))
    }
    assert found["images"].probe > 0.9
    assert found["patients"].probe < 0.75


def test_the_command_line_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    assert main(["audit", str(tmp_path), "--groups", r"p(\d+)x"]) == 2
    assert "--groups gives no group to 120 of 120 images" in capsys.readouterr().err
