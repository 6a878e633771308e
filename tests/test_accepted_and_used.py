"""Every setting does something, or is refused before the first step."""

import csv
import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax

import tltoolkit as tl
from tltoolkit import callbacks as ours
from tltoolkit.data.stratify import deal
from tltoolkit.model.network import network_of
from tltoolkit.plans import ready, stages, terms
from tltoolkit.training import arguments, linear, optimizers, probe
from tltoolkit.tune import space as spaces

pytestmark = pytest.mark.usefixtures("eagerly", "shallow")

SIZE = 8
Stage = tl.Stage


def images(count: int = 24, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % classes
    noise = np.random.default_rng(0).integers(0, 140, (count, SIZE, SIZE, 3))
    return (noise + 30 * labels[:, None, None, None]).astype(np.uint8), labels


def data(val: float = 0.0) -> tl.data.ImageData:
    return tl.data.from_arrays(*images(), val=val)


def dealt(val: float) -> tl.data.ImageData:
    """With as many images of each class in the val split as its share says."""
    whole = data().train
    parts = deal(whole.labels, (1 - val, val), 0)
    if not val:
        return tl.data.ImageData(train=whole)
    return tl.data.ImageData(train=whole.subset(parts == 0), val=whole.subset(parts == 1))


def network(head: Any = None, classes: int = 3, **options: Any) -> keras.Model:
    """Pixels to class scores; `head` makes the last layers of the pooled features."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    for i in (1, 2):
        x = keras.layers.Conv2D(5, 3, 2, padding="same", name=f"conv_{i}")(x)
        x = keras.layers.BatchNormalization(name=f"norm_{i}")(x)
        x = keras.layers.ReLU(name=f"relu_{i}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = keras.layers.Dense(classes, name="scores", **options)(x) if head is None else head(x)
    return keras.Model(pixels, x)


def trained(
    *stages: Stage, model: Any = None, val: float = 0.0, **options: Any
) -> list[np.ndarray]:
    model = model or network()
    settings = {"augment": "none", "batch_size": 12, "verbose": 0, **options}
    tl.fine_tune(model, data(val), tl.Plan(stages), **settings)
    return model.get_weights()


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# Settings of a stage

OTHER = {
    "unfreeze": "head",
    "epochs": 3,
    "learning_rate": 1e-2,
    "layer_decay": 0.5,
    "head_rate": 0.0,
    "schedule": "constant",
    "warmup": 1.0,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "clip_norm": 1e-3,
    "label_smoothing": 0.2,
    "batch_norm": "train",
    "augment": "strong",
    "cache_views": 2,
    "early_stopping": 1,
}


def test_every_setting_of_a_stage_is_looked_at_below() -> None:
    assert set(OTHER) == {f.name for f in dataclasses.fields(Stage)} - {"name", "_", "optimizer"}


@pytest.fixture(scope="module")
def usual() -> list[np.ndarray]:
    return trained(Stage("a", unfreeze="all", epochs=2), augment="light")


@pytest.mark.parametrize("name", sorted({*OTHER} - {"momentum", "cache_views", "early_stopping"}))
def test_every_setting_of_a_fitted_stage_changes_it(name: str, usual: list[np.ndarray]) -> None:
    stage = Stage("a", **{"unfreeze": "all", "epochs": 2, name: OTHER[name]})
    assert not same(trained(stage, augment="light"), usual)


@pytest.mark.parametrize("name", sorted({*OTHER} - {"unfreeze", "augment", "cache_views"}))
def test_a_solved_head_refuses_what_belongs_to_steps(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be left out .* optimizer='lbfgs'"):
        Stage("a", optimizer="lbfgs", **{name: OTHER[name]})


def test_a_solved_head_takes_defaults_and_what_asks_for_nothing() -> None:
    plain = trained(Stage("a", optimizer="lbfgs"))
    nothing = {"epochs": 1, "weight_decay": 0.0, "clip_norm": None, "batch_norm": "frozen"}
    assert same(trained(Stage("a", optimizer="lbfgs", **nothing)), plain)
    assert not same(trained(Stage("a", optimizer="lbfgs", augment="strong")), plain)
    with pytest.raises(ValueError, match="`cache_views` must be at least 1, or None"):
        Stage("a", optimizer="lbfgs", cache_views=0)
    again = tl.Plan.from_yaml(tl.plans.linear_probe().to_yaml())
    assert again == tl.plans.linear_probe()


def stepped(name: str, **options: Any) -> np.ndarray:
    variable = keras.Variable(np.linspace(1, 2, 4, dtype="float32"), name="kernel")
    settings = {"momentum": 0.9, "weight_decay": 0.0, "clip_norm": None, **options}
    made = optimizers.build(
        name, lambda factor: 0.1, {variable.path: 1.0}, undecayed=(), **settings
    )
    for scale in (1.0, 5.0, -2.0):
        made.apply(
            [keras.ops.convert_to_tensor(scale * np.arange(1, 5, dtype="float32"))], [variable]
        )
    return variable.numpy()


@pytest.mark.parametrize("name", terms.OPTIMIZERS)
@pytest.mark.parametrize("setting", ["momentum", "weight_decay", "clip_norm"])
def test_an_optimizer_takes_a_setting_or_its_stage_refuses_it(name: str, setting: str) -> None:
    if setting in stages.unused(name):
        with pytest.raises(ValueError, match=f"`{setting}` must be left out"):
            Stage("a", optimizer=name, **{setting: OTHER[setting]})
        assert same([stepped(name)], [stepped(name, **{setting: OTHER[setting]})])
    else:
        Stage("a", optimizer=name, **{setting: OTHER[setting]})
        assert not same([stepped(name)], [stepped(name, **{setting: OTHER[setting]})])


def test_adam_is_keras_adam_and_not_adamw() -> None:
    stage = Stage("head", optimizer="adam", epochs=2, schedule="constant", clip_norm=None)
    adam = trained(stage)
    assert not same(adam, trained(dataclasses.replace(stage, optimizer="adamw")))
    model, splits = network(), data()
    lower = keras.Model(model.input, model.get_layer("average").output)
    rows = lower.predict(np.stack([splits.train.image(i) for i in range(24)]), verbose=0)
    dense, optimizer = model.get_layer("scores"), keras.optimizers.Adam(1e-3)
    for epoch in range(2):
        for batch in order(splits, epoch):
            with tf.GradientTape() as tape:
                logits = dense(rows[batch])
                loss = keras.losses.sparse_categorical_crossentropy(
                    splits.train.labels[batch], logits, from_logits=True
                )
                loss = tf.reduce_mean(loss)
            variables = dense.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
    np.testing.assert_allclose(adam[-2], dense.kernel, atol=1e-5)
    np.testing.assert_allclose(adam[-1], dense.bias, atol=1e-5)


def order(splits: tl.data.ImageData, epoch: int) -> np.ndarray:
    batches = tl.augment.Batches(
        splits.train, tl.augment.Pipeline(None, SIZE), batch_size=12, shuffle=True, seed=0,
    )  # fmt: skip
    return batches.order(epoch).reshape(2, 12)


# Settings of a head, and other layers


@pytest.mark.parametrize("kind", ["two", "three", "multi"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [60, 6])  # more rows than features, and fewer
def test_l2_of_the_head_is_that_of_keras(kind: str, weighted: bool, count: int) -> None:
    rng = np.random.default_rng(0)
    x, l2 = rng.normal(1, [0.5, 1, 2, 3, 1, 1, 1, 1], (count, 8)), 0.03
    classes = {"two": 2, "three": 3, "multi": 3}[kind]
    targets = np.eye(classes)[np.arange(count) % classes]
    weights = rng.uniform(0.5, 1.5, (count, classes) if kind == "multi" else count)
    if kind == "multi":
        targets = (rng.random((count, classes)) < 0.5).astype(float)
        targets[0], targets[1] = 0, 1
    weights = weights / weights.mean() if weighted else np.ones_like(weights)

    def objective(flat: np.ndarray) -> float:
        kernel, bias = flat[: 8 * classes].reshape(8, classes), flat[8 * classes :]
        logits = x @ kernel + bias
        if kind == "multi":
            losses = -targets * log_expit(logits) - (1 - targets) * log_expit(-logits)
        else:
            losses = -(targets * log_softmax(logits, axis=1)).sum(1)
        return float((weights * losses).mean() + l2 * (kernel**2).sum())

    best = minimize(objective, np.zeros(9 * classes), method="BFGS", options={"gtol": 1e-7})
    found = probe.solve(
        x, targets, None, kind == "multi", weights=weights if weighted else None, l2=l2
    )
    reached = objective(np.concatenate([found.kernel.ravel(), found.bias]))
    assert reached == pytest.approx(best.fun, rel=1e-5)
    np.testing.assert_allclose(found.kernel.ravel(), best.x[: 8 * classes], atol=2e-3)


def test_fine_tune_solves_with_the_heads_l2_and_learning_curve_too() -> None:
    kernels = [
        trained(Stage("a", optimizer="lbfgs"), model=network(kernel_regularizer=regularizer))[-2]
        for regularizer in (None, keras.regularizers.L2(0.01), keras.regularizers.L1L2(0, 1.0))
    ]
    sizes = [float((kernel**2).sum()) for kernel in kernels]
    assert sizes[0] > sizes[1] > 5 * sizes[2]


class Doubled(keras.layers.Dense):
    """A layer that is a Dense and computes something else."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs)


def lora(x: Any) -> Any:
    dense = keras.layers.Dense(3, name="scores")
    scores = dense(x)
    dense.enable_lora(2)
    return scores


def normalised(x: Any) -> Any:
    x = keras.layers.Dropout(0.1, name="drop")(x)
    return keras.layers.Dense(3, name="scores")(keras.layers.UnitNormalization(name="unit")(x))


NOT_LINEAR = {
    "subclass": Doubled(3, name="scores"),
    "lora": lora,
    "activation": keras.layers.Dense(3, activation="tanh", name="scores"),
    "no bias": keras.layers.Dense(3, use_bias=False, name="scores"),
    "layer before": normalised,
    "layer after": lambda x: keras.layers.ReLU()(keras.layers.Dense(3, name="scores")(x)),
}
BEYOND = {
    "l1": {"kernel_regularizer": keras.regularizers.L1(0.1)},
    "l1 and l2": {"kernel_regularizer": keras.regularizers.L1L2(0.1, 0.1)},
    "own": {"kernel_regularizer": keras.regularizers.OrthogonalRegularizer()},
    "max_norm": {"kernel_constraint": keras.constraints.MaxNorm(0.5)},
    "bias_constraint": {"bias_constraint": keras.constraints.NonNeg()},
    "bias_regularizer": {"bias_regularizer": "l2"},
    "activity_regularizer": {"activity_regularizer": "l2"},
}


@pytest.mark.parametrize("kind", [*NOT_LINEAR, *BEYOND])
def test_a_head_that_cannot_be_solved_is_refused_before_the_first_step(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(NOT_LINEAR[kind]) if kind in NOT_LINEAR else network(**BEYOND[kind])
    before = model.get_weights()
    message = "`optimizer` must be one that goes down" if kind in BEYOND else "one dense layer"
    with pytest.raises(ValueError, match=message):
        trained(Stage("first", epochs=1), Stage("solved", optimizer="lbfgs"), model=model)
    assert same(before, model.get_weights())
    # What may choose trains such a head by steps.
    begun, _ = arguments.plan_of("auto", network_of(model))
    assert [stage.name for stage in begun] == ["head"]
    if kind == "l1":
        monkeypatch.setattr(ready, "EPOCHS", 1)
        run = tl.fine_tune(model, data(), "auto", "none", verbose=0)
        assert run.stages[0].stage.name == "head"


@pytest.mark.parametrize(
    "head", [{"l1": 0.1}, {"max_norm": 1.0}, {"l1": 0.1, "l2": 0.1}, {"hidden": (4,)}]
)
def test_our_heads_are_solved_or_refused(head: dict[str, Any]) -> None:
    names, options = ("0", "1", "2"), {"weights": None, "image_size": 32}
    ours_ = tl.build_classifier(class_names=names, head=tl.Head(**head), **options)
    with pytest.raises(ValueError, match="with optimizer|goes down the gradient|one dense layer"):
        linear.check_stage(network_of(ours_), Stage("a", optimizer="lbfgs"))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"norm": "batch"}, "`norm` must be None without hidden layers"),
        ({"batch_size": 4}, "`batch_size` must be left out without norm='auto'"),
        ({"batch_size": 4, "norm": "group", "hidden": (8,)}, "`batch_size` must be left out"),
    ],
)
def test_a_head_says_nothing_in_vain(head: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tl.build_classifier(class_names=("a", "b"), weights=None, head=tl.Head(**head))


# Settings of imbalance and of fine_tune


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.9}, "`beta` must be left out .* effective weights"),
        ({"beta": 0.9, "weights": "balanced", "loss": "ldam"}, "`beta` must be left out"),
        ({"gamma": 1.0}, "`gamma` must be left out .* a focal loss"),
        ({"gamma": 1.0, "loss": "asymmetric"}, "`gamma` must be left out"),
        ({"tau": 0.5, "loss": "focal"}, "`tau` must be left out .* logit adjustment"),
        ({"margin": 0.1}, "`margin` must be left out .* loss='ldam'"),
        ({"features": "smote", "sampling": "sqrt"}, "`sampling` must be None with `features`"),
    ],
)
def test_imbalance_says_nothing_in_vain(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tl.Imbalance(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"beta": 0.9, "weights": "effective"}, {"beta": 0.9, "loss": "balanced_focal"},
        {"beta": 0.9, "loss": "ldam"}, {"gamma": 1.0, "loss": "focal"},
        {"tau": 0.5, "adjust": "logit"}, {"tau": 0.5, "loss": "logit_adjusted"},
        {"margin": 0.1, "loss": "ldam"},
    ],
)  # fmt: skip
def test_imbalance_takes_what_its_methods_go_by(settings: dict[str, Any]) -> None:
    assert tl.Imbalance(**settings).to_dict() == settings


