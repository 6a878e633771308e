"""The validation part of a stage: what Keras would log, from activations stored once."""

from typing import Any

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score

import tltoolkit as tl
from tltoolkit.callbacks import MixedWeightAverage, ValidationMetrics
from tltoolkit.training import features

SIZE, BATCH = 12, 9
LABELS = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [20, 15, 10]))
FREE = {"unfreeze": 1, "epochs": 2, "learning_rate": 1e-2, "cache_views": 0}
pytestmark = [
    pytest.mark.usefixtures("eagerly"),
    pytest.mark.filterwarnings("ignore:the graph of"),
]


def images(count: int = len(LABELS)) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 120, (count, SIZE, SIZE, 3))
    return (noise + 40 * LABELS[:count, None, None, None]).astype(np.uint8)


def data(labels: Any = LABELS) -> tl.data.ImageData:
    return tl.data.from_arrays(images(), labels, val=0.4)


def body(pixels: Any) -> Any:
    x = keras.layers.Rescaling(1 / 255)(pixels)
    for i in range(2):
        init = keras.initializers.GlorotUniform(i)
        x = keras.layers.Conv2D(4, 3, strides=2, kernel_initializer=init, name=f"conv{i}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{i}")(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    return keras.layers.GlobalAveragePooling2D(name="pool")(x)


def head(x: Any, activation: str | None = None, units: int = 3) -> Any:
    x = keras.layers.Dropout(0.4, seed=3, name="drop")(x)
    x = keras.layers.ActivityRegularization(l2=0.3, name="quiet")(x)
    init = keras.initializers.GlorotUniform(7)
    return keras.layers.Dense(
        units, activation, kernel_initializer=init, kernel_regularizer="l2", name="scores"
    )(x)


def flat(**options: Any) -> keras.Model:
    pixels = keras.Input((SIZE, SIZE, 3))
    return keras.Model(pixels, head(body(pixels), **options))


def nested() -> keras.Model:
    inner, pixels = keras.Input((SIZE, SIZE, 3)), keras.Input((SIZE, SIZE, 3))
    return keras.Model(pixels, head(keras.Model(inner, body(inner), name="inner")(pixels)))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inside = flat(activation="softmax")
        self.scale = keras.layers.Dense(3, "softmax", kernel_initializer="identity")

    def call(self, x: Any) -> Any:
        return self.scale(self.inside(x))


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return model


class Reference(keras.callbacks.Callback):
    """What Keras' own `evaluate` and scikit-learn say of the pixels after each epoch."""

    def __init__(self, split: Any, several: bool = False) -> None:
        super().__init__()
        self.pixels = np.stack([split.image(i) for i in range(len(split))]).astype(np.float32)
        self.labels, self.several = split.labels, several
        self.targets = split.labels if several else np.eye(3)[split.labels]
        self.expected: list[dict[str, float]] = []
        self.seen: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append({k: v for k, v in logs.items() if k.startswith("val_")})
        targets = self.targets.astype(np.float32)
        given = {"batch_size": BATCH, "verbose": 0, "return_dict": True}
        found = self.model.evaluate(self.pixels, targets, **given)
        outputs = self.model.predict(self.pixels, verbose=0)
        said = (outputs >= 0) if self.several else outputs.argmax(1)
        found["f1_macro"] = f1_score(self.labels, said, average="macro", zero_division=0)
        self.expected.append({f"val_{name}": value for name, value in found.items()})


def close(seen: Any, expected: Any) -> None:
    assert len(seen) == len(expected)
    for ours, theirs in zip(seen, expected, strict=True):
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, rel=2e-5), name


