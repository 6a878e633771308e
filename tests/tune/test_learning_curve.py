import threading
from collections import Counter
from collections.abc import Iterator

import keras
import matplotlib.figure
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

import tltoolkit as tl
from tltoolkit.data.stratify import deal
from tltoolkit.evaluation import Report
from tltoolkit.tune import power_law, subsets
from tltoolkit.tune.curve import LearningCurve, summarise

pytestmark = pytest.mark.usefixtures("eagerly", "shallow", "fewer_draws")

SIZE = 32


@pytest.fixture(scope="module")
def fewer_draws() -> Iterator[None]:
    """Intervals of 50 draws for 200, each of which fits a law: enough for their ends here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tltoolkit.tune.curve.DRAWS", 50)
        yield


def images(count: int = 96, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, a little brighter the higher its class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    noise = rng.integers(0, 120, (count, SIZE, SIZE, 3)) + rng.integers(0, 60, (count, 1, 1, 1))
    return (noise + 30 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8), labels


def data(val: float = 0.25, test: float = 0.25) -> tl.data.ImageData:
    """Splits with as many images as the shares say, since readings are counted here."""
    whole = tl.data.from_arrays(*images(), val=0.0).train
    parts = deal(whole.labels, (1 - val - test, val, test), 0)
    splits = {name: whole.subset(parts == n) for n, name in enumerate(("train", "val", "test"))}
    return tl.data.ImageData(**{name: split for name, split in splits.items() if len(split)})


def build(**options: object) -> keras.Model:
    names = ("0", "1", "2")
    return tl.build_classifier(
        **{"class_names": names, "weights": None, "image_size": SIZE, "trunk": "stem", **options}
    )


class Counted:
    """A source that counts how often each image is read."""

    def __init__(self, source: object) -> None:
        self.source, self.reads, self.lock = source, Counter(), threading.Lock()

    def __getattr__(self, name: str) -> object:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def image(self, index: int) -> np.ndarray:
        with self.lock:
            self.reads[index] += 1
        return self.source.image(index)


def counted() -> tuple[tl.data.ImageData, Counted]:
    whole = data()
    source = Counted(whole.train.source)
    splits = {}
    for name, split in whole.splits.items():
        splits[name] = type(split)(
            source=source,
            indices=split.indices,
            labels=split.labels,
            class_names=split.class_names,
        )
    return tl.data.ImageData(**splits), source


# The power law


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 0.5, 0.05), (0.9, 0.3, 0.0), (5.0, 1.0, 0.1)])
def test_a_power_law_is_recovered_from_its_values(a: float, b: float, c: float) -> None:
    sizes = np.geomspace(20, 2000, 6)
    found = power_law.fit(sizes, a * sizes**-b + c, np.full(6, 0.01))
    assert found.a == pytest.approx(a, rel=0.02)
    assert found.b == pytest.approx(b, abs=0.01)
    assert found.c == pytest.approx(c, abs=0.005)
    assert found.error(4000) == pytest.approx(a * 4000.0**-b + c, abs=1e-3)
    assert found.score(4000) == pytest.approx(1 - found.error(4000))


def test_errors_that_do_not_fall_give_a_flat_law() -> None:
    found = power_law.fit(np.array([10.0, 100, 1000]), np.full(3, 0.2), np.full(3, 0.01))
    assert found.error(2000) == pytest.approx(0.2, abs=1e-3)


def simulated(images: int, seed: int, sizes: np.ndarray, rows: int = 400) -> list[list[Report]]:
    """Reports of classifiers that err as 1.5 n ** -0.5 + 0.05 says, on 400 rows."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 4
    # The same rows are hard for every classifier, as they are in reality.
    difficulty = rng.random(rows)
    reports = []
    for size in sizes:
        row = []
        for _ in range(3):
            noise = rng.normal(0, 0.02, rows)
            wrong = difficulty + noise < 1.5 * size**-0.5 + 0.05
            said = np.where(wrong, (labels + 1) % 4, labels)
            row.append(Report.from_predictions(labels, np.eye(4)[said]))
        reports.append(row)
    return reports


