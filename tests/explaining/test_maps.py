"""Explanation maps against the model's own logits, loops, and images whose answer is known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

import tltoolkit as tl
from networks import Subclassed as Theirs
from networks import dense
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.data import ImageError
from tltoolkit.evaluation import Decision
from tltoolkit.layers.spatial import SpatialStatistics

SIZE = 16
NAMES = ("ant", "bee", "cow")
layers = keras.layers


def pixels(count: int = 4, side: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def model(head: Callable[[Any, Any], Any], seed: int = 0) -> keras.Model:
    """A head on two maps, (8, 8, 4) and (5, 5, 6): the sides are no multiples of one another."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((SIZE, SIZE, 3))
    low = layers.Conv2D(4, 3, 2, "same", activation="relu")(layers.Rescaling(1 / 255)(images))
    high = layers.MaxPooling2D(3, 2, "same")(layers.Conv2D(6, 3, padding="same")(low))
    high = layers.ZeroPadding2D(((1, 0), (1, 0)))(high)
    return keras.Model(images, head(low, high))


def logits(classifier: keras.Model, images: np.ndarray) -> np.ndarray:
    """Before the activation of a last dense layer, in double precision but for its inputs."""
    last = classifier.layers[-1]
    rows = np.asarray(keras.Model(classifier.input, last.input)(images), float)
    return rows @ np.asarray(last.kernel, float) + np.asarray(last.bias)


def biased(units: int, activation: str | None = None) -> Any:
    return layers.Dense(units, activation, bias_initializer="random_normal")


def statistics(*names: str) -> Callable[[Any, Any], Any]:
    def head(low: Any, high: Any) -> Any:
        parts = [SpatialStatistics(names)(low), SpatialStatistics(names)(high)]
        return biased(3)(layers.Dropout(0.3)(layers.Concatenate()(parts)))

    return head


def flattened(low: Any, high: Any) -> Any:
    return biased(3, "softmax")(layers.Flatten()(high))


def cells(low: Any, high: Any) -> Any:
    rows = [layers.Flatten()(layers.AdaptiveAveragePooling2D(n)(high)) for n in (2, 3)]
    return biased(3)(layers.Concatenate()([layers.GlobalAveragePooling2D()(high), *rows]))


def pooled(low: Any, high: Any) -> Any:
    rows = [layers.GlobalAveragePooling2D(keepdims=True)(high), layers.GlobalMaxPooling2D()(high)]
    rows = [layers.Flatten()(rows[0]), rows[1], keras.ops.mean(low, axis=(1, 2))]
    rows.append(keras.ops.max(layers.SpatialDropout2D(0.5)(low), axis=[1, 2]))
    return biased(3, "softmax")(layers.Concatenate()(rows))


def tokens(first: int) -> Callable[[Any, Any], Any]:
    def head(low: Any, high: Any) -> Any:
        rows = layers.Reshape((64, 4))(low)
        if first:  # one that stands for no place, as that of a vision transformer
            rows = layers.Concatenate(axis=1)([layers.Reshape((1, 4))(rows[:, 7]), rows])
        return biased(3)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(rows)))

    return head


HEADS: dict[str, Callable[[Any, Any], Any]] = {
    "mean": statistics("mean"),
    "std": statistics("std"),
    "max": statistics("max"),
    "all three": statistics("mean", "std", "max"),
    "flattened": flattened,
    "cells": cells,
    "pooled": pooled,
    "tokens": tokens(0),
    "tokens and one": tokens(1),
}


@pytest.mark.parametrize("kind", HEADS)
def test_evidence_and_bias_add_up_to_the_logit(kind: str) -> None:
    classifier, images = model(HEADS[kind]), pixels()
    targets = [2, 0, 1, 2]
    told = tl.explain(classifier, images, target=targets, by_block=True, batch_size=3)
    assert told.evidence.shape == told.images.shape[:3] == (4, SIZE, SIZE)
    assert told.targets == ("2", "0", "1", "2")
    sums = told.evidence.mean(axis=(1, 2)) + told.bias
    np.testing.assert_allclose(sums, logits(classifier, images)[range(4), targets], atol=1e-4)
    np.testing.assert_allclose(sum(told.by_block.values()), told.evidence, atol=1e-5)
    said = np.asarray(classifier(images))
    probabilities = said if "softmax" in str(classifier.layers[-1].activation) else softmax(said)
    np.testing.assert_allclose(told.probabilities, probabilities[range(4), targets], atol=1e-6)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("statistic", ["mean", "std", "max"])
