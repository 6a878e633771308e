import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import albumentations as A  # noqa: N812
import numpy as np
import pytest

from tltoolkit import augment
from tltoolkit.augment import Pipeline


def noise(height=40, width=50, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def results(pipeline, n=20, epoch=0):
    return np.stack([pipeline(noise(), epoch, i) for i in range(n)])


def test_no_transforms_is_the_resize():
    np.testing.assert_array_equal(Pipeline(None, 16)(noise()), augment.resize(noise(), 16))
    np.testing.assert_array_equal(
        Pipeline(None, 16, fit="pad")(noise()), augment.resize(noise(), 16, "pad")
    )


def test_random_numbers_depend_on_seed_epoch_and_index_alone():
    pipeline = Pipeline([A.RandomCrop(20, 20), A.ColorJitter()], 20, seed=3)
    first = results(pipeline)
    np.testing.assert_array_equal(results(pipeline)[::-1], first[::-1])
    np.testing.assert_array_equal(pipeline(noise(), 0, 7), first[7])
    for other in (results(pipeline, epoch=1), results(Pipeline(pipeline.transforms, 20, seed=4))):
        assert not any((a == b).all() for a, b in zip(first, other, strict=True))


def test_threads_and_processes_give_the_same():
    pipeline = augment.preset("strong", 24, seed=1)
    expected = results(pipeline)
    for kind in (ThreadPoolExecutor(4), _processes()):
        with kind as pool:
            drawn = pool.map(pipeline, [noise()] * 20, [0] * 20, range(20))
            np.testing.assert_array_equal(np.stack(list(drawn)), expected)


def _processes():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def test_a_compose_is_used_as_it_is_and_left_alone():
    compose = A.Compose([A.HorizontalFlip(p=1), A.Resize(16, 16)], seed=5)
    before = copy.deepcopy(compose.random_generator.bit_generator.state)
    expected = A.Resize(16, 16)(image=noise()[:, ::-1])["image"]
    np.testing.assert_array_equal(Pipeline(compose, 16)(noise()), expected)
    assert compose.random_generator.bit_generator.state == before


def test_a_single_transform_and_plain_callables():
    flipped = augment.resize(noise()[:, ::-1], 16)
    for transforms in (
        A.HorizontalFlip(p=1),
        lambda image: image[:, ::-1],
        lambda image: {"image": image[:, ::-1]},
    ):
        np.testing.assert_array_equal(Pipeline(transforms, 16)(noise()), flipped)


def test_a_callable_with_rng_is_reproducible():
    def shift(image, rng):
        return np.roll(image, rng.integers(50), axis=1)

    pipeline = Pipeline(shift, 50, seed=2)
    np.testing.assert_array_equal(results(pipeline), results(pipeline))
    assert len({image.tobytes() for image in results(pipeline)}) > 10


def test_flips_of_equal_probability_are_independent():
    pipeline = Pipeline([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)], 2)
    corner = np.zeros((2, 2, 3), np.uint8)
    corner[0, 0] = 255
    places = [pipeline(corner, 0, i)[..., 0].argmax() for i in range(400)]
    np.testing.assert_allclose(np.bincount(places) / 400, 0.25, atol=0.06)


def test_the_result_always_has_the_size():
    for transforms in ([A.CenterCrop(10, 30)], [A.Resize(7, 9)], [A.Transpose(p=1)], []):
        assert Pipeline(transforms, 33)(noise()).shape == (33, 33, 3)


def test_pickled_before_and_after_use():
    pipeline = augment.preset("medium", 16, seed=9)
    fresh = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(results(fresh), results(pipeline))
    np.testing.assert_array_equal(results(pickle.loads(pickle.dumps(pipeline))), results(pipeline))


def test_it_prints_what_it_does():
    pipeline = Pipeline([A.HorizontalFlip(p=0.3), A.OneOf([A.Blur(), A.ToGray(p=0.1)])], 32, seed=7)
    assert repr(pipeline) == (
        "Pipeline(image_size=32, seed=7, fit='squash', transforms=Compose([\n"
        "    HorizontalFlip(p=0.3),\n"
        "    OneOf([\n"
        "        Blur(),\n"
        "        ToGray(p=0.1),\n"
        "    ]),\n"
        "]))"
    )
    assert repr(Pipeline(None, 8)) == "Pipeline(image_size=8, seed=0, fit='squash')"
    assert "results" in repr(Pipeline(results, 8))
    assert "mask=array" in repr(Pipeline([A.Equalize(mask=np.ones((2, 2)))], 8))


