"""Data sets of TensorFlow Datasets that lie on disk."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tltoolkit import _checks
from tltoolkit.data.assemble import SPLIT_NAMES, assemble, check_arguments, encode, tidy
from tltoolkit.data.decoding import MAX_PIXELS
from tltoolkit.data.images import ImageData
from tltoolkit.data.origin import remembered
from tltoolkit.data.records import Reader, Records, TFRecords, feature_bytes, parse, spooled
from tltoolkit.data.sources import Files, Source
from tltoolkit.data.split import SPLITS
from tltoolkit.data.spool import SPOOL_GB, Spool
from tltoolkit.data.terms import FROM_TFDS

_LOG = logging.getLogger(__name__)


@remembered
def from_tfds(
    name_or_builder: Any,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    image: str | None = None,
    label: str | None = None,
    on_bad: str = "error",
    duplicates: str = "error",
    max_pixels: int = MAX_PIXELS,
    spool_gb: float = SPOOL_GB,
    spool_dir: str | os.PathLike[str] | None = None,
) -> ImageData:
    """Labelled images of a TensorFlow Datasets data set, with random access.

    TFRecord and ArrayRecord files, and the folders of `tfds.ImageFolder`, are read in place;
    files of the other formats are copied first, as in `from_stream`, and a log line says so.
    Labels are read once, here; images when asked for, by `decode`. Splits other than train,
    validation and test, and images without a label (-1), are passed over and counted in
    `ImageData.skipped`. Classes keep the order of the data set; slashes in their names become "_".

    Args:
        name_or_builder: such as "beans" or "cifar10:3.0.2", or a `tfds.core.DatasetBuilder`.
        data_dir: where data sets lie, for a name; by default TensorFlow Datasets' own folder.
        download: download and prepare the data set if it is not there.
        val: fraction of the training images for val, 0 <= val < 1, if the data set has none, as
            in `from_directory`.
        test: the same for test.
        seed: of the splits that are made here, 0..2**32 - 1.
        image: the feature with the image; by default that of the builder's supervised keys.
        label: the feature with the class, or with a list of classes for several labels per image.
        on_bad: as in `from_directory`.
        duplicates: as in `from_directory`.
        max_pixels: images of more pixels than this are errors.
        spool_gb: as in `from_stream`, for the formats that are copied.
        spool_dir: the same.

    Raises:
        ValueError: an unknown data set or one that is not prepared, features that are not an 8-
            or 16-bit image and classes, or a wrong argument.
        ImportError: the package that reads the file format is missing.
    """
    splitting = check_arguments(FROM_TFDS, locals())
    builder = _builder(name_or_builder, data_dir, download)
    image, label = _features(builder, image, label)
    class_names, multi_label = _classes(builder, label)
    skipped: Counter[str] = Counter()
    splits = _splits(builder, skipped)
    # One spool for all splits, so that `spool_gb` limits their sum.
    readers = _readers(builder, list(splits), Spool(spool_gb, spool_dir))
    found = [item for split in splits for item in _items(builder, readers, split, image, label)]
    # -1 is a label that the data set hides; where several are possible, none is a label too.
    items = [item for item in found if min(item.classes, default=0) >= 0]
    skipped["without a label"] = len(found) - len(items)
    split_numbers = np.array([splits[item.split] for item in items], np.int64)
    # Only those: a class that no image shows could not be learned.
    trained = {number for item in items if splits[item.split] == 0 for number in item.classes}
    labels, used_names = encode(
        [[class_names[number] for number in item.classes] for item in items],
        split_numbers,
        multi_label=multi_label,
        order=[class_names[number] for number in sorted(trained)],
    )
    return assemble(
        _source(readers, items, image, max_pixels),
        labels,
        used_names,
        split_numbers,
        **splitting,
        skipped=skipped,
    )


class _Item(NamedTuple):
    """One labelled image of a data set: its record, or its path."""

    split: str
    classes: list[int]
    number: int = 0
    size: int = 0
    path: str = ""


def _builder(name_or_builder: Any, data_dir: str | os.PathLike[str] | None, download: bool) -> Any:
    """The builder of a data set that is prepared."""
    import tensorflow_datasets as tfds

    if isinstance(name_or_builder, str):
        try:
            builder = tfds.builder(name_or_builder, data_dir=data_dir)
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            rule = "a data set of TensorFlow Datasets"
            raise _checks.fail("name_or_builder", rule, name_or_builder) from error
    else:
        rule = "the name of a data set or a tfds.core.DatasetBuilder"
        _checks.instance("name_or_builder", name_or_builder, tfds.core.DatasetBuilder, rule)
        if data_dir is not None:
            raise ValueError("`data_dir` goes with a name; a builder has a folder already")
        builder = name_or_builder
    # It reads the folder as it is: there is nothing to prepare.
    if isinstance(builder, tfds.ImageFolder):
        return builder
    if download:
        builder.download_and_prepare()
    if not builder.is_prepared():
        raise ValueError(f"{builder.name} is not in {builder.data_path}; pass download=True")
    return builder


def _features(builder: Any, image: str | None, label: str | None) -> tuple[str, str]:
    """The names of the image feature and of the label feature, checked."""
    import tensorflow_datasets as tfds

    keys = builder.info.supervised_keys or (None, None)
    image, label = image or keys[0], label or keys[1]
    features = builder.info.features
    for name, key in (("image", image), ("label", label)):
        _checks.one_of(name, key, list(features))
    kind = features[image]
    if not isinstance(kind, tfds.features.Image) or kind.np_dtype not in (np.uint8, np.uint16):
        raise _checks.fail("image", "an image feature of 8 or 16 bits", kind)
    return str(image), str(label)


def _classes(builder: Any, label: str) -> tuple[tuple[str, ...], bool]:
    """The class names of the label feature, and whether one image can have several."""
    import tensorflow_datasets as tfds

    feature = builder.info.features[label]
    several = isinstance(feature, tfds.features.Sequence)
    kind = feature.feature if several else feature
    if not isinstance(kind, tfds.features.ClassLabel):
        raise _checks.fail("label", "a feature of classes (ClassLabel)", feature)
    names = [kind.int2str(number) for number in range(kind.num_classes)]
    # Reports name files by class.
    return tuple(tidy(name.strip("/").replace("/", "_")) for name in names), several


def _splits(builder: Any, skipped: Counter[str]) -> dict[str, int]:
    """The number of each split of the data set that is train, val or test."""
    splits = {}
    for name, info in builder.info.splits.items():
        if name.casefold() in SPLIT_NAMES:
            splits[name] = SPLITS.index(SPLIT_NAMES[name.casefold()])
        else:
            skipped[f"in split {name}"] += info.num_examples
    if 0 not in splits.values():
        raise ValueError(
            f"{builder.name} has no train split, only {', '.join(builder.info.splits)}"
        )
    return splits


def _readers(builder: Any, splits: Sequence[str], spool: Spool) -> dict[str, Reader]:
    """Random access to the records of each split; none for a folder of image files."""
    import tensorflow_datasets as tfds

    if isinstance(builder, tfds.ImageFolder):
        return {}
    formats, file_format = tfds.core.FileFormat, builder.info.file_format
    paths = {
        split: [os.fspath(path) for path in builder.info.splits[split].filepaths]
        for split in splits
    }
    if file_format == formats.TFRECORD:
        return {split: TFRecords(paths[split]) for split in splits}
    if file_format == formats.ARRAY_RECORD:
        from array_record.python.array_record_data_source import (  # type: ignore[import-untyped]
            ArrayRecordDataSource,
        )

        return {split: ArrayRecordDataSource(paths[split]) for split in splits}
    _LOG.info(
        "%s is stored as %s, which has no random access: it is copied to a temporary file",
        builder.name,
        file_format.value,
    )
    return {split: spooled(spool, paths[split], file_format) for split in splits}


def _items(
    builder: Any, readers: dict[str, Reader], split: str, image: str, label: str
) -> Iterator[_Item]:
    if readers:
        return _record_items(readers[split], split, image, label)
    return _folder_items(builder, split, image, label)


def _record_items(reader: Reader, split: str, image: str, label: str) -> Iterator[_Item]:
    for number in range(len(reader)):
        example = parse(reader[number])
        classes = list(example.features.feature[label].int64_list.value)
        yield _Item(split, classes, number=number, size=len(feature_bytes(example, image)))


def _folder_items(builder: Any, split: str, image: str, label: str) -> Iterator[_Item]:
    import tensorflow_datasets as tfds

    # The path is all that is wanted, and comes beside the bytes of the file.
    decoders = {image: tfds.decode.SkipDecoding()}
    for example in tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)):
        path = os.path.abspath(os.fsdecode(example[f"{image}/filename"]))
        yield _Item(split, [int(example[label])], path=path)


def _source(
    readers: dict[str, Reader], items: Sequence[_Item], image: str, max_pixels: int
) -> Source:
    if not readers:
        return Files([item.path for item in items], max_pixels)
    places = [(item.split, item.number) for item in items]
    return Records(readers, places, [item.size for item in items], image, max_pixels)
