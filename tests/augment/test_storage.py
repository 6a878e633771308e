import albumentations as A  # noqa: N812
import numpy as np
import pytest
import yaml

from tltoolkit import augment
from tltoolkit.augment import Pipeline

HEAD = "image_size: 8\nseed: 0\nfit: squash\ntransforms: "


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def unchanged(image, **parameters):
    return image


class Seeded:
    """Takes random states as a transform of albumentations does, and is none."""

    def set_random_state(self, *states):
        pass

    def __call__(self, image):
        return {"image": image}

    def __repr__(self):
        return "Seeded"


@pytest.mark.parametrize(
    "transforms",
    [
        None,
        [],
        A.Compose([A.Affine(rotate=20, shear=5), A.PadIfNeeded(60, 60)], p=0.7, seed=3),
        [A.SomeOf([A.Blur(p=1), A.RandomRotate90(), A.Sequential([A.ToSepia()], p=0.4)], n=2)],
        [A.SelectiveChannelTransform([A.MedianBlur(p=1)], channels=[1], p=0.5), A.RGBShift()],
        [A.OneOrOther(A.CLAHE(), A.SafeRotate(limit=(-7, 3)))],
        A.RandomCrop(16, 16),
        [augment.GlobalContrast(scale=50, p=0.5), augment.LocalContrast(window=5)],
    ],
)
def test_round_trip(transforms):
    pipeline = Pipeline(transforms, 24, seed=11, fit="crop")
    again = Pipeline.from_yaml(pipeline.to_yaml())
    assert (again.image_size, again.seed, again.fit) == (24, 11, "crop")
    for i in range(30):
        np.testing.assert_array_equal(again(image(i), 1, i), pipeline(image(i), 1, i))
    assert Pipeline.from_yaml(again.to_yaml()).to_yaml() == again.to_yaml()


def test_the_text_is_plain_yaml():
    content = yaml.safe_load(Pipeline([A.HorizontalFlip(p=0.25)], 24, seed=11).to_yaml())
    assert content["seed"] == 11
    assert content["transforms"]["Compose"]["transforms"] == [{"HorizontalFlip": {"p": 0.25}}]


def test_parameters_may_be_left_out():
    pipeline = Pipeline.from_yaml(HEAD + "{VerticalFlip: {p: 1}}")
    np.testing.assert_array_equal(pipeline(image()), augment.resize(image()[::-1], 8))


@pytest.mark.parametrize(
    ("transforms", "said"),
    [
        (unchanged, "only transforms of albumentations and of tltoolkit.augment"),
        (Seeded(), "only transforms of albumentations and of .* Received: Seeded"),
        (A.Lambda(image=unchanged, p=1), "only transforms of albumentations"),
        ([type("HorizontalFlip", (A.VerticalFlip,), {})()], "only transforms of albumentations"),
        ([A.Equalize(mask=np.zeros((4, 4)))], "the parameter mask=array"),
    ],
)
def test_what_cannot_be_written_is_an_error(transforms, said):
    pipeline = Pipeline(transforms, 24)
    with pytest.raises(ValueError, match=said):
        pipeline.to_yaml()
    assert repr(pipeline).startswith("Pipeline(image_size=24, ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("!!python/object/apply:os.system ['true']", "must be plain YAML: could not determine"),
        (HEAD + "!!python/name:os.system", "must be plain YAML"),
        (HEAD + "{os.system: {}}", "must be made of albumentations' transforms. .*'os.system'"),
        (HEAD + "{core.composition.Compose: {}}", "must be made of albumentations' transforms"),
        (HEAD + "{Lambda: {p: 1}}", "must be made of albumentations' transforms"),
        (HEAD + "{BboxParams: {format: coco}}", "must be made of albumentations' transforms"),
        (HEAD + "{__builtins__: {}}", "must be made of albumentations' transforms"),
        (HEAD + "{1: {}}", "must be made of albumentations' transforms"),
        (HEAD + "{HorizontalFlip: {p: 2}}", "transforms.HorizontalFlip: 1 validation error"),
        (HEAD + "{HorizontalFlip: {q: 1}}", "`a parameter of HorizontalFlip` must be 'p'"),
        (HEAD + "{HorizontalFlip: [1]}", "`transforms.HorizontalFlip` must be a mapping"),
        (HEAD + "{HorizontalFlip: {}, Blur: {}}", "must be a mapping of one class name"),
        (HEAD + "[HorizontalFlip]", "must be a mapping of one class name"),
        (HEAD + "{RandomCrop: {}}", "transforms.RandomCrop: 2 validation errors"),
        (HEAD + "{OneOf: {p: 1}}", "`transforms.OneOf.transforms` must be a list"),
        (HEAD + "{Compose: {transforms: [{Blur: {blur_limit: {}}}]}}", "transforms.Blur: "),
        (HEAD.replace("8", "-8") + "null", "`image_size` must be an integer >= 1"),
        (HEAD.replace("squash", "[]") + "null", "`fit` must be one of"),
        ("image_size: 8", "YAML with the keys fit, image_size, seed, transforms"),
        ("[1, 2", "must be plain YAML"),
        ("", "YAML with the keys"),
        ("a: &a [1]\nb: *a", "must be YAML without references"),
        ("[" * 5000 + "]" * 5000, "at most 40 levels deep"),
    ],
)
def test_hostile_or_broken_text_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        Pipeline.from_yaml(text)


def test_only_text_is_read(tmp_path):
    with pytest.raises(TypeError, match="`text` must be the YAML text of a pipeline"):
        Pipeline.from_yaml(tmp_path / "pipeline.yaml")