@pytest.mark.parametrize("loss", ["focal", "ldam"])
def test_a_loss_that_no_stage_would_take_is_refused(loss: str) -> None:
    with pytest.raises(ValueError, match="`loss` must be another one where every stage solves"):
        trained(Stage("a", optimizer="lbfgs"), imbalance=loss)
    trained(Stage("a", optimizer="lbfgs"), Stage("b", epochs=1), imbalance=loss)


def test_checkpoints_need_a_directory() -> None:
    with pytest.raises(ValueError, match="`save_freq` must be left out without run_dir"):
        trained(Stage("a"), save_freq=3)


# A search, whose trials differ in what they look at


def test_a_trial_has_the_settings_that_its_optimizer_has() -> None:
    space = spaces.read(
        {
            "optimizer": ["lbfgs", "sgd", "adam"], "momentum": (0.5, 0.9), "epochs": [2, 4],
            "weight_decay": [0.0, 0.1], "learning_rate": (1e-4, 1e-2, "log"),
        }
    )  # fmt: skip
    spaces.check(space, ("a", "b"), False)
    drawn = {"momentum": 0.6, "epochs": 4, "weight_decay": 0.1, "learning_rate": 0.01}
    (solved,) = spaces.plan_of({**drawn, "optimizer": "lbfgs"}, "none")
    (sgd,) = spaces.plan_of({**drawn, "optimizer": "sgd"}, "none")
    (adam,) = spaces.plan_of({**drawn, "optimizer": "adam"}, "none")
    assert solved == Stage("head", optimizer="lbfgs", augment="none")
    assert (sgd.momentum, sgd.weight_decay, sgd.epochs) == (0.6, 0.1, 4)
    assert (adam.momentum, adam.weight_decay, adam.learning_rate) == (0.9, 1e-4, 0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"momentum": (0.5, 0.9)}, r"space\['momentum'\]` must be left out where .* 'adamw'"),
        ({"optimizer": ["adam", "lbfgs"], "weight_decay": [0.0, 0.1]}, "'weight_decay'"),
        ({"optimizer": ["lbfgs", "sgd"], "l1": [0.0, 0.1]}, r"space\['l1'\]` must be \[0.0\]"),
        ({"optimizer": ["lbfgs", "sgd"], "max_norm": [None, 1.0]}, r"'max_norm'\]` must be \[None"),
        ({"norm": [None, "batch"]}, r"space\['norm'\]` must be left out without `hidden`"),
    ],
)
def test_a_space_says_nothing_in_vain(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaces.check(spaces.read(given), ("a", "b"), False)


# Callbacks

COSINE = Stage("a", epochs=2)
PLAIN = Stage("a", epochs=2, schedule="constant")
DECAYED = dataclasses.replace(PLAIN, unfreeze="all", layer_decay=0.5)


class Spy(keras.callbacks.Callback):
    """The weights of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.weights.append(self.model.get_weights())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize("val", [0.0, 0.25])
def test_the_plain_mean_of_epochs_is_what_fine_tune_returns(val: float) -> None:
    spy, used, model = Spy(), dealt(val), network()
    plan = tl.Plan((Stage("a", epochs=4, learning_rate=0.05),))
    average = ours.MixedWeightAverage("swa", start_epoch=1)
    options = {"augment": "none", "batch_size": 8, "verbose": 0}
    run = tl.fine_tune(model, used, plan, callbacks=[spy, average], **options)
    weights = model.get_weights()
    steps = len(spy.weights) // 4
    ends = spy.weights[steps - 1 :: steps]
    means = [np.mean([end[-2] for end in ends[1 : last + 1]], axis=0) for last in (1, 2, 3)]
    # Without validation the last epoch is kept, with it the best: one that has an average.
    assert run.best_epoch == 3 if not val else run.best_epoch in (1, 2, 3)
    np.testing.assert_allclose(weights[-2], means[run.best_epoch - 1], atol=1e-6)
    if val:
        report = tl.evaluate(model, used.val)
        assert report.log_loss == pytest.approx(run.history["val_loss"][run.best_epoch], rel=1e-5)
        assert report.f1_macro == pytest.approx(run.history["val_f1_macro"][run.best_epoch])
    assert np.abs(weights[-2] - ends[-1][-2]).max() > 1e-4


def test_the_moving_average_is_what_fine_tune_returns_without_validation() -> None:
    spy = Spy()
    average = ours.MixedWeightAverage("ema", decay=0.5)
    weights = trained(Stage("a", epochs=3, learning_rate=0.05), callbacks=[average, spy])
    expected = spy.weights[0][-2]
    for n, step in enumerate(spy.weights[1:], 1):
        share = 1 - min(0.5, (1 + n) / (10 + n))
        expected = expected + share * (step[-2] - expected)
    np.testing.assert_allclose(weights[-2], expected, atol=1e-6)


def flat(epoch: int, rate: float = 0.0) -> float:
    return 0.01


@pytest.mark.parametrize(
    ("callback", "stage", "says"),
    [
        (lambda: keras.callbacks.ReduceLROnPlateau("loss"), COSINE, r"tl\.callbacks\.ReduceLROnPl"),
        (lambda: keras.callbacks.LearningRateScheduler(flat), COSINE, "schedule='constant'"),
        (lambda: keras.callbacks.LearningRateScheduler(flat), DECAYED, "against layer_decay"),
        (lambda: ours.LearningRateDecay(flat), COSINE, "schedule='constant' and no warmup"),
        (lambda: ours.MomentumSchedule(flat), Stage("b", optimizer="adagrad"), "no momentum"),
        (lambda: ours.MomentumSchedule(flat), Stage("b", optimizer="sgd", momentum=0), "no moment"),
        (lambda: ours.SpatialDropoutSchedule(flat), COSINE, "no dropout whose rate can change"),
        (lambda: keras.callbacks.SwapEMAWeights(), COSINE, r"tl\.callbacks\.MixedWeightAverage"),
        (lambda: ours.MixedWeightAverage(batches=[0]), COSINE, "batch_norm='recalibrate'"),
        (lambda: keras.callbacks.ModelCheckpoint("m.keras"), COSINE, "give run_dir"),
        (lambda: keras.callbacks.BackupAndRestore("b"), COSINE, "give run_dir"),
        (lambda: ours.Resume("r"), COSINE, "give run_dir"),
        (lambda: keras.callbacks.EarlyStopping("val_acc"), COSINE, "watches 'val_acc', and an epo"),
        (lambda: keras.callbacks.EarlyStopping(), COSINE, "'val_loss', and an epoch logs loss, ac"),
        (lambda: ours.EarlyStopping(["loss", "val_loss"]), COSINE, "watches 'val_loss'"),
        (lambda: ours.ReduceLROnPlateau(), COSINE, "watches 'val_loss'"),
    ],
)  # fmt: skip
def test_a_callback_that_could_not_work_is_refused_before_the_first_step(
    callback: Any, stage: Stage, says: str, tmp_path: Path
) -> None:
    model = network()
    before = model.get_weights()
    first = Stage("first", epochs=1, schedule="constant")
    with pytest.raises(ValueError, match=f"`callbacks` must do without .*{says}"):
        trained(first, stage, model=model, callbacks=[callback()])
    assert same(before, model.get_weights())


@pytest.mark.parametrize("plan", ["auto", tl.plans.gradual(blocks=1), "fine_tune"])
def test_ready_made_plans_say_it_too(plan: object) -> None:
    for callback in (keras.callbacks.ReduceLROnPlateau("loss"), ours.LearningRateDecay(flat)):
        with pytest.raises(ValueError, match="`callbacks` must do without"):
            tl.fine_tune(network(), data(0.25), plan, verbose=0, callbacks=[callback])


def test_a_plan_that_only_solves_has_no_use_for_callbacks() -> None:
    with pytest.raises(ValueError, match="`callbacks` must be empty where every stage solves"):
        trained(Stage("s", optimizer="lbfgs"), callbacks=[Spy()])


def test_kerass_own_needs_a_mode_for_what_keras_does_not_know() -> None:
    stop = keras.callbacks.EarlyStopping("val_f1_macro")
    with pytest.raises(ValueError, match="needs mode='max' or 'min' to watch 'val_f1_macro'"):
        trained(COSINE, val=0.25, callbacks=[stop])
    for stop in (ours.EarlyStopping("val_f1_macro"), keras.callbacks.EarlyStopping("val_loss")):
        trained(COSINE, val=0.25, callbacks=[stop])


def test_what_another_callback_logs_may_be_watched() -> None:
    class Adds(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            logs["mine"] = float(epoch)

    stop = ours.EarlyStopping("mine", mode="min", patience=1)
    trained(Stage("a", epochs=4), callbacks=[Adds(), stop])
    assert stop.stopped_epoch == 1


@functools.cache
def usual_rates(stage: Stage) -> list[float]:
    """Those after each epoch without a callback."""
    spy = Spy()
    trained(stage, callbacks=[spy])
    return spy.rates


@pytest.mark.parametrize(
    ("callback", "stage"),
    [
        (keras.callbacks.ReduceLROnPlateau("loss", 0.5, 1, min_delta=9), PLAIN),
        (ours.ReduceLROnPlateau("loss", 0.5, 1, min_delta=9), PLAIN),
        (ours.ReduceLROnPlateau("loss", 0.5, 1, min_delta=9), COSINE),
        (keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 / (epoch + 1)), PLAIN),
        (ours.LearningRateDecay(lambda epoch: 1e-3 / (epoch + 1)), PLAIN),
    ],
)
def test_rates_follow_the_callbacks_that_are_taken(callback: Any, stage: Stage) -> None:
    with_it, without = Spy(), usual_rates(stage)
    trained(stage, callbacks=[callback, with_it])
    factors = np.array(with_it.rates[1:]) / np.maximum(without[1:], 1e-12)
    if stage.schedule == "constant":
        np.testing.assert_allclose(factors, 0.5, rtol=1e-5)
    assert with_it.rates[0] == pytest.approx(without[0])


class Rates(keras.callbacks.Callback):
    """The rates and momenta of each of several optimizers in the last epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        inner = self.model.optimizer.optimizers
        self.rates = sorted(float(o.learning_rate) for o in inner)
        self.momenta = [float(getattr(o, "momentum", 0)) for o in inner]


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_each_block_keeps_its_share_of_a_rate_that_a_callback_sets(schedule: str) -> None:
    stage = dataclasses.replace(DECAYED, schedule=schedule)
    plain, reduced, decayed = Rates(), Rates(), Rates()
    trained(stage, callbacks=[plain])
    trained(stage, callbacks=[ours.ReduceLROnPlateau("loss", 0.5, 1, min_delta=9), reduced])
    np.testing.assert_allclose(plain.rates, plain.rates[-1] * np.array([0.25, 0.5, 1]), rtol=1e-4)
    np.testing.assert_allclose(reduced.rates, 0.5 * np.array(plain.rates), rtol=1e-4, atol=1e-9)
    if schedule == "constant":
        trained(stage, callbacks=[ours.LearningRateDecay(lambda epoch: 1e-2 / 2**epoch), decayed])
        np.testing.assert_allclose(decayed.rates, [0.00125, 0.0025, 0.005], rtol=1e-5)


def test_each_block_gets_the_momentum_of_the_moment() -> None:
    stage = dataclasses.replace(DECAYED, optimizer="sgd")
    seen = Rates()
    usual = trained(stage, callbacks=[seen])
    assert seen.momenta == [0.9] * 3
    weights = trained(stage, callbacks=[ours.MomentumSchedule(lambda epoch: 0.1)])
    assert not same(weights, usual)
    lower = dataclasses.replace(stage, momentum=0.1)
    for one, other in zip(weights, trained(lower), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_log_file_has_the_epochs_of_all_stages(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("of another run\n")
    log = keras.callbacks.CSVLogger(path)
    solved = Stage("solved", optimizer="lbfgs")
    trained(solved, Stage("b", epochs=2), Stage("c", epochs=3), val=0.25, callbacks=[log])
    rows = list(csv.DictReader(path.open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "0", "1", "2"]
    assert not log.append
