"""Classes with one or two images, labels that all images have, one image per class."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

import tltoolkit as tl
from tltoolkit import imbalance
from tltoolkit.data.folds import set_aside
from tltoolkit.runs.cross_validation import with_held
from tltoolkit.training import probe

pytestmark = pytest.mark.usefixtures("eagerly", "few_draws")

SIZE = 8


def network(classes: int, name: str = "few") -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(classes, name="scores")(x), name=name)


def images(labels: np.ndarray) -> np.ndarray:
    """Noise, the brighter the higher the class; no two images alike."""
    level = labels if labels.ndim == 1 else labels @ (1 << np.arange(labels.shape[1]))
    noise = np.random.default_rng(0).integers(0, 60, (len(labels), SIZE, SIZE, 3))
    return (noise + 25 * level[:, None, None, None]).astype(np.uint8)


def data(counts: list[int], val: float = 0.0) -> tl.data.ImageData:
    labels = np.repeat(np.arange(len(counts)), counts)
    return tl.data.from_arrays(images(labels), labels, val=val)


def rows(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(seed).normal(size=(len(labels), 5)) + labels[:, None]
    return x.astype("float32"), np.eye(len(counts), dtype="float32")[labels]


@pytest.mark.parametrize(
    "counts",
    [[20, 20, 2], [20, 20, 1], [20, 20, 0], [2, 2], [1, 1], [1, 2], [1, 1, 1], [0, 3], [5, 0]]
)  # fmt: skip
@pytest.mark.parametrize("seed", range(4))
def test_a_head_is_solved_however_few_rows_a_class_has(counts: list[int], seed: int) -> None:
    x, targets = rows(counts)
    found = probe.solve(x, targets, None, multi_label=False, seed=seed)
    logits = x @ found.kernel + found.bias
    assert np.isfinite(logits).all()
    absent = np.array(counts) == 0
    assert not absent[logits.argmax(1)].any()
    mean = np.exp(log_softmax(x.mean(0) @ found.kernel + found.bias))
    # Half a row of a class that there is none of.
    np.testing.assert_allclose(mean[absent] / mean[~absent].sum(), 0.5 / len(x), rtol=1e-4)


def test_every_class_of_two_rows_is_in_both_parts_that_pick_the_penalty() -> None:
    targets = rows([30, 30, 2, 2, 1])[1]
    for seed in range(20):
        held = set_aside(targets.argmax(1), np.arange(65), 1 / 3, seed)
        assert (targets[~held].sum(0) > 0).all()
        assert (targets[held].sum(0) > 0).tolist() == [True, True, True, True, False]
        assert 0.25 < held.mean() < 0.4


@pytest.mark.parametrize("every", [0.0, 1.0])
@pytest.mark.parametrize("val", [False, True])
def test_a_label_that_all_rows_share_is_solved_by_its_bias(every: float, val: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)).astype("float32")
    other = (x[:, 0] + 0.3 * rng.normal(size=40) > 0).astype("float32")
    targets = np.stack([other, np.full(40, every)], 1).astype("float32")
    found = probe.solve(x, targets, (x, targets) if val else None, multi_label=True)
    alone = probe.solve(x, targets[:, :1], (x, targets[:, :1]), multi_label=True)
    assert (found.kernel[:, 1] == 0).all()
    assert np.exp(found.bias[1]) == pytest.approx(79.0 if every else 1 / 79, rel=1e-4)
    if val:
        np.testing.assert_allclose(found.kernel[:, :1], alone.kernel, rtol=1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_fine_tune_with_a_class_of_two_images(seed: int) -> None:
    run = tl.fine_tune(network(3), data([20, 20, 2]), "linear_probe", "none", seed=seed, verbose=0)
    assert tl.evaluate(run.model, data([20, 20, 2]).train).accuracy > 0.9


@pytest.mark.parametrize("plan", ["auto", "linear_probe", tl.Plan((tl.Stage("a", epochs=1),))])
@pytest.mark.parametrize("labels", ["every", "one class", "two images"])
def test_fine_tune_on_labels_that_do_not_vary(plan: object, labels: str) -> None:
    given = {
        "every": np.stack([np.arange(24) % 2, np.ones(24, int)], 1),
        "one class": (np.arange(24) % 2)[:, None],
        "two images": np.eye(2, dtype=int),
    }[labels].astype(np.uint8)
    names = ["odd", "all"][: given.shape[1]]
    splits = tl.data.from_arrays(images(given), given, class_names=names, val=0.0)
    model = network(given.shape[1])
    run = tl.fine_tune(model, splits, plan, "none", "auto", batch_size=64, verbose=0)
    assert np.isfinite(run.history["loss"]).all()
    if plan != "auto" and not isinstance(plan, tl.Plan) and labels != "two images":
        report = tl.evaluate(run.model, splits.train)
        assert report.f1[0] > 0.9


def one_of_each(classes: int) -> tl.data.ImageData:
    train = data([2] * classes).train
    return tl.data.ImageData(train=train.subset(np.arange(classes) * 2))


@pytest.mark.parametrize("balance", ["auto", "balanced", "oversample", "logit", "retrain"])
def test_one_image_per_class_is_learned(balance: str) -> None:
    few = one_of_each(4)
    run = tl.fine_tune(network(4), few, "linear_probe", "light", balance, batch_size=64, verbose=0)
    assert tl.evaluate(run.model, few.train).accuracy == 1


def test_auto_leaves_the_only_class_of_a_multi_label_set_alone() -> None:
    labels = np.array([[1], [0], [1]])
    assert imbalance.correct("auto", labels, ["a"], True).imbalance == imbalance.Imbalance()
    # Neither compares classes, so that one is enough.
    for method in ("focal", "asymmetric"):
        assert imbalance.correct(method, labels, ["a"], True).imbalance.loss == method
    with pytest.raises(ValueError, match="between two classes or more; there is only class 'a'"):
        imbalance.correct("balanced", labels, ["a"], True)


@pytest.mark.parametrize("method", imbalance.SYNTHETIC)
def test_rows_are_made_up_of_as_many_neighbours_as_there_are(method: str) -> None:
    x, targets = rows([20, 20, 3])
    made, labels = imbalance.resample(
        x - 0.8 * targets @ [[0], [1], [2]], targets.argmax(1), method
    )
    assert np.bincount(labels)[2] > 3
    assert np.isfinite(made).all()


def test_rows_that_cannot_be_made_up_are_an_error_before_any_work() -> None:
    x, targets = rows([20, 20, 1])
    with pytest.raises(ValueError, match=r"where a class has one row \(class 2\)"):
        imbalance.resample(x, targets.argmax(1), "smote")
    with pytest.raises(ValueError, match="`features` must be None, or a sampler of your own"):
        imbalance.correct("smote", targets.argmax(1), "abc")
    far, targets = rows([20, 20, 8])
    with pytest.raises(ValueError, match="found no place for rows of class 2; 'smote' does"):
        imbalance.resample(far + 50 * targets[:, 2:], targets.argmax(1), "borderline_smote")


@pytest.mark.parametrize(
    "counts", [[60, 60, 3], [67, 60, 8], [2] * 20, [3] * 10, [5, 5], [100, 1, 1, 1], [9, 9, 9, 2]]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_fifth_picks_the_best_epoch_however_rare_a_class_is(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    held = set_aside(labels, np.arange(len(labels)), 1 / 5, seed)
    assert abs(held.sum() - len(labels) / 5) <= len(counts) / 4
    shown = np.bincount(labels[held], minlength=len(counts))
    assert (np.array(counts) - shown > 0).all()
    several = np.array(counts) > 1
    if several.sum() <= len(labels) / 5:
        assert (shown[several] > 0).all()


def test_a_fifth_of_several_labels() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((100, 4)) < [0.5, 0.3, 0.03, 0]).astype(np.uint8)
    labels[[3, 50], 3] = labels[[7, 8, 9], 2] = 1
    held = set_aside(labels, np.arange(100), 1 / 5, 0)
    assert held.sum() == 20
    assert (labels[~held].sum(0) > 0).all()
    assert (labels[held].sum(0) > 0).all()


def test_copies_stay_on_one_side_and_an_only_image_in_training() -> None:
    labels = np.repeat(np.arange(3), [20, 20, 2])
    pixels = images(labels)
    pixels[41] = pixels[40]  # the third class has one image, twice
    pixels[1:20:2] = pixels[0:20:2]
    inner = with_held(tl.data.from_arrays(pixels, labels, val=0.0), 0)
    train = {inner.train.image(i).tobytes() for i in range(len(inner.train))}
    assert not train & {inner.val.image(i).tobytes() for i in range(len(inner.val))}
    assert inner.train.class_counts[2] == 2
    assert with_held(one_of_each(2), 0).val is None


def test_cross_validation_holds_out_a_fifth_of_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Sizes(keras.callbacks.Callback):
        def on_train_begin(self, logs: object = None) -> None:
            sizes.append(self.params["steps"])

    plan = tl.Plan((tl.Stage("head", epochs=1),))
    tl.cross_validate(
        lambda: network(3), data([31, 30, 2]), 2, plan=plan, augment="none", verbose=0,
        batch_size=1, callbacks=[Sizes()],
    )  # fmt: skip
    # Steps of one image: four fifths of half the images.
    assert [abs(size - 0.8 * 31.5) <= 2 for size in sizes] == [True, True]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("make", [lambda: data([2, 2, 2]), lambda: one_of_each(3)])
def test_what_looks_at_few_images_works_or_says_so(make: Callable[[], tl.data.ImageData]) -> None:
    few = make()
    model, count = network(3), len(few.train)
    assert tl.check.capacity(model, few, samples=count, steps=10).samples == count
    assert tl.tune.find_lr(model, few, steps=20, batch_size=64).advice
    assert str(tl.check.data(few, model))
    with pytest.raises(ValueError, match=f"`samples` must be an integer >= 2 and <= {count}"):
        tl.check.capacity(model, few, samples=count + 1)


def test_a_learning_curve_of_few_images_begins_with_one_of_each_class() -> None:
    few = data([5, 4, 2], val=0.2)
    curve = tl.tune.learning_curve(lambda: network(3), few, sizes=[3, 4, len(few.train)], repeats=2)
    assert [point.size for point in curve.points] == [3, 4, len(few.train)]
    assert np.isfinite([point.score for point in curve.points]).all()