def test_each_position_has_its_own_part_of_a_statistic(statistic: str) -> None:
    """By loops over positions, on a map of the size of the image, so that nothing is resized."""
    images = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(images)
    # In steps, so that the maximum is there more than once.
    x = layers.Conv2D(4, 1, bias_initializer="random_normal")(keras.ops.floor(2 * x) / 2)
    classifier = keras.Model(images, biased(3)(SpatialStatistics((statistic,))(x)))
    given = pixels(2, 8)
    maps = np.asarray(keras.Model(images, x)(given), float)
    weights = np.asarray(classifier.layers[-1].kernel)[:, 1]
    expected = np.zeros((2, 8, 8))
    for n, c in np.ndindex(2, 4):
        one = maps[n, :, :, c]
        deviation = np.sqrt(one.var() + 1e-6)
        for i, j in np.ndindex(8, 8):
            share = {
                "mean": one[i, j],
                "std": ((one[i, j] - one.mean()) ** 2 + 1e-6) / deviation,
                "max": one.max() * 64 / (one == one.max()).sum() * (one[i, j] == one.max()),
            }[statistic]
            expected[n, i, j] += weights[c] * share
    told = tl.explain(classifier, given, target=1)
    np.testing.assert_allclose(told.evidence, expected, atol=1e-4)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_speaks_for_two_classes(activation: str | None) -> None:
    classifier = model(
        lambda low, high: biased(1, activation)(layers.GlobalAveragePooling2D()(high))
    )
    images = pixels()
    one, other = (tl.explain(classifier, images, target=i) for i in (0, 1))
    np.testing.assert_allclose(one.evidence, -other.evidence, atol=1e-6)
    expected = logits(classifier, images)[:, 0]
    np.testing.assert_allclose(other.evidence.mean(axis=(1, 2)) + other.bias, expected, atol=1e-5)
    np.testing.assert_allclose(one.probabilities + other.probabilities, 1, atol=1e-6)
    said = tl.explain(classifier, images)
    assert said.targets == tuple("1" if value > 0 else "0" for value in expected)


def test_several_labels_explain_the_surest_or_the_one_asked_for() -> None:
    classifier = model(lambda low, high: biased(3, "sigmoid")(layers.GlobalMaxPooling2D()(high)))
    decision = Decision(multi_label=True)
    predictor = Predictor(model=classifier, class_names=NAMES, decision=decision)
    said = predictor.predict(list(pixels()))
    for told in (tl.explain(predictor, pixels()), tl.explain(classifier, pixels())):
        surest = [max(one.probabilities, key=one.probabilities.get) for one in said]
        numbers = [told.targets[i] for i in range(4)]
        assert numbers in (surest, [str(NAMES.index(name)) for name in surest])
    asked = ["cow", "ant", "cow", "bee"]
    told = tl.explain(predictor, pixels(), target=asked)
    assert list(told.targets) == asked
    columns = [NAMES.index(name) for name in asked]
    expected = logits(classifier, pixels())[range(4), columns]
    np.testing.assert_allclose(told.evidence.mean(axis=(1, 2)) + told.bias, expected, atol=1e-4)
    each = [one.probabilities[name] for one, name in zip(said, asked, strict=True)]
    np.testing.assert_allclose(told.probabilities, each, atol=1e-6)