def test_the_forecast_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    sizes = np.geomspace(25, 800, 6).round().astype(int)
    truth = 1 - (1.5 * 1600**-0.5 + 0.05)
    inside = 0
    for seed in range(10):
        curve = summarise(sizes, simulated(800, seed, sizes), 800, metric="accuracy", seed=seed)
        inside += curve.doubled.low <= truth <= curve.doubled.high
    assert inside >= 8


def test_more_images_are_advised_where_errors_fall_and_only_there() -> None:
    sizes = np.array([25, 50, 100, 200])
    steep = summarise(sizes, simulated(200, 0, sizes), 200, metric="accuracy")
    assert steep.doubled.size == 400
    assert steep.doubled.gain == pytest.approx(1.5 * (200**-0.5 - 400**-0.5), abs=0.02)
    assert steep.advice.startswith("More images are worth it: twice the images (400)")
    flat = summarise(sizes, [simulated(1, 0, np.array([10**6]))[0]] * 4, 200, metric="accuracy")
    assert flat.doubled.gain == pytest.approx(0, abs=1e-3)
    assert flat.advice.startswith("More images would hardly help")
    for point in flat.points:
        assert point.low <= point.score <= point.high


# Subsets


@pytest.mark.parametrize("multi_label", [False, True])
def test_every_beginning_of_an_order_has_each_class_in_its_share(multi_label: bool) -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(3, 200, p=[0.7, 0.2, 0.1])
    if multi_label:
        labels = (rng.random((200, 3)) < [0.7, 0.3, 0.1]).astype(np.uint8)
        labels[:, 0] |= labels.sum(axis=1) == 0
    pixels = np.zeros((200, 4, 4, 3), np.uint8)
    names = ("a", "b", "c")
    split = tl.data.from_arrays(pixels, labels, names, val=0.0).train
    order = subsets.nested(split, seed=5)
    assert sorted(order) == list(range(len(split)))
    assert (split.subset(order[:3]).class_counts > 0).all()
    for size in (20, 50, 100):
        counts = split.subset(order[:size]).class_counts
        np.testing.assert_allclose(counts / size, split.class_counts / 200, atol=0.13)
    assert not np.array_equal(order, subsets.nested(split, seed=6))
    np.testing.assert_array_equal(order, subsets.nested(split, seed=5))


# The whole


@pytest.fixture(scope="module")
def curve() -> tuple[LearningCurve, Counted]:
    whole, source = counted()
    return tl.tune.learning_curve(build, whole, sizes=(6, 12, 24, 48), metric="f1_macro"), source


def test_all_heads_together_read_every_image_once(curve: tuple) -> None:
    _, source = curve
    whole = data()
    reads = Counter()
    # One read is that of the check; test is not read again.
    for name, split in whole.splits.items():
        for index in split.indices:
            reads[source.reads[int(index)], name] += 1
    assert reads == {(2, "train"): 48, (2, "val"): 24, (1, "test"): 24}


def test_the_largest_size_is_the_logistic_regression_of_all_images(curve: tuple) -> None:
    found, _ = curve
    whole, model = data(), build()
    pooled = keras.Model(model.input, model.get_layer("head_avg").output)
    pixels = {n: np.stack([s.image(i) for i in range(len(s))]) for n, s in whole.splits.items()}
    train, val = (pooled.predict(pixels[name], verbose=0) for name in ("train", "val"))
    mean, std = train.mean(0), train.std(0) + 1e-12
    scores = []
    for exponent in np.arange(-10, 3) / 2:
        fitted = LogisticRegression(C=10.0**exponent, max_iter=2000, tol=1e-6)
        fitted.fit((train - mean) / std, whole.train.labels)
        said = fitted.predict((val - mean) / std)
        scores.append(f1_score(whole.val.labels, said, average="macro"))
    assert found.points[-1].score == pytest.approx(found.points[-1].scores[0])
    assert min(abs(score - found.points[-1].score) for score in scores) < 0.03


