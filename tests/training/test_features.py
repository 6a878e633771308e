"""Stored activations: what they are, where they live, when they are used again."""

import gc
import os
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest

import tltoolkit as tl
from tltoolkit.layers import graph
from tltoolkit.training import caching, features
from tltoolkit.training.caching import Examples, Features, Wanted
from tltoolkit.training.features import Storage

SIZE, GIB = 16, 2**30


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Conv2D(4, 3, strides=2, name="conv")(pixels)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, keras.layers.Dense(2, name="scores")(x))


def images(count: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def split(count: int = 20, start: int = 0) -> tl.data.Split:
    pixels = images(start + count)[start:]
    return tl.data.from_arrays(pixels, np.arange(count) % 2, val=0.0).train


def examples(**options: int) -> Examples:
    source = split(**options)
    return Examples(source=source, targets=np.eye(2, dtype=np.float32)[source.labels])


@pytest.mark.parametrize("images_of_a_pass", [0, 10**6], ids=["as it is", "folded"])
def test_the_frozen_graph_computes_what_the_model_does(images_of_a_pass: int) -> None:
    whole = model()
    whole.get_layer("norm").moving_mean.assign([1.0, 2.0, 3.0, 4.0])
    cut = graph.output_of(whole, "norm")
    expected = keras.Model(whole.input, cut).predict(images(), verbose=0)
    found = features.frozen_function(whole, cut, images_of_a_pass)(images())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_each_view_is_the_pipeline_of_its_epoch() -> None:
    pipeline = tl.augment.preset("medium", SIZE, seed=3)
    source = examples()
    passes = [source.batches(pipeline, 6, epochs_from=view) for view in range(2)]
    stored = features.compute(lambda x: x.astype("float32"), passes, 20, Storage())
    for view in range(2):
        for i in range(20):
            expected = pipeline(source.source.image(i), view, i)
            np.testing.assert_array_equal(stored[view, i], expected)


def test_fed_epochs_take_turns_among_the_views_in_the_order_of_the_pixels() -> None:
    pipeline = tl.augment.Pipeline(None, SIZE)
    stored = np.arange(2 * 20, dtype=np.float32).reshape(2, 20, 1)
    targets = np.eye(20, dtype=np.float32)
    fed = features.feed(stored, targets, batch_size=8, seed=7)
    assert int(fed.cardinality()) == 3
    reference = tl.augment.Batches(split(), pipeline, shuffle=True, seed=7)
    for epoch in range(3):
        batches = list(fed.as_numpy_iterator())
        order = reference.order(epoch)
        got = np.concatenate([x[:, 0] for x, _ in batches])
        np.testing.assert_array_equal(got, 20 * (epoch % 2) + order)
        np.testing.assert_array_equal(np.concatenate([y.argmax(1) for _, y in batches]), order)


def test_float16_is_stored_and_float32_is_fed() -> None:
    storage = Storage(dtype="float16")
    stored = features.compute(lambda x: x / 3.0, [[(images(), None)]], 20, storage)
    assert stored.dtype == np.float16
    batch, _ = next(iter(features.feed(stored, np.zeros((20, 2), np.float32), 4, 0)))
    assert batch.dtype == "float32"
    np.testing.assert_allclose(stored[0], images() / 3.0, rtol=1e-3)


def test_what_exceeds_the_memory_goes_to_a_file_without_a_name(tmp_path: Path) -> None:
    shape = (2, 50, 100)
    storage = Storage(memory_gb=20_000 / GIB, directory=tmp_path)
    stored = storage.empty(shape, batch_size=4)
    assert isinstance(stored, np.memmap)
    assert not list(tmp_path.iterdir())
    stored[:] = np.arange(10_000, dtype=np.float32).reshape(shape)
    assert stored[1, 49, 99] == 9_999
    assert not isinstance(Storage(directory=tmp_path).empty(shape, 4), np.memmap)


def test_a_memory_too_small_for_one_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="`memory_gb` must be a number of GiB of at least"):
        Storage(memory_gb=1000 / GIB).empty((1, 50, 100), batch_size=32)


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    shape = (1, 2 * free // 4000, 1000)
    with pytest.raises(OSError, match="activations need .* GiB on disk"):
        Storage(memory_gb=0.001, directory=tmp_path).empty(shape, batch_size=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cache_views", "augmented", "epochs", "room", "expected"),
    [
        (None, False, 12, 1, 1),
        (None, True, 12, 100, 4),
        (None, True, 1, 100, 1),
        (None, True, 12, 2, 2),
        (None, True, 12, 0, 1),
        (0, True, 12, 100, 0),
        (6, True, 12, 1, 6),
        (6, False, 12, 1, 1),
    ],
)
def test_views_go_by_epochs_and_room(
    cache_views: int | None, augmented: bool, epochs: int, room: int, expected: int
) -> None:
    assert caching.choose_views(cache_views, augmented, epochs, 1000, room * 1000) == expected


def test_activations_are_used_again_only_while_all_they_depend_on_is_the_same() -> None:
    whole, source = model(), examples()
    cut, plain = graph.output_of(whole, "pool"), tl.augment.Pipeline(None, SIZE)
    stored = Features(storage=Storage())

    def get(**changed: object) -> np.ndarray:
        wanted = {"examples": source, "pipeline": plain, **changed}
        return stored.get(whole, cut, 8, [Wanted(**wanted)])[0]

    first = get()
    assert get() is first
    assert len(stored.kept) == 1
    mirrored = tl.augment.preset("light", SIZE, seed=1)
    for changed in (
        {"pipeline": mirrored},
        {"pipeline": tl.augment.preset("light", SIZE, seed=2)},
        {"pipeline": mirrored, "views": 2},
        {"examples": examples(start=5)},
    ):
        other = get(**changed)
        assert other.shape != first.shape or not np.array_equal(other, first)
        again = get()
        assert again is not first
        np.testing.assert_array_equal(again, first)
        first = again
    whole.get_layer("norm").gamma.assign([2.0, 2.0, 2.0, 2.0])
    assert not np.array_equal(get(), first)


def test_the_same_images_twice_are_computed_once() -> None:
    whole, stored = model(), Features(storage=Storage())
    wanted = Wanted(examples=examples(), pipeline=tl.augment.Pipeline(None, SIZE))
    first, second = stored.get(whole, graph.output_of(whole, "pool"), 8, [wanted, wanted])
    assert first is second


def test_what_lies_above_the_cut_does_not_matter() -> None:
    whole, stored = model(), Features(storage=Storage())
    cut, plain = graph.output_of(whole, "pool"), tl.augment.Pipeline(None, SIZE)
    wanted = [Wanted(examples=examples(), pipeline=plain)]
    first = stored.get(whole, cut, 8, wanted)[0]
    whole.get_layer("scores").bias.assign([1.0, 2.0])
    assert stored.get(whole, cut, 8, wanted)[0] is first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_gb": 0}, "`cache_gb` must be a finite number > 0"),
        ({"cache_dtype": "int8"}, "`cache_dtype` must be one of 'float32', 'float16'"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    data = tl.data.from_arrays(images(), np.arange(20) % 2)
    with pytest.raises(ValueError, match=message):
        tl.fine_tune(model(), data, "linear_probe", verbose=0, **options)


def test_a_fed_data_set_that_is_gone_frees_its_activations() -> None:
    stored, targets = np.zeros((1, 8, 3), np.float32), np.zeros((8, 2), np.float32)
    fed = features.feed(stored, targets, 4, 0)
    assert len(list(fed)) == 2
    freed = weakref.ref(fed.rows)
    del fed
    gc.collect()
    assert freed() is None


def test_no_data_set_waits_for_the_tuning_thread_of_tensorflow() -> None:
    stored, targets = np.zeros((1, 8, 3), np.float32), np.zeros((8, 2), np.float32)
    pixels = examples().batches(tl.augment.Pipeline(None, SIZE), 8).to_dataset()
    for dataset in (features.feed(stored, targets, 4, 0), pixels):
        assert dataset.options().autotune.enabled is False


def test_validation_activations_come_in_their_own_order() -> None:
    stored = np.arange(10, dtype=np.float32).reshape(1, 10, 1)
    fed = features.feed(stored, np.zeros((10, 2), np.float32), 4, None)
    for _ in range(2):
        got = np.concatenate([x[:, 0] for x, _ in fed.as_numpy_iterator()])
        np.testing.assert_array_equal(got, np.arange(10))