OURS: dict[str, dict[str, Any]] = {
    "maximum": {"head": tl.Head(pooling="max")},
    "both": {"head": tl.Head(pooling="both")},
    "pyramid": {"head": tl.Head(pooling="pyramid")},
    "all blocks": {"head": tl.Head(taps="all", statistics=("mean", "std", "max"))},
    "dropped": {
        "head": tl.Head(taps=("block2", "block4"), statistics=("mean", "std")),
        "spatial_dropout": {"block2": 0.3, "block4": 0.3},
    },
    "several labels": {"head": tl.Head(taps=("block3",)), "multi_label": True},
}


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("kind", OURS)
def test_classifiers_of_the_toolkit(kind: str) -> None:
    options = OURS[kind]
    ours = tl.build_classifier(class_names=NAMES, weights=None, image_size=64, **options)
    last = ours.get_layer("logits")
    last.bias.assign([0.3, -0.2, 0.1])
    images = pixels(3, 40)
    told = tl.explain(ours, images, target=["cow", "ant", "bee"], by_block=True)
    assert told.images.shape == (3, 64, 64, 3)
    expected = keras.Model(ours.input, last.output).predict(told.images, verbose=0)
    sums = told.evidence.mean(axis=(1, 2)) + told.bias
    np.testing.assert_allclose(sums, expected[range(3), [2, 0, 1]], atol=1e-4)
    read = options["head"].taps
    known = [name for name in tl.blocks(ours) if name != "head"]
    assert list(told.by_block) == (
        known[-1:] if read is None else known if read == "all" else list(read)
    )
    np.testing.assert_allclose(sum(told.by_block.values()), told.evidence, atol=1e-4)


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_a_model_of_grey_images_in_half_precision(method: str) -> None:
    images = keras.Input((SIZE, SIZE, 1))
    how = {"dtype": "mixed_bfloat16"}
    x = layers.Conv2D(4, 3, activation="relu", **how)(layers.Rescaling(1 / 255, **how)(images))
    x = SpatialStatistics(("mean", "max"), dtype="float32")(x)
    classifier = keras.Model(images, layers.Dense(3)(x))
    told = tl.explain(classifier, pixels(), method, target=1)
    assert np.ptp(told.evidence, axis=(1, 2)).min() > 0
    if method == "cam":
        grey = [np.asarray(Image.fromarray(one).convert("L"))[..., None] for one in pixels()]
        sums = told.evidence.mean(axis=(1, 2)) + told.bias
        np.testing.assert_allclose(sums, logits(classifier, np.stack(grey))[:, 1], atol=1e-4)


# Do maps show what the classifier looks at?


CLASSES = ("red", "blue", "corner")


def scenes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with a red or blue thing somewhere beside the middle, or a mark in the first corner.

    Returns:
        Images (N, 24, 24, 3), classes (N,), and where the thing is (N, 24, 24).
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 160, (count, 24, 24, 3))
    labels = np.arange(count) % 3
    things = np.zeros((count, 24, 24), bool)
    for image, label, thing in zip(images, labels, things, strict=True):
        left, top = rng.choice([1, 2, 15, 16], 2) if label < 2 else (0, 0)
        thing[top : top + 6, left : left + 6] = True
        image[thing] += np.array([(90, -50, -50), (-50, -50, 90), (-60, 90, -60)][label])
    return images.clip(0, 255).astype(np.uint8), labels, things


@pytest.fixture(scope="module")
def trained() -> Predictor:
    keras.utils.set_random_seed(1)
    images = keras.Input((24, 24, 3))
    x = layers.Rescaling(1 / 64, -2)(images)
    for width in (8, 12):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    classifier = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(keras.optimizers.Adam(0.02), loss)
    x, y, _ = scenes(192, 0)
    classifier.fit(x, y, 48, epochs=15, verbose=0)
    return Predictor(model=classifier, class_names=CLASSES, from_logits=True)


METHODS = ("cam", "grad_cam", "occlusion")