def test_wrong_images_are_errors():
    pipeline = Pipeline(None, 8)
    with pytest.raises(ValueError, match=r"Received: image=float32 array .* values 0 to 255"):
        pipeline(np.array([0, 255, 0], np.float32).reshape(1, 1, 3))
    normalised = Pipeline([A.Normalize()], 8)
    with pytest.raises(ValueError, match=r"after the transforms; leave out Normalize.*float32"):
        normalised(noise())


def test_wrong_settings_are_errors():
    with pytest.raises(ValueError, match="`image_size` must be an integer >= 1"):
        Pipeline(None, 0)
    with pytest.raises(ValueError, match="`seed` must be an integer >= 0"):
        Pipeline(None, 8, seed=-1)
    with pytest.raises(ValueError, match="`fit` must be one of"):
        Pipeline(None, 8, fit="fill")
    with pytest.raises(TypeError, match=r"`transforms` must be None, a list .*'medium'"):
        Pipeline("medium", 8)
    with pytest.raises(TypeError, match="`transforms` must be a list of albumentations transforms"):
        Pipeline([results], 8)


def test_views():
    pipeline = augment.preset("light", 16)
    views = augment.views(noise(), pipeline, 3, index=5)
    assert views.shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(views[0], augment.resize(noise(), 16))
    np.testing.assert_array_equal(views[2], pipeline(noise(), 2, 5))
    augmented = augment.views(noise(), pipeline, 2, index=5, plain=False)
    np.testing.assert_array_equal(augmented[0], pipeline(noise(), 0, 5))
    with pytest.raises(ValueError, match="`n` must be an integer >= 1"):
        augment.views(noise(), pipeline, 0)


def brighter(image: np.ndarray, **_: object) -> np.ndarray:
    return image + 1


class WithTable(A.ImageOnlyTransform):
    """A transform of somebody's own, with parameters that compare in odd ways."""

    def __init__(self, function: object = None, table: object = (1, 2), p: float = 0.5) -> None:
        super().__init__(p=p)
        self.function, self.table = function, table

    def apply(self, img: np.ndarray, **_: object) -> np.ndarray:
        return img


@pytest.mark.parametrize(
    ("transforms", "shown"),
    [
        ([A.Lambda(image=brighter)], "Lambda(image=<function brighter>)"),
        ([A.Lambda(name="b", image=brighter)], "Lambda(name='b', image=<function brighter>)"),
        ([A.OneOf([A.Lambda(image=brighter), A.Blur()])], "Lambda(image=<function brighter>)"),
        (A.SomeOf([A.Lambda(mask=brighter), A.Blur()], n=1), "Lambda(mask=<function brighter>)"),
        (A.Lambda(image=brighter), "Lambda(image=<function brighter>)"),
        (brighter, "transforms=<function brighter>"),
        ([A.FDA(reference_images=["a.png"])], "FDA(reference_images=['a.png'])"),
        ([A.HistogramMatching()], "HistogramMatching()"),
        ([WithTable(brighter, np.eye(2))], "function=<function brighter>, table=array([[1., 0.],"),
        ([WithTable(table=[1, 2])], "WithTable()"),
    ],
)
def test_everything_prints_the_same_in_every_process(transforms: object, shown: str) -> None:
    pipeline = Pipeline(transforms, 8)
    assert shown in repr(pipeline)
    # A run is compared by this text when it goes on in another process.
    assert " at 0x" not in repr(pipeline)
    assert repr(pipeline) == repr(Pipeline(copy.deepcopy(transforms), 8))


@pytest.mark.parametrize(
    "transforms", [[A.Lambda(image=brighter)], [A.OneOf([A.Lambda(image=brighter)])], [A.FDA()]]
)
def test_what_cannot_be_written_as_yaml_is_a_value_error(transforms: list[object]) -> None:
    with pytest.raises(ValueError, match="can(not)? be written as YAML"):
        Pipeline(transforms, 8).to_yaml()