@pytest.mark.parametrize(
    ("make", "method", "how"),
    [
        (flat, "none", "traced"),
        (flat, "ldam", "eagerly"),
        (nested, "balanced", "eagerly"),
        (subclassed, "none", "eagerly"),
    ],
)
def test_the_logs_are_what_keras_would_have_logged(
    make: Any, method: str, how: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(how)
    given, plan = data(), tl.Plan((tl.Stage("upper", **FREE),))
    reference = Reference(given.val)
    options = {"batch_size": BATCH, "callbacks": [reference], "verbose": 0}
    run = tl.fine_tune(make(), given, plan, "light", method, **options)
    close(reference.seen, reference.expected)
    for name in reference.seen[0]:
        assert run.history[name] == [logs[name] for logs in reference.seen]
    assert list(run.history) == sorted(run.history)
    assert ("val_cross_entropy" in run.history) == (method != "none")


def test_of_several_labels_too() -> None:
    several = np.stack([LABELS >= 1, LABELS == 2], 1).astype(np.uint8)
    given, plan = data(several), tl.Plan((tl.Stage("upper", **FREE),))
    reference = Reference(given.val, several=True)
    options = {"batch_size": BATCH, "callbacks": [reference], "verbose": 0}
    tl.fine_tune(flat(units=2), given, plan, "light", **options)
    close(reference.seen, reference.expected)


def test_stored_training_images_make_no_difference() -> None:
    def history(**options: Any) -> dict[str, list[float]]:
        plan = tl.Plan((tl.Stage("upper", **{**FREE, **options}),))
        return tl.fine_tune(flat(), data(), plan, "none", batch_size=BATCH, verbose=0).history

    stored, pixels = history(cache_views=None), history()
    for name, values in pixels.items():
        np.testing.assert_allclose(stored[name], values, rtol=1e-4, err_msg=name)


def computed(monkeypatch: pytest.MonkeyPatch, make: Any = flat, **options: Any) -> list[int]:
    """How many images each stored array has."""
    seen: list[int] = []
    compute = features.compute

    def noted(function: Any, views: Any, count: int, *others: Any) -> np.ndarray:
        seen.append(count)
        return compute(function, views, count, *others)

    monkeypatch.setattr("tltoolkit.training.features.compute", noted)
    stage = {name: options.pop(name) for name in ("batch_norm", "unfreeze") if name in options}
    plan = tl.Plan((tl.Stage("upper", **{**FREE, "epochs": 1, **stage}),))
    tl.fine_tune(make(), data(), plan, "light", batch_size=BATCH, verbose=0, **options)
    return seen


def test_the_validation_images_are_stored_once_where_training_stores_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert computed(monkeypatch) == [len(data().val)]


@pytest.mark.parametrize(
    "options",
    [
        {"make": subclassed},
        {"unfreeze": "all"},
        {"cache_dtype": "float16"},
        {"cache_gb": 1e-6},
        {"batch_norm": "recalibrate"},
    ],
)
def test_but_not_without_a_boundary_nor_at_a_cost(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert computed(monkeypatch, **options) == []


def test_metrics_of_the_user_are_scored_too_and_do_not_change_what_is_best() -> None:
    class Ends(keras.callbacks.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            last.update(logs)

    last: dict[str, float] = {}
    mine = ValidationMetrics(("a", "b", "c"), per_class=("recall", "f1"))
    other = ValidationMetrics(per_class=(), averages=("f1_macro",), multi_label=True)
    given, plan = data(), tl.Plan((tl.Stage("upper", **FREE), tl.Stage("head", epochs=1)))
    run, alone = (
        tl.fine_tune(flat(), given, plan, "light", batch_size=BATCH, callbacks=some, verbose=0)
        for some in ([mine, Ends(), other], [])
    )
    assert {name: run.history[name] for name in alone.history} == alone.history
    assert run.best_epoch == alone.best_epoch
    report = tl.evaluate(run.model, given.val)
    for c, name in enumerate("abc"):
        found = run.history[f"val_recall_{name}"][run.best_epoch]
        assert found == pytest.approx(report.recall[c], abs=1e-6)
    assert last["val_f1_b"] == run.history["val_f1_b"][-1]


class Told(keras.callbacks.Callback):
    """Notes what it is told of the validation pass."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def on_test_begin(self, logs: Any = None) -> None:
        self.events.append("begin")

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.events.append(batch)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.events.append((batch, logs["loss"], logs["accuracy"]))

    def on_test_end(self, logs: Any = None) -> None:
        self.events.append(("end", logs["loss"], logs["accuracy"]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.events.append(("epoch", logs["val_loss"], logs["val_accuracy"]))


def test_callbacks_are_told_of_the_pass_as_by_keras() -> None:
    told = Told()
    plan = tl.Plan((tl.Stage("upper", **{**FREE, "epochs": 1}),))
    given = data()
    tl.fine_tune(flat(), given, plan, "light", batch_size=BATCH, callbacks=[told], verbose=0)
    numbers = [event if isinstance(event, (int, str)) else event[0] for event in told.events]
    assert BATCH < len(given.val) <= 2 * BATCH
    assert numbers == ["begin", 0, 0, 1, 1, "end", "epoch"]
    *_, last_batch, end, epoch = told.events
    assert last_batch[1:] == end[1:] == epoch[1:]


def test_the_average_of_the_weights_is_what_is_scored_and_kept() -> None:
    plan = tl.Plan((tl.Stage("upper", **FREE),))
    options = {"batch_size": BATCH, "verbose": 0, "callbacks": [MixedWeightAverage("ema")]}
    run = tl.fine_tune(flat(), data(), plan, "light", **options)
    report = tl.evaluate(run.model, data().val)
    assert report.accuracy == pytest.approx(run.history["val_accuracy"][run.best_epoch])
    plain = tl.fine_tune(flat(), data(), plan, "light", batch_size=BATCH, verbose=0)
    assert run.history["val_loss"] != plain.history["val_loss"]


def test_outputs_that_are_not_finite_have_no_score() -> None:
    class Spoil(keras.callbacks.Callback):
        def on_test_begin(self, logs: Any = None) -> None:
            kernel = self.model.trainable_variables[-2]
            self.kernel = kernel.numpy()
            kernel.assign(kernel * np.inf)

        def on_test_end(self, logs: Any = None) -> None:
            self.model.trainable_variables[-2].assign(self.kernel)

    plan = tl.Plan((tl.Stage("upper", **FREE),))
    options = {"batch_size": BATCH, "callbacks": [Spoil()], "verbose": 0}
    run = tl.fine_tune(flat(), data(), plan, "light", **options)
    assert np.isnan(run.history["val_f1_macro"]).all()
    assert run.best_epoch == 0