@pytest.mark.parametrize("method", METHODS)
def test_the_mark_in_the_corner_lights_up(trained: Predictor, method: str) -> None:
    images, labels, _ = scenes(24, 1)
    told = tl.explain(trained, images[labels == 2], method)
    assert told.targets == ("corner",) * 8
    corners = [told.maps[:, rows, columns].mean() for rows, columns in QUARTERS]
    assert corners[0] > 2 * max(corners[1:])
    hottest = told.evidence.reshape(8, -1).argmax(axis=1)
    assert max(*(hottest // 24), *(hottest % 24)) < 9


first, second = slice(0, 12), slice(12, 24)
QUARTERS = [(rows, columns) for rows in (first, second) for columns in (first, second)]


def survival(predictor: Predictor, images: np.ndarray, ranked: np.ndarray, delete: bool) -> float:
    """Mean probability of the answers as pixels are taken away, or given back, by rank."""
    targets = [CLASSES.index(one.label) for one in predictor.predict(list(images))]
    grey = images.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
    found = []
    for share in np.linspace(0, 1, 9)[1:-1]:
        limits = np.quantile(ranked, 1 - share, axis=(1, 2), keepdims=True)
        changed = ranked > limits if delete else ranked <= limits
        said = predictor.engine.said(np.where(changed[..., None], grey, images))
        found.append(said[range(len(images)), targets].mean())
    return float(np.mean(found))


@pytest.mark.parametrize("method", METHODS)
def test_what_lights_up_is_what_the_answer_hangs_on(trained: Predictor, method: str) -> None:
    """Deletion and insertion (Petsiuk et al. 2018), beside a blob in the middle."""
    images, labels, things = scenes(24, 2)
    images, things = images[labels < 2], things[labels < 2]
    told = tl.explain(trained, images, method)
    assert [CLASSES.index(name) for name in told.targets] == labels[labels < 2].tolist()
    rows, columns = np.indices((24, 24)) - 11.5
    blob = np.broadcast_to(np.exp(-(rows**2 + columns**2) / 100), told.maps.shape)
    assert survival(trained, images, told.evidence, True) < survival(trained, images, blob, True)
    assert survival(trained, images, told.evidence, False) > survival(trained, images, blob, False)
    # And it lies on the thing.
    inside = told.maps[things].mean()
    assert inside > 2 * told.maps[~things].mean()


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_random_weights_give_another_map(trained: Predictor, method: str) -> None:
    """Adebayo et al. 2018: a map that stays the same shows the image, not what was learnt."""
    images, _, _ = scenes(12, 3)
    before = tl.explain(trained, images, method, target="red").maps
    again = tl.explain(trained, images, method, target="red").maps
    np.testing.assert_array_equal(before, again)
    random = keras.models.clone_model(trained.model)
    after = tl.explain(random, images, method, target=0).maps
    alike = [abs(spearmanr(a.ravel(), b.ravel())[0]) for a, b in zip(before, after, strict=True)]
    assert np.mean(alike) < 0.6


# Grad-CAM by itself, for any head.


def two_layers(low: Any, high: Any) -> Any:
    x = layers.Dense(5, "relu", name="hidden")(layers.Flatten()(layers.Activation("relu")(high)))
    return layers.Dense(3, "softmax")(x)


@pytest.mark.parametrize("kind", ["mean", "two layers"])
def test_grad_cam_is_that_of_a_plain_tape(kind: str) -> None:
    classifier = model({**HEADS, "two layers": two_layers}[kind])
    images, target = pixels(), 2
    told = tl.explain(classifier, images, "grad_cam", target=target)
    last = next(one for one in reversed(classifier.layers) if isinstance(one, layers.ZeroPadding2D))
    end = last.output if kind == "mean" else classifier.get_layer("hidden").input
    if kind != "mean":
        end = next(n for n in classifier.layers if isinstance(n, layers.Activation)).output
    lower = keras.Model(classifier.input, [end, classifier.layers[-1].input])
    dense = classifier.layers[-1]
    with tf.GradientTape() as tape:
        pixels_in = tf.constant(images.astype("float32"))
        tape.watch(pixels_in)
        maps, rows = lower(pixels_in)
        score = (rows @ dense.kernel + dense.bias)[:, target]
    slopes = tape.gradient(score, maps)
    weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
    small = tf.reduce_sum(weights * maps, axis=-1).numpy()
    large = tf.image.resize(small[..., None], (SIZE, SIZE))[..., 0].numpy()
    large += (small.mean((1, 2)) - large.mean((1, 2)))[:, None, None]
    np.testing.assert_allclose(told.evidence, large, atol=1e-5)
    assert np.abs(large).max() > 1e-3


def test_grad_cam_has_a_map_for_each_block() -> None:
    classifier = model(HEADS["all three"])
    told = tl.explain(classifier, pixels(), "grad_cam", by_block=True)
    assert list(told.by_block) == [name for name in tl.blocks(classifier) if name != "head"]
    assert all(one.shape == (4, SIZE, SIZE) for one in told.by_block.values())
    np.testing.assert_array_equal(list(told.by_block.values())[-1], told.evidence)
    assert tl.explain(classifier, pixels(), "grad_cam").by_block == {}


# What may be given, and what comes of what may not.


def in_another(inner: keras.Model) -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3))
    return keras.Model(images, inner(images))


