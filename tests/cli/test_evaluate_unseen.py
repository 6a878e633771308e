"""`tltoolkit evaluate` scores what a run has not seen, whatever became of the folder since."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.cli import main

SIZE = 16
PLAN = tl.Plan((tl.Stage("head", epochs=1, learning_rate=1e-2, augment="none"),))
SMALL = ["--weights", "none", "--image-size", "32", "--trunk", "stem"]

pytestmark = pytest.mark.usefixtures("eagerly", "stump")


def picture(path: Path, number: int) -> Path:
    """Noise that is another for every number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(noise).save(path, "PNG")
    return path


def folder(root: Path, count: int = 60, start: int = 0) -> Path:
    """Images of the classes a and b, of `count` / 3 patients: even ones are of class a."""
    for i in range(start, start + count):
        patient = i // 3
        picture(root / "ab"[patient % 2] / f"p{patient}_{i}.png", i)
    return root


def classifier() -> keras.Model:
    return tl.build_classifier(class_names=("a", "b"), weights=None, image_size=32, trunk="stem")


def trained(data: tl.data.ImageData, run: Path) -> Path:
    """A run made in Python."""
    tl.fine_tune(classifier(), data, PLAN, "none", run_dir=run, verbose=0)
    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photos, and a run of the command line on them."""
    top = tmp_path_factory.mktemp("first")
    photos = folder(top / "photos")
    (top / "plan.yaml").write_text(PLAN.to_yaml())
    words = ["fit", str(photos), *SMALL, "--plan", str(top / "plan.yaml"), "--test", "0.3"]
    assert main([*words, "--augment", "none", "--run-dir", str(top / "run")]) == 0
    return photos, top / "run"


@pytest.fixture
def photos_and_run(first: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Copies that a test may change."""
    return (
        Path(shutil.copytree(first[0], tmp_path / "photos")),
        Path(shutil.copytree(first[1], tmp_path / "run")),
    )


def contents(data: tl.data.ImageData) -> dict[str, set[bytes]]:
    """The files of each split."""
    return {
        name: {Path(path).read_bytes() for path in split.paths}
        for name, split in data.splits.items()
    }