def test_a_curve_prints_plots_and_advises(curve: tuple) -> None:
    found, _ = curve
    assert [point.size for point in found.points] == [6, 12, 24, 48]
    assert len(set(found.points[-1].scores)) == 1  # all images are all images
    assert all(len(point.scores) == 3 for point in found.points)
    assert found.doubled.size == 96
    assert found.doubled.low <= found.doubled.score <= found.doubled.high
    assert "twice the images (96)" in str(found)
    figure = found.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure.axes[0].get_xscale() == "log"


def test_the_same_seed_gives_the_same_curve_and_another_one_another(curve: tuple) -> None:
    found, _ = curve
    again = tl.tune.learning_curve(build, data(), sizes=[48, 6, 24, 12])
    assert again.points == found.points
    assert again.doubled == found.doubled
    other = tl.tune.learning_curve(build, data(), sizes=(6, 12, 24, 48), seed=9)
    assert other.points[0].scores != found.points[0].scores


def test_the_test_split_can_score() -> None:
    found = tl.tune.learning_curve(build, data(), sizes=(6, 12, 48), repeats=2, on="test")
    assert len(found.points[0].scores) == 2


def own() -> keras.Model:
    """A small network of the user's own."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(4, 3, 4, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))


def test_a_plan_trains_each_size() -> None:
    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=1, learning_rate=1e-2),))
    options = {"sizes": (6, 12, 24), "repeats": 2, "plan": plan, "augment": "none"}
    built: list[keras.Model] = []

    def counted_build() -> keras.Model:
        built.append(own())
        return built[-1]

    found = tl.tune.learning_curve(counted_build, data(), batch_size=16, verbose=0, **options)
    assert [point.size for point in found.points] == [6, 12, 24]
    assert len(built) == 6
    last = tl.evaluate(built[-1], data().val)
    assert last.f1_macro == pytest.approx(found.points[-1].scores[-1])


def test_default_sizes_reach_from_a_few_to_all() -> None:
    whole = tl.data.from_arrays(np.zeros((640, 4, 4, 3), np.uint8), np.arange(640) % 4, val=0.0)
    sizes = subsets.default_sizes(whole.train)
    assert (len(sizes), sizes[0], sizes[-1]) == (6, 20, 640)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": (6, 12, 49)}, "`sizes` must be integers from 3 .* to 48 .* sizes=49"),
        ({"sizes": (2, 12, 24)}, "`sizes` must be integers from 3 .* sizes=2"),
        ({"sizes": (6, 12.5, 24)}, "`sizes` must be integers .* sizes=12.5"),
        ({"sizes": (6, 12, 12)}, "`sizes` must be at least 3 different numbers"),
        ({"repeats": 1}, "`repeats` must be an integer >= 2"),
        ({"on": "train"}, "`on` must be one of 'val', 'test'"),
        ({"metric": "mcc"}, "`metric` must be one of"),
        ({"level": 1}, "`level` must be"),
        ({"batch_size": 8}, "`options` must be given with a plan alone"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_built(options: dict, said: str) -> None:
    def never() -> None:
        raise AssertionError

    with pytest.raises(ValueError, match=said):
        tl.tune.learning_curve(never, data(), **options)


def test_data_and_models_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="an ImageData with a val split"):
        tl.tune.learning_curve(build, data(val=0.0))
    with pytest.raises(ValueError, match="one dense layer, with no penalty but L2; or give a plan"):
        tl.tune.learning_curve(lambda: build(head=tl.Head(hidden=(4,))), data())
    with pytest.raises(ValueError, match="`build` must be a function"):
        tl.tune.learning_curve(build(), data())