def in_a_row(inner: keras.Model) -> keras.Model:
    head = [layers.Dropout(0.2), layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Model(inner.input, inner.layers[-2].output), *head])


@pytest.mark.parametrize("wrap", [in_another, in_a_row])
def test_models_of_users_in_other_forms(wrap: Any) -> None:
    classifier, images = wrap(model(flattened)), pixels()
    told = tl.explain(classifier, images, by_block=True)
    assert np.ptp(told.evidence, axis=(1, 2)).min() > 0
    assert set(told.by_block) <= set(tl.blocks(classifier)) - {"head"}
    said = np.asarray(classifier(images))
    assert list(told.targets) == [str(i) for i in said.argmax(axis=1)]
    # Two logits of a softmax differ as the logarithms of its probabilities do.
    both = [tl.explain(classifier, images, target=i) for i in (0, 1)]
    sums = [one.evidence.mean(axis=(1, 2)) + one.bias for one in both]
    np.testing.assert_allclose(sums[0] - sums[1], np.log(said[:, 0] / said[:, 1]), atol=1e-4)


@pytest.mark.parametrize("method", ["cam", "grad_cam"])
def test_layers_may_have_one_name(method: str) -> None:
    def tower(seed: int) -> keras.Model:
        inside = keras.Input((SIZE, SIZE, 3))
        how = {"kernel_initializer": "ones", "padding": "same", "name": "conv"}
        x = layers.Conv2D(4, 3, activation="relu", **how)(inside)
        return keras.Model(inside, x, name=f"tower{seed}")

    images = keras.Input((SIZE, SIZE, 3))
    rows = [layers.GlobalAveragePooling2D()(tower(i)(images)) for i in range(2)]
    both = layers.Concatenate()(rows) if method == "cam" else tower(3)(tower(4)(images)[..., :3])
    if method == "grad_cam":
        both = layers.GlobalAveragePooling2D()(both)
    classifier = keras.Model(images, layers.Dense(3, kernel_initializer="random_normal")(both))
    told = tl.explain(classifier, pixels(), method, target=1)
    assert np.ptp(told.evidence, axis=(1, 2)).min() > 0


