"""Labels and settings made to break: refused with a clear word before the first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tltoolkit as tl

pytestmark = pytest.mark.usefixtures("shallow")

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(12) % 2
STAGE = tl.Plan((tl.Stage("head", epochs=1),))


def arrays(labels: Any, **options: Any) -> tl.data.ImageData:
    return tl.data.from_arrays(IMAGES, labels, **options)


def dated() -> Any:
    return np.array(["2020-01-01", "2021-01-01"] * 6, "datetime64[D]")


HOSTILE_LABELS: dict[str, tuple[Callable[[], Any], str]] = {
    "a class number without end": (lambda: [0, 1] * 5 + [10**12] * 2, "`labels` must be class num"),
    "the largest integer": (lambda: np.array([0, 2**64 - 1] * 6, "uint64"), "`labels` must be"),
    "the smallest integer": (lambda: np.array([0, -(2**63)] * 6), "`labels` must be class numbers"),
    "larger than any type": (lambda: [0, 2**70] * 6, "class numbers 0..C-1 or texts"),
    "NaN": (lambda: [0.0, float("nan")] * 6, "class numbers 0..C-1 or texts"),
    "infinite": (lambda: [1.0, float("inf")] * 6, "class numbers 0..C-1 or texts"),
    "None": (lambda: ["a", None] * 6, "class numbers 0..C-1 or texts"),
    "bytes": (lambda: [b"a", b"b"] * 6, "class numbers 0..C-1 or texts"),
    "complex": (lambda: LABELS * 1j, "class numbers 0..C-1 or texts"),
    "dates": (dated, "class numbers 0..C-1 or texts"),
    "text and numbers": (lambda: np.array(["a", 1] * 6, object), "class numbers 0..C-1 or texts"),
    "lists of different length": (lambda: [[1], [1, 0]] * 6, r"of the shape \(N,\) or \(N, C\)"),
    "one number": (lambda: 3, r"of the shape \(N,\) or \(N, C\)"),
    "NaN rows": (lambda: np.full((12, 2), np.nan), "zeros and ones"),
    "negative rows": (lambda: np.full((12, 2), -1), "zeros and ones"),
    "empty rows": (lambda: np.zeros((12, 0)), "at least one class is needed"),
    "a name with a path": (lambda: ["a", "../../etc"] * 6, "without slashes"),
    "a name that is no text": (lambda: ["a", "\udcff"] * 6, "valid text without slashes"),
    "blank names": (lambda: ["a", "\n\t "] * 6, "texts that are not blank"),
    "each image its own class": (lambda: np.arange(12), "every class needs at least 2 images"),
}


@pytest.mark.parametrize("kind", HOSTILE_LABELS)
def test_hostile_labels_are_refused(kind: str) -> None:
    labels, message = HOSTILE_LABELS[kind]
    with pytest.raises(ValueError, match=message):
        arrays(labels())


TABLES = {
    "a path that ends early": (
        "path,label\na.png\0,x\n",
        "1 of 1 images of the table do not exist",
    ),
    "no image": ("path,label\n,x\n,x\n", "no image in column 'path' of 2 rows"),
    "no label": ("path,label\na.png,\nb.png,x\n", "no label in column 'label' of 1 rows"),
    "an open quote": ('"path,label\na.png,x\n', "cannot read the table"),
    "no rows": ("label,path\n", "the table has no rows"),
    "a class above": ("path,label\na.png,../x\nb.png,../x\n", "without slashes"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_hostile_tables_are_refused(kind: str, tmp_path: Path) -> None:
    text, message = TABLES[kind]
    for name in ("a", "b"):
        keras.utils.save_img(tmp_path / f"{name}.png", IMAGES[0], scale=False)
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        tl.data.from_table(tmp_path / "t.csv", val=0)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tl.build_classifier(class_names=("0", "1"), weights=None, image_size=32)


HOSTILE_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "data as arrays": ({"data": (IMAGES, LABELS)}, "`data` must be an ImageData"),
    "three classes": (
        {"data": lambda: arrays(np.arange(12) % 3, val=0)},
        "data with the model's classes",
    ),
    "several labels": (
        {"data": lambda: arrays(np.eye(2, dtype=int)[LABELS], multi_label=True, val=0)},
        "multi_label=False, as the model",
    ),
    "no batch": ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    "NaN batch": ({"batch_size": float("nan")}, "`batch_size` must be an integer >= 1"),
    "seed of text": ({"seed": "0; import os"}, "`seed` must be an integer"),
    "unknown plan": ({"plan": "__import__('os')"}, "`plan` must be one of"),
    "unknown preset": ({"augment": "../strong"}, "`augment` must be one of"),
    "no memory": ({"cache_gb": float("inf")}, "`cache_gb` must be a finite number"),
    "callback of text": ({"callbacks": ["print"]}, "`callbacks` must be Keras callbacks"),
}


@pytest.mark.parametrize("kind", HOSTILE_RUNS)
def test_hostile_arguments_are_refused_before_the_first_step(
    kind: str, model: keras.Model, tmp_path: Path
) -> None:
    changes, message = HOSTILE_RUNS[kind]
    options = {"data": arrays(LABELS, val=0), "plan": STAGE, "augment": "none", **changes}
    made = options.pop("data")
    before = [w.copy() for w in model.get_weights()]
    with pytest.raises((ValueError, TypeError), match=message):
        tl.fine_tune(model, made() if callable(made) else made, **options, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
