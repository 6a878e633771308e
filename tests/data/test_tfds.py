"""from_tfds: data sets that TensorFlow Datasets writes to disk here, and its image folders."""

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from tltoolkit.data import from_tfds
from tltoolkit.data.records import TFRecords, spooled
from tltoolkit.data.spool import Spool

COUNTS = {"train": 60, "test": 20, "extra": 5}


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Small images of random pixels, told apart by their first one."""

    VERSION = tfds.core.Version("1.0.0")
    name = "tltoolkit_test_shapes"
    code_path = Path(__file__)  # pytest's way of importing hides it

    def _info(self) -> tfds.core.DatasetInfo:
        classes = tfds.features.ClassLabel(names=["/b/round", "a flat", "never"])
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": classes,
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["x", "y"])),
            "float": tfds.features.Image(shape=(2, 2, 1), dtype=np.float32),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: str) -> Any:
        start = list(COUNTS).index(split) * 100
        for i in range(start, start + COUNTS[split]):
            yield (
                i,
                {
                    "image": picture(i),
                    "label": -1 if split == "train" and i >= 58 else i % 2,
                    "tags": [tag for tag in (0, 1) if i >> tag & 1],
                    "float": np.zeros((2, 2, 1), np.float32),
                },
            )


def picture(i: int) -> np.ndarray:
    image = np.random.default_rng(i).integers(0, 256, (5 + i % 3, 4, 3), np.uint8)
    image[0, 0] = i % 256, i // 256, 0
    return image


def number(image: np.ndarray) -> int:
    return int(image[0, 0, 0]) + 256 * int(image[0, 0, 1])


@pytest.fixture(scope="module", params=["tfrecord", "array_record", "parquet"])
def builder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    made = Shapes(data_dir=folder, file_format=request.param)
    made.download_and_prepare()
    return made


def test_every_file_format_has_random_access(builder: Any) -> None:
    data = from_tfds(builder, val=0.25)
    assert data.class_names == ("b_round", "a flat")
    assert data.skipped == {"in split extra": 5, "without a label": 2}
    assert len(data.train) + len(data.val) == 58
    assert 5 < len(data.val) < 25
    assert len(data.test) == 20
    for split in data.splits.values():
        order = np.random.default_rng(0).permutation(len(split)).tolist() * 20
        with ThreadPoolExecutor(8) as pool:
            for i, image in zip(order, pool.map(split.image, order), strict=True):
                np.testing.assert_array_equal(image, picture(number(image)))
                assert split.labels[i] == number(image) % 2
        assert len({number(split.image(i)) for i in range(len(split))}) == len(split)
    assert data.test.paths == (None,) * 20
    assert data.test.name(3) == "test[3]"
    assert data.check() is data
    assert len(list(data.kfold(3))) == 3


def test_by_name(builder: Any) -> None:
    data = from_tfds("tltoolkit_test_shapes", data_dir=Path(builder.data_path).parents[1])
    again = from_tfds(builder)
    assert [data.train.name(i) for i in range(5)] == [again.train.name(i) for i in range(5)]


def test_from_its_folder(builder: Any) -> None:
    data = from_tfds(tfds.builder_from_directory(builder.data_path))
    assert data.class_names == ("b_round", "a flat")


def test_several_labels_per_image(builder: Any) -> None:
    data = from_tfds(builder, label="tags")
    assert data.multi_label
    assert data.class_names == ("x", "y")
    for i in range(len(data.train)):
        n = number(data.train.image(i))
        assert data.train.labels[i].tolist() == [n & 1, n >> 1 & 1]


def test_wrong_features_are_named(builder: Any) -> None:
    with pytest.raises(
        ValueError, match="`image` must be one of .*'image'.* Received: image='img'"
    ):
        from_tfds(builder, image="img")
    with pytest.raises(ValueError, match="`image` must be an image feature of 8 or 16 bits"):
        from_tfds(builder, image="float")
    with pytest.raises(ValueError, match="`label` must be a feature of classes"):
        from_tfds(builder, label="image")


def test_formats_without_random_access_are_copied_and_say_so(
    builder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    copied = builder.info.file_format == tfds.core.FileFormat.PARQUET
    with caplog.at_level(logging.INFO, "tltoolkit"):
        from_tfds(builder)
    told = "is stored as parquet, which has no random access: it is copied to a temporary file"
    assert (told in caplog.text) == copied
    if copied:
        with pytest.raises(ValueError, match="`spool_gb` must be larger: 0 examples"):
            from_tfds(builder, spool_gb=1e-9)
    with pytest.raises(ValueError, match="`spool_dir` must be a folder"):
        from_tfds(builder, spool_dir="/no/such")


def test_records_read_in_order_are_those_of_random_access(builder: Any) -> None:
    """Any format that TensorFlow Datasets reads by tf.data can be copied; so can TFRecord."""
    if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
        pytest.skip("about TFRecord files")
    paths = [str(path) for path in builder.info.splits["train"].filepaths]
    spool = Spool(1)
    spool.append(b"of another split")
    part, whole = spooled(spool, paths, builder.info.file_format), TFRecords(paths)
    assert len(part) == len(whole) == 60
    assert [part[i] for i in range(60)] == [whole[i] for i in range(60)]


def test_a_damaged_parquet_file_is_named(builder: Any, tmp_path: Path) -> None:
    if builder.info.file_format != tfds.core.FileFormat.PARQUET:
        pytest.skip("about Parquet files")
    path, whole = tmp_path / "cut.parquet", builder.info.splits["train"].filepaths[0].read_bytes()
    for content in (whole[:-50], whole[:4] + b"\xff" * 400 + whole[404:], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cut\.parquet cannot be read"):
            spooled(Spool(1), [str(path)], tfds.core.FileFormat.PARQUET)


@pytest.mark.skipif(importlib.util.find_spec("riegeli") is not None, reason="riegeli is here")
def test_a_format_without_its_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="format riegeli need the package riegeli"):
        spooled(Spool(1), [str(tmp_path / "a.riegeli")], tfds.core.FileFormat.RIEGELI)


def test_a_damaged_record_file_is_named(builder: Any, tmp_path: Path) -> None:
    (source,) = Path(builder.data_path).glob("*train*-of-*")
    if "tfrecord" not in source.name:
        pytest.skip("about TFRecord files")
    whole = TFRecords([str(source)])
    assert len(whole) == 60
    for cut in (5, 30, 1000):
        path = tmp_path / "cut.tfrecord"
        path.write_bytes(source.read_bytes()[:-cut])
        with pytest.raises(ValueError, match=r"cut\.tfrecord is cut off in its record \d+"):
            TFRecords([str(path)])
    path.write_bytes(b"not a record file, but some text" * 9)
    with pytest.raises(ValueError, match="is cut off in its record 0"):
        TFRecords([str(path)])


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    value = 0
    for split, count in (("train", 6), ("validation", 2), ("other", 1)):
        for class_name in ("b", "a"):
            (tmp_path / split / class_name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(picture(value)).save(tmp_path / split / class_name / f"{i}.png")
                value += 1
    return tmp_path


def test_a_folder_data_set(image_folder: Path) -> None:
    data = from_tfds(tfds.ImageFolder(str(image_folder)))
    assert data.class_names == ("a", "b")
    assert data.skipped == {"in split other": 2}
    assert (len(data.train), len(data.val), data.test) == (12, 4, None)
    for split in (data.train, data.val):
        for i in range(len(split)):
            assert Path(split.paths[i]).parent.name == split.label_text(i)
            np.testing.assert_array_equal(split.image(i), picture(number(split.image(i))))
    assert data.check() is data


def test_what_is_missing_is_named(tmp_path: Path, image_folder: Path) -> None:
    with pytest.raises(ValueError, match="tltoolkit_test_shapes is not in .*pass download=True"):
        from_tfds("tltoolkit_test_shapes", data_dir=tmp_path / "empty")
    with pytest.raises(ValueError, match="`name_or_builder` must be a data set of TensorFlow"):
        from_tfds("no_such_data_set_at_all", data_dir=tmp_path)
    with pytest.raises(TypeError, match="`name_or_builder` must be the name of a data set or"):
        from_tfds(3)
    folder = tfds.ImageFolder(str(image_folder))
    with pytest.raises(ValueError, match="`data_dir` goes with a name"):
        from_tfds(folder, data_dir=tmp_path)
    (image_folder / "train").rename(image_folder / "learn")
    with pytest.raises(ValueError, match="has no train split, only learn, other, validation"):
        from_tfds(tfds.ImageFolder(str(image_folder)))
    with pytest.raises(ValueError, match="`val` must be"):
        from_tfds(folder, val=2)


def test_a_data_set_can_be_prepared_on_the_way(tmp_path: Path) -> None:
    data = from_tfds("tltoolkit_test_shapes", data_dir=tmp_path, download=True)
    assert len(data.test) == 20