def test_images_come_as_files_arrays_or_a_split(trained: Predictor, tmp_path: Path) -> None:
    images, labels, _ = scenes(6, 4)
    paths = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        paths.append(tmp_path / CLASSES[label] / f"{i}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        keras.utils.save_img(paths[-1], image, scale=False)
    whole = tl.explain(trained, images)
    for given in (paths, [path.read_bytes() for path in paths]):
        told = tl.explain(trained, given, batch_size=4)
        np.testing.assert_allclose(told.evidence, whole.evidence, atol=1e-5)
        assert told.targets == whole.targets
    split = tl.data.from_directory(tmp_path, val=0.0, class_names=CLASSES).train
    told = tl.explain(trained, split)
    order = [paths.index(Path(split.name(i))) for i in range(6)]
    np.testing.assert_allclose(told.evidence, whole.evidence[order], atol=1e-5)
    (tmp_path / "red" / "0.png").write_bytes(b"no image")
    for given in (paths, split):
        with pytest.raises(ImageError, match=r"0\.png"):
            tl.explain(trained, given)


def test_maps_go_from_0_to_1_and_overlays_show_them(trained: Predictor) -> None:
    images = scenes(3, 5)[0]
    told = tl.explain(trained, images)
    assert told.maps.dtype == np.float32
    np.testing.assert_allclose(told.maps.min(axis=(1, 2)), 0)
    np.testing.assert_allclose(told.maps.max(axis=(1, 2)), 1)
    # By SciPy: smoothed over a 28th of the side, and but for 2 % of the places at either end.
    smooth = [gaussian_filter(one, 24 / 28, mode="nearest") for one in told.evidence]
    ends = [np.percentile(one, (2, 98)) for one in smooth]
    expected = [
        np.clip((one - a) / (b - a), 0, 1) for one, (a, b) in zip(smooth, ends, strict=True)
    ]
    np.testing.assert_allclose(told.maps, expected, atol=0.02)
    over = told.overlay(0)
    assert (over.shape, over.dtype) == ((24, 24, 3), np.uint8)
    np.testing.assert_array_equal(over[told.maps[0] == 0], images[0][told.maps[0] == 0])
    np.testing.assert_array_equal(told.overlay(0, strength=0), images[0])
    hottest = np.unravel_index(told.maps[0].argmax(), (24, 24))
    np.testing.assert_array_equal(told.overlay(0, strength=1)[hottest], (240, 249, 33))
    with pytest.raises(ValueError, match="`i` must be an integer >= 0 and <= 2"):
        told.overlay(3)
    with pytest.raises(ValueError, match="`strength` must be"):
        told.overlay(0, 2)


def test_a_map_without_differences_is_dark() -> None:
    classifier = model(HEADS["mean"])
    classifier.layers[-1].kernel.assign(keras.ops.zeros_like(classifier.layers[-1].kernel))
    assert not tl.explain(classifier, pixels()).maps.any()


def vectors() -> keras.Model:
    images = keras.Input((4, 4, 3))
    x = layers.Dense(5, "relu")(layers.Flatten()(layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, layers.Dense(3)(layers.BatchNormalization()(x)))


MISFITS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "hidden": (lambda: model(two_layers), "cam", "'grad_cam' or 'occlusion' for a head that"),
    "vectors": (vectors, "cam", "'occlusion' for a head that"),
    "vectors by slopes": (vectors, "grad_cam", "'occlusion' for a model without a map"),
    "subclassed": (lambda: Theirs(dense(3)), "cam", "'occlusion' for a head .* no graph"),
    "subclassed by slopes": (lambda: Theirs(dense(3)), "grad_cam", "'occlusion' .* a graph"),
    "unknown": (lambda: model(HEADS["mean"]), "lime", "one of 'cam', 'grad_cam', 'occlusion'"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_method_that_does_not_work_names_those_that_do(kind: str) -> None:
    make, method, message = MISFITS[kind]
    with pytest.raises(ValueError, match=f"`method` must be {message}"):
        tl.explain(make(), pixels(2, 8), method)


def test_vectors_are_explained_by_covering() -> None:
    told = tl.explain(vectors(), pixels(2, 4), "occlusion")
    assert told.evidence.shape == (2, 4, 4)
    assert told.bias is None


def test_covering_asks_about_every_place() -> None:
    """Of a model that looks at one pixel alone."""
    images = keras.Input((24, 24, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(images))
    weights = np.zeros((24 * 24 * 3, 2), np.float32)
    weights[(5 * 24 + 17) * 3, 1] = 4
    classifier = keras.Model(images, layers.Dense(2)(x))
    classifier.layers[-1].set_weights([weights, np.zeros(2, np.float32)])
    given = np.zeros((1, 24, 24, 3), np.uint8)
    given[0, 5, 17, 0] = 255
    told = tl.explain(classifier, given, "occlusion", target=1)
    # Each place averages the patches over it: full where all of them cover the pixel.
    assert told.evidence[0, 5, 17] == pytest.approx(4, abs=1e-3)
    told.evidence[0, 2:8, 14:20] = 0
    assert not told.evidence.any()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no class": ({"target": "dog"}, "`target` must be one of 'red', 'blue', 'corner'"),
    "no number of one": ({"target": 3}, "`target` must be an integer >= 0 and <= 2"),
    "one too few": ({"target": ["red"]}, "`target` must be one class, or one for each of 2 images"),
    "one no class": ({"target": ["red", "dog"]}, "`target` must be one of 'red'"),
    "blocks of patches": (
        {"method": "occlusion", "by_block": True},
        "`by_block` must be False with method='occlusion'",
    ),
    "no batch": ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    "no images": ({"images": []}, "`images` must be one image or more"),
    "one image": ({"images": pixels()[0]}, "`images` must be a sequence of paths"),
    "a name": ({"images": "a.jpg"}, "`images` must be a sequence of paths"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_arguments_are_refused(trained: Predictor, kind: str) -> None:
    options, message = BAD[kind]
    with pytest.raises(ValueError, match=message):
        tl.explain(trained, **{"images": list(pixels(2)), **options})


def test_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        tl.explain(3, pixels())
