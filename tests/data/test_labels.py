"""Labels in the forms that people keep them in: one-hot, columns of one, stated class orders."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import tltoolkit as tl
from tltoolkit.data import from_arrays, from_directory, from_stream, from_table

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (24, 8, 8, 3), np.uint8)
CLASSES = np.arange(24) % 3


def labels_of(data: tl.data.ImageData) -> np.ndarray:
    """The labels of all splits in the order of the source."""
    splits = data.splits.values()
    order = np.argsort(np.concatenate([split.indices for split in splits]))
    return np.concatenate([split.labels for split in splits])[order]


@pytest.mark.parametrize(
    "labels",
    [
        keras.utils.to_categorical(CLASSES),
        keras.utils.to_categorical(CLASSES).astype(bool),
        CLASSES[:, None],  # as keras.datasets.cifar10 has them
        CLASSES.astype(np.float32),
        CLASSES[:, None].astype(np.uint8),
        keras.utils.to_categorical(CLASSES).tolist(),
    ],
)
@pytest.mark.parametrize("source", ["arrays", "stream"])
def test_a_class_in_any_form_is_a_class(labels: object, source: str) -> None:
    if source == "arrays":
        data = from_arrays(IMAGES, labels, val=0.25)
    else:
        data = from_stream(zip(IMAGES, labels, strict=True), val=0.25)
    assert not data.multi_label
    assert data.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(labels_of(data), CLASSES)


@pytest.mark.parametrize("dtype", [int, float, bool])
@pytest.mark.parametrize("shape", [(24,), (24, 1)])
@pytest.mark.parametrize("source", ["arrays", "stream"])
def test_a_binary_column_is_two_classes(dtype: type, shape: tuple[int, ...], source: str) -> None:
    labels = (CLASSES > 0).astype(dtype).reshape(shape)
    if source == "arrays":
        data = from_arrays(IMAGES, labels, ["no", "yes"], val=0.25)
    else:
        data = from_stream(zip(IMAGES, labels, strict=True), ["no", "yes"], val=0.25)
    assert data.class_names == ("no", "yes")
    np.testing.assert_array_equal(labels_of(data), CLASSES > 0)


def test_texts_in_a_column() -> None:
    data = from_arrays(IMAGES, np.array([["b"], ["a"], ["c"]] * 8))
    assert data.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(labels_of(data), [1, 0, 2] * 8)


@pytest.mark.parametrize("source", ["arrays", "stream"])
def test_several_labels_can_be_stated(source: str) -> None:
    def load(labels: np.ndarray, *args: object, **options: object) -> tl.data.ImageData:
        if source == "arrays":
            return from_arrays(IMAGES, labels, *args, **options)
        return from_stream(zip(IMAGES, labels, strict=True), *args, **options)

    one_each = keras.utils.to_categorical(CLASSES).astype(int)
    assert load(one_each, multi_label=True).multi_label
    np.testing.assert_array_equal(labels_of(load(one_each, multi_label=True)), one_each)
    column = one_each[:, :1]
    for data in (load(column, multi_label=True), load(column, ["here"])):
        assert data.multi_label
        np.testing.assert_array_equal(labels_of(data), column)
    some_without = one_each * (np.arange(24) > 5)[:, None]
    assert load(some_without).multi_label
    np.testing.assert_array_equal(labels_of(load(some_without)), some_without)


def test_labels_that_are_not_what_was_stated() -> None:
    several = np.ones((24, 3), int)
    with pytest.raises(ValueError, match=r"rows with a single one each with multi_label=False"):
        from_arrays(IMAGES, several, multi_label=False)
    with pytest.raises(ValueError, match=r"shape \(N, C\) with multi_label=True"):
        from_arrays(IMAGES, CLASSES, multi_label=True)
    with pytest.raises(ValueError, match="`multi_label` must be one of None, True, False"):
        from_arrays(IMAGES, CLASSES, multi_label="yes")


def folder_of(root: Path, names: list[str], each: int = 4) -> Path:
    """A folder a class, each image in the colour of its class."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", (8, 8), (number * 20, i, 0)).save(root / name / f"{i}.png")
    return root


def perfect_model(classes: int) -> keras.Model:
    """Scores of a model that knows each class by the red of `folder_of`, in text order."""
    red = keras.layers.GlobalAveragePooling2D()
    head = keras.layers.Dense(classes, "softmax")
    model = keras.Sequential([keras.Input((8, 8, 3)), red, head])
    centres = np.arange(classes, dtype=np.float32) * 20
    # The nearest centre c has the largest 2 r c - c^2.
    head.set_weights([np.stack([2 * centres, 0 * centres, 0 * centres]), -(centres**2)])
    return model


def test_the_order_of_numeric_folders_can_be_that_of_keras(tmp_path: Path) -> None:
    names = [str(n) for n in range(1, 12)]
    as_text = sorted(names)  # 1, 10, 11, 2, ...
    root = folder_of(tmp_path / "photos", as_text)
    theirs = keras.utils.image_dataset_from_directory(root, image_size=(8, 8), verbose=False)
    assert theirs.class_names == as_text
    model = perfect_model(len(names))
    data = from_directory(root, val=0, class_names=theirs.class_names)
    assert data.class_names == tuple(as_text)
    assert tl.evaluate(model, data.train).accuracy == 1
    # Without, classes come by value; that is said where the model has an order of its own.
    plain = from_directory(root, val=0)
    assert plain.class_names == tuple(names)
    with pytest.warns(UserWarning, match=r"in the order 1, 2, .* would have taken 1, 10, 11, 2"):
        assert tl.evaluate(model, plain.train).accuracy < 0.5


def test_a_stated_order_of_a_folder_and_a_table(tmp_path: Path, recwarn: object) -> None:
    root = folder_of(tmp_path / "photos", ["a", "b", "c"])
    rows = [f"{name}/{i}.png,{name}" for name in "abc" for i in range(4)]
    (root.parent / "t.csv").write_text("\n".join(["path,label", *rows]))
    for data in (
        from_directory(root, class_names=["c", "a", "b"]),
        from_table(root.parent / "t.csv", root=root, class_names=("c", "a", "b")),
    ):
        assert data.class_names == ("c", "a", "b")
        for split in data.splits.values():
            for i in range(len(split)):
                assert split.image(i)[0, 0, 0] == {"c": 40, "a": 0, "b": 20}[split.label_text(i)]
    for wrong in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(ValueError, match="`class_names` must be all classes of the training"):
            from_directory(root, class_names=wrong)
    with pytest.raises(ValueError, match="different from one another"):
        from_directory(root, class_names=["a", "b", "c", "a"])
    with pytest.raises(TypeError, match="`class_names` must be a list of names"):
        from_directory(root, class_names="abc")