def told(words: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """The JSON of an evaluation, and what it says besides."""
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--json"]) == 0
    found = capsys.readouterr()
    return json.loads(found.out), found.err


def refused(words: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["evaluate", *map(str, words)]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert "Traceback" not in found.err
    return found.err


def check(found: dict[str, Any], photos: Path, unseen: set[bytes]) -> None:
    """The images scored are those files in `photos` whose content is in `unseen`."""
    files = [path for path in sorted(photos.rglob("*.png")) if path.read_bytes() in unseen]
    assert found["rows"] == len(files) > 0
    assert sum(found["images"]["scored"].values()) == len(files)
    counts = [sum(path.parent.name == name for path in files) for name in found["class_names"]]
    assert found["per_class"]["support"] == counts
    assert {loss["name"] for loss in found["top_losses"]} <= set(map(str, files))


def test_files_that_are_added_removed_and_renamed(
    photos_and_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    photos, run = photos_and_run
    held = contents(tl.data.from_directory(photos, test=0.3))
    assert {name: len(files) for name, files in held.items()} == {
        "train": 60 - len(held["val"]) - len(held["test"]),
        "val": len(held["val"]),
        "test": len(held["test"]),
    }
    found, said = told([run, photos], capsys)
    check(found, photos, held["test"])
    left_out = {"val": len(held["val"]), "train": len(held["train"])}
    assert found["images"] == {
        "split": "unseen",
        "scored": {"test": len(held["test"])},
        "left_out": left_out,
    }
    assert f"scored: {len(held['test'])} of its test split; left out: {left_out['val']} " in said
    assert f", {left_out['train']} that it was trained on\n" in said

    new = {picture(photos / "a" / f"0 new {i}.png", 1000 + i).read_bytes() for i in range(3)}
    found, said = told([run, photos], capsys)
    check(found, photos, held["test"] | new)
    assert found["images"]["scored"] == {"test": len(held["test"]), "new": 3}
    assert found["images"]["left_out"] == left_out

    gone = sorted(photos.rglob("p*.png"))[::5]
    lost = {path.read_bytes() for path in gone}
    for path in gone:
        path.unlink()
    found, _ = told([run, photos], capsys)
    check(found, photos, (held["test"] | new) - lost)
    assert found["images"]["left_out"] == {
        name: len(held[name] - lost) for name in ("val", "train")
    }

    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        path.rename(path.with_name(f"{number * 7919 % 1000:03} renamed.png"))
    known = next(p for p in sorted(photos.rglob("*.png")) if p.read_bytes() in held["train"])
    (photos / "b" / "moved.png").write_bytes(known.read_bytes())
    found, _ = told([run, photos], capsys)
    check(found, photos, (held["test"] | new) - lost)
    assert found["images"]["left_out"]["train"] == len(held["train"] - lost) + 1


def test_the_other_choices(first: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    photos, run = first
    held = contents(tl.data.from_directory(photos, test=0.3))
    for name in ("test", "val", "train"):
        found, said = told([run, photos, "--split", name], capsys)
        check(found, photos, held[name])
        assert ("the figures flatter it" in said) == (name != "test")
    found, said = told([run, photos, "--split", "all", "--test", "0.3", "--seed", "0"], capsys)
    check(found, photos, set().union(*held.values()))
    assert f"was trained on {len(held['train'])} of these images: the figures flatter it" in said
    for flag, value, had in (("--test", "0.2", 0.3), ("--val", "0.1", 0.2), ("--seed", "4", 0)):
        said = refused([run, photos, flag, value], capsys)
        assert f"{flag} {value} is not what {run} was made with ({had})" in said


def test_a_folder_of_new_images_is_scored_whole(
    first: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = first
    new = folder(tmp_path / "new", 60, start=2000)
    found, said = told([run, new], capsys)
    assert found["images"] == {"split": "unseen", "scored": {"new": 60}, "left_out": {}}
    assert found["rows"] == 60
    assert "tltoolkit: scored: 60 new to it\n" in said
    shutil.rmtree(new / "a")
    (new / "b" / "p0.png").write_bytes(next((new / "b").iterdir()).read_bytes())
    found, _ = told([run, new], capsys)
    assert found["per_class"]["support"] == [0, 31]
    (new / "c").mkdir()
    picture(new / "c" / "1.png", 1)
    assert "--class-names must be among those of the classifier" in refused([run, new], capsys)


def test_without_test_images_it_is_validation_and_says_so(
    first: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = Path(shutil.copytree(first[0], tmp_path / "photos"))
    data = tl.data.from_directory(photos, val=0.3, seed=5)
    run = trained(data, tmp_path / "run")
    held = contents(data)
    found, said = told([run, photos, "--report", tmp_path / "report"], capsys)
    check(found, photos, held["val"])
    assert found["images"]["split"] == "val"
    assert f"{len(held['val'])} of these images are the validation split, which picked" in said
    assert "are the validation split" in (tmp_path / "report" / "report.html").read_text()
    new = {picture(photos / "b" / "new.png", 3000).read_bytes()}
    found, _ = told([run, photos], capsys)
    check(found, photos, new)
    whole = tl.data.from_directory(photos, val=0.0)
    run = trained(whole, tmp_path / "all")
    said = refused([run, photos], capsys)
    assert "no image to score with --split val: in DIR are 61 that it was trained on" in said


def test_what_a_run_was_made_with_is_how_its_folder_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder(tmp_path / "photos")
    (photos / "a" / "p0_broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    data = tl.data.from_directory(
        photos, val=0.25, test=0.25, seed=8, on_bad="skip", groups=r"p(\d+)_"
    )
    with pytest.warns(UserWarning, match="left out: 1 of 61 images cannot be read"):
        run = trained(data, tmp_path / "run")
    patients = {name: set(split.groups.tolist()) for name, split in data.splits.items()}
    new: dict[str, int] = {}
    for name, groups in [*patients.items(), ("unknown", {"500", "501"})]:
        new[name] = len(groups)
        for group in groups:
            picture(photos / "ab"[int(group) % 2] / f"p{group}_x.png", 4000 + int(group))
    found, said = told([run, photos], capsys)
    good = {name: sum("broken" not in path for path in s.paths) for name, s in data.splits.items()}
    assert found["images"] == {
        "split": "unseen",
        "scored": {"test": good["test"], "new": new["test"] + new["unknown"]},
        "left_out": {
            "val": good["val"],
            "train": good["train"],
            "group": new["train"] + new["val"],
        },
    }
    assert f"{new['train'] + new['val']} new, of groups that it was trained or valid" in said
    assert "left out: 1 of" in said
    assert "cannot be read" in refused([run, photos, "--on-bad", "error"], capsys)


def test_groups_by_a_function_are_not_kept_and_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder(tmp_path / "photos")

    def patient(path: str) -> str:
        return path[3:].split("_")[0]

    data = tl.data.from_directory(photos, val=0.25, test=0.25, seed=8, groups=patient)
    run = trained(data, tmp_path / "run")
    assert json.loads((run / "data.json").read_text())["origin"]["not_kept"] == ["groups"]
    found, _ = told([run, photos], capsys)  # nothing is new, so nothing must be known
    assert found["rows"] == len(data.test)
    known = data.train.groups[0]
    picture(photos / "ab"[int(known) % 2] / f"p{known}_x.png", 5000)
    said = refused([run, photos], capsys)
    assert "of which group the 1 new images in DIR are is not known: pass --groups" in said
    found, _ = told([run, photos, "--groups", r"p(\d+)_"], capsys)
    assert found["images"]["left_out"]["group"] == 1
    assert found["rows"] == len(data.test)
    found, _ = told([run, photos, "--split", "test"], capsys)
    assert found["rows"] == len(data.test)


def test_given_splits_and_copies_between_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for start, split, count in ((0, "train", 36), (36, "val", 12), (48, "test", 12)):
        folder(tmp_path / "photos" / split, count, start)
    photos = tmp_path / "photos"
    copied = next((photos / "train" / "a").iterdir())
    (photos / "test" / "a" / "copy.png").write_bytes(copied.read_bytes())
    data = tl.data.from_directory(photos, duplicates="drop")
    with pytest.warns(UserWarning, match="kept only in test before val before train"):
        run = trained(data, tmp_path / "dropped")
    found, _ = told([run, photos], capsys)
    assert found["images"]["scored"] == {"test": 13}
    assert found["images"]["left_out"] == {"val": 12, "train": 35}
    run = trained(tl.data.from_directory(photos, duplicates="allow"), tmp_path / "allowed")
    found, _ = told([run, photos], capsys)
    assert found["images"]["scored"] == {"test": 12}
    assert found["images"]["left_out"] == {"val": 12, "train": 37}


def test_a_table_is_read_with_the_columns_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = folder(tmp_path / "photos")
    files = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    frame = pd.DataFrame({"file": files, "kind": [f[0] for f in files]})
    frame["who"] = [f[2:].split("_")[0] for f in files]
    data = tl.data.from_table(
        frame, "file", "kind", root=photos, groups="who", val=0.25, test=0.25, seed=8
    )
    run = trained(data, tmp_path / "run")
    frame.to_csv(tmp_path / "t.csv", index=False)
    found, _ = told([run, tmp_path / "t.csv"], capsys)
    assert found["images"]["scored"] == {"test": len(data.test)}


def test_arrays_cannot_be_recognised_among_files(
    first: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, SIZE, SIZE, 3), np.uint8)
    data = tl.data.from_arrays(images, np.arange(40) % 2, ("a", "b"), val=0.3)
    run = trained(data, tmp_path / "run")
    said = refused([run, first[0]], capsys)
    assert "was trained on images that were no files" in said
    assert "pass --split all" in said
    found, said = told([run, first[0], "--split", "all"], capsys)
    assert found["rows"] == 60
    assert f"{run} may have seen these images" in said


def test_a_run_of_an_earlier_version_loads_and_is_not_believed(
    photos_and_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    photos, run = photos_and_run
    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest.pop("seen_sha256")) == {"data.json", "images.npy"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    for name in ("data.json", "images.npy"):
        (run / name).unlink()
    for words in ([], ["--split", "test"], ["--split", "val"]):
        said = refused([run, photos, *words], capsys)
        assert "does not say which images it was trained on: an earlier tltoolkit or other" in said
        assert "pass --split all to score it on all" in said
    found, said = told([run, photos, "--split", "all"], capsys)
    assert found["rows"] == 60
    assert "may have seen these images" in said
    assert "--test 0.3 is not what" in refused(
        [run, photos, "--split", "all", "--test", "0.3"], capsys
    )


def test_a_record_that_was_changed_is_refused(
    photos_and_run: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos, run = photos_and_run

    def late(*_: Any) -> None:
        raise AssertionError("the classifier has been built")

    with monkeypatch.context() as patch:
        patch.setattr("tltoolkit.artifacts.verified.model", late)
        for name in ("data.json", "images.npy"):
            content = (run / name).read_bytes()
            (run / name).write_bytes(content[:-1])
            said = refused([run, photos], capsys)
            assert f"{run / name} is not the file that was saved: its hash differs" in said
            (run / name).unlink()
            assert f"{run / name} does not exist" in refused([run, photos], capsys)
            (run / name).write_bytes(content)
    assert told([run, photos], capsys)[0]["rows"]


def test_the_record_goes_where_the_classifier_goes(
    first: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, run = first
    held = contents(tl.data.from_directory(photos, test=0.3))
    model = tl.load(run).model
    tl.save(model, tmp_path / "saved")
    check(told([tmp_path / "saved", photos], capsys)[0], photos, held["test"])
    # A second training, on the former test images and others, adds to what the model has seen.
    more = folder(tmp_path / "more", 30, 6000)
    for path in photos.rglob("*.png"):
        if path.read_bytes() in held["test"]:
            (more / path.parent.name / path.name).write_bytes(path.read_bytes())
    data = tl.data.from_directory(more, val=0.3)
    tl.fine_tune(model, data, PLAN, "none", verbose=0)
    tl.save(model, tmp_path / "again")
    found, _ = told([tmp_path / "again", photos, "--split", "train"], capsys)
    check(found, photos, held["train"] | (held["test"] & contents(data)["train"]))
    found, _ = told([tmp_path / "again", photos], capsys)
    assert found["images"]["split"] == "val"  # nothing is left that it has not seen
    check(found, photos, held["val"] | (held["test"] & contents(data)["val"]))
    done = tl.refit(tl.fine_tune(classifier(), data, PLAN, "none", verbose=0), data, verbose=0)
    tl.save(done.model, tmp_path / "refitted")
    found, _ = told([tmp_path / "refitted", more, "--split", "train"], capsys)
    assert found["rows"] == len(data.train) + len(data.val)
