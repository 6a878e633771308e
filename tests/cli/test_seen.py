"""What a person sees: lines of epochs, rows as they come, closed pipes, images of every kind."""

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.cli import main, predict, program

pytestmark = pytest.mark.usefixtures("stump")

SMALL = ["--weights", "none", "--image-size", "32", "--trunk", "stem"]
PLAN = "stages:\n- {name: head, epochs: 3, learning_rate: 1e-2}\n"
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("seen") / "photos"
    for i, image in enumerate(pixels(20)):
        path = root / f"c{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (root.parent / "plan.yaml").write_text(PLAN)
    return root


@pytest.fixture(scope="module")
def trained(photos: Path) -> Path:
    assert main([*fit(photos, "run"), "--quiet"]) == 0
    return photos.parent / "run"


def fit(photos: Path, run: str) -> list[str]:
    plan = ["--plan", str(photos.parent / "plan.yaml"), "--augment", "none"]
    return ["fit", str(photos), *SMALL, *plan, "--run-dir", str(photos.parent / run)]


def test_off_a_terminal_fit_prints_a_line_for_each_epoch(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(fit(photos, "lines")) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.err
    assert "\r" not in said.err
    lines = said.err.splitlines()
    assert lines[0] == "Stage 1: head, unfreeze='head'"
    assert [line.partition(":")[0] for line in lines[1:]] == [f"Epoch {i}/3" for i in (1, 2, 3)]
    assert all("val_f1_macro 0." in line and line.endswith(" s") for line in lines[1:])
    assert said.out.splitlines()[-1] == str(photos.parent / "lines")


def test_quiet_and_verbose(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*fit(photos, "quiet"), "-q", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["format"] == "tltoolkit.fit/1"
    assert main([*fit(photos, "loud"), "-v"]) == 0
    said = capsys.readouterr().err
    assert f"Keras {keras.__version__}" in said
    for name, split in tl.data.from_directory(photos).splits.items():
        c0, c1 = (sum(Path(p).parent.name == c for p in split.paths) for c in ("c0", "c1"))
        assert f"{name}: c0 {c0}, c1 {c1}" in said.splitlines()
    with pytest.raises(SystemExit, match="2"):
        program.parse(["fit", "x", "-q", "-v"])


API = """
import keras, numpy as np, tltoolkit as tl
pixels = keras.Input((8, 8, 3))
x = keras.layers.GlobalAveragePooling2D()(pixels)
model = keras.Model(pixels, keras.layers.Dense(2)(x))
data = tl.data.from_arrays(np.zeros((12, 8, 8, 3), np.uint8) + np.arange(12, dtype=np.uint8)
    [:, None, None, None], np.arange(12) % 2)
tl.fine_tune(model, data, tl.Plan((tl.Stage("a", epochs=2, learning_rate=1e-2),)), "none")
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_api_draws_bars_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exec(API, {})
    said = capsys.readouterr().out
    lines = [line.partition(":")[0] for line in said.splitlines()]
    assert lines == ["Stage 1", "Epoch 1/2", "Epoch 2/2"]
    assert "\x1b" not in said
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    exec(API, {})
    assert "\x1b" in terminal.getvalue() or "\x08" in terminal.getvalue()


class Paper(io.StringIO):
    """Standard output that remembers what it held at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue().count("\n"))


def test_rows_are_flushed_as_they_are_known(photos: Path, trained: Path) -> None:
    paper = Paper()
    args = program.parse(["predict", str(trained), str(photos), "--batch-size", "4"])
    assert predict.run(args, paper) == 0
    assert paper.seen == list(range(2, 22))


def test_what_is_no_image_in_a_folder_is_skipped_and_counted(
    photos: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    whole = (photos / "c0" / "00.png").read_bytes()
    (mixed / "a.png").write_bytes(whole)
    (mixed / "notes.txt").write_text("hello")
    (mixed / "table").write_text("BMW,1")
    (mixed / "empty.csv").write_text("")
    (mixed / ".hidden").write_text("x")
    assert main(["predict", str(trained), str(mixed)]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert said.err == "tltoolkit: skipped in folders: 1 hidden, 3 no image\n"
    # Damage to what was to be an image is no such thing.
    (mixed / "cut.dat").write_bytes(whole[:200])
    (mixed / "broken.jpg").write_text("hello")
    assert main(["predict", str(trained), str(mixed), "--json"]) == 3
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [Path(row["image"]).name for row in rows if "error" in row] == ["broken.jpg", "cut.dat"]
    assert said.err.endswith("tltoolkit: 2 of 3 images could not be read\n")
    # Nor is a file that is named itself.
    assert main(["predict", str(trained), str(mixed / "notes.txt")]) == 3


def test_a_predictor_takes_bytes_pillow_images_and_grey_arrays(trained: Path) -> None:
    predictor = tl.load(trained)
    image = pixels(1)[0]
    grey = image[..., 0]
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    turned = Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned clockwise before it is shown
    tall = np.repeat(grey[..., None], 3, axis=2)
    given = {
        "bytes": (file.getvalue(), image),
        "pillow": (Image.fromarray(image), image),
        "pillow, grey": (Image.fromarray(grey), tall),
        "pillow, with alpha": (Image.fromarray(image).convert("RGBA"), image),
        "pillow, turned": (turned, image),
        "grey (H, W)": (grey, tall),
        "grey (H, W, 1)": (grey[..., None], tall),
    }
    for name, (one, array) in given.items():
        said, expected = predictor.predict([one, array])
        assert said.probabilities == expected.probabilities, name


def test_one_image_in_place_of_several_is_refused(trained: Path) -> None:
    predictor = tl.load(trained)
    image = pixels(1)[0]
    for one in (image, image[..., 0], image[..., :1], b"\xff\xd8", Image.fromarray(image), "a.jpg"):
        with pytest.raises(ValueError, match=r"`images` must be a sequence .* \[image\]"):
            predictor.predict(one)
    assert len(predictor.predict(pixels(3))) == 3
    assert len(predictor.predict(pixels(3)[..., 0])) == 3
    answers = list(predictor.stream([b"no image", image]))
    assert answers[0].name == "images[0]"


def test_a_pipe_that_is_closed_after_some_rows_is_told_by_the_exit_code(
    photos: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    ours, theirs = os.pipe()
    rows: list[str] = []

    def read() -> None:
        with open(ours) as file:
            rows.append(file.readline())

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        # More than a pipe holds, should the reader be slow.
        assert main(["predict", str(trained), *[str(photos)] * 50, "--batch-size", "20"]) == 141
    monkeypatch.undo()
    reader.join()
    assert rows[0].startswith("image,label")
    assert capsys.readouterr().err == ""


def test_closed_pipes_end_quietly(photos: Path, tmp_path: Path) -> None:
    # Both streams, as in `2>&1 | head -1`.
    run = fit(photos, "piped")
    run[run.index("--run-dir") + 1] = str(tmp_path / "run")
    (tmp_path / "long.yaml").write_text(PLAN.replace("epochs: 3", "epochs: 300"))
    run[run.index("--plan") + 1] = str(tmp_path / "long.yaml")
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    command = [sys.executable, "-m", "tltoolkit", *run]
    with subprocess.Popen(command, stderr=subprocess.STDOUT, **pipes) as child:
        assert child.stdout.readline() == "Stage 1: head, unfreeze='head'\n"
        child.stdout.close()
        assert child.wait(120) == 141


def test_the_exit_codes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 failure, 2 wrong usage or input, 3 done but images were unreadable" in said
