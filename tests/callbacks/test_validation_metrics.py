"""ValidationMetrics against scikit-learn, on every way that Keras validates."""

import keras
import numpy as np
import pytest
from sklearn import metrics

from tltoolkit.callbacks import EarlyStopping, ValidationMetrics

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = RNG.integers(0, 3, 40)
VX = RNG.normal(size=(53, 4)).astype("float32")
VY = RNG.integers(0, 3, 53)
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def build(units=3, activation="softmax", loss="sparse_categorical_crossentropy", **arguments):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation=activation)])
    model.compile(keras.optimizers.SGD(0.05), loss, **{"run_eagerly": True, **arguments})
    return model


def fit(model, callbacks, y=Y, validation=(VX, VY), **arguments):
    settings = {"batch_size": 16, "epochs": 2, "verbose": 0} | arguments
    return model.fit(X, y, validation_data=validation, callbacks=callbacks, **settings).history


def expected(y, probabilities):
    predicted = probabilities.argmax(axis=1)
    one_hot = np.eye(probabilities.shape[1])[y]
    scores = {}
    for how in ("macro", "micro", "weighted"):
        triple = metrics.precision_recall_fscore_support(y, predicted, average=how, zero_division=0)
        scores |= dict(
            zip((f"precision_{how}", f"recall_{how}", f"f1_{how}"), triple, strict=False)
        )
    scores["average_precision_macro"] = metrics.average_precision_score(one_hot, probabilities)
    scores["roc_auc_macro"] = metrics.roc_auc_score(one_hot, probabilities)
    per_class = metrics.f1_score(y, predicted, average=None, zero_division=0)
    return scores | {f"f1_{c}": value for c, value in enumerate(per_class)}


def check(history, scores):
    for name, value in scores.items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize(
    "compile_arguments",
    [
        {"run_eagerly": False},
        {"run_eagerly": False, "steps_per_execution": 3},
        {"run_eagerly": True},
        {
            "run_eagerly": False,
            "jit_compile": True,
            "steps_per_execution": 2,
            "metrics": ["accuracy"],
        },
    ],
)
def test_same_as_scikit_learn(compile_arguments):
    model = build(**compile_arguments)
    history = fit(model, [ValidationMetrics()])
    check(history, expected(VY, model.predict(VX, verbose=0)))
    loss = model.evaluate(VX, VY, verbose=0, return_dict=True)["loss"]
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build()
    finally:
        keras.config.set_dtype_policy("float32")
    history = fit(model, [ValidationMetrics()])
    check(history, expected(VY, model.predict(VX, verbose=0).astype("float32")))


@pytest.mark.parametrize("validation", ["dataset", "one_hot", "logits", "weighted", "column"])
def test_targets_and_data(validation):
    import tensorflow as tf

    given, y = (VX, VY), Y
    model = build()
    if validation == "dataset":
        given = tf.data.Dataset.from_tensor_slices((VX, VY)).batch(10)
    elif validation == "one_hot":
        model, y, given = build(loss="categorical_crossentropy"), np.eye(3)[Y], (VX, np.eye(3)[VY])
    elif validation == "logits":
        model = build(activation=None, loss=LOGITS)
    elif validation == "weighted":
        given = (VX, VY, np.linspace(0, 1, 53))
    else:
        given = (VX, VY[:, None])
    history = fit(model, [ValidationMetrics()], y=y, validation=given)
    outputs = model.predict(VX, verbose=0)
    if validation == "logits":
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    check(history, expected(VY, outputs))


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_multi_label(activation):
    y, vy = RNG.integers(0, 2, (len(X), 3)), RNG.integers(0, 2, (53, 3))
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    model = build(activation=activation, loss=loss)
    history = fit(model, [ValidationMetrics(per_class=["roc_auc"])], y=y, validation=(VX, vy))
    outputs = model.predict(VX, verbose=0)
    outputs = 1 / (1 + np.exp(-outputs)) if activation is None else outputs
    predicted = outputs >= 0.5
    scores = {
        "f1_macro": metrics.f1_score(vy, predicted, average="macro", zero_division=0),
        "recall_micro": metrics.recall_score(vy, predicted, average="micro"),
        "average_precision_macro": metrics.average_precision_score(vy, outputs),
        "roc_auc_1": metrics.roc_auc_score(vy[:, 1], outputs[:, 1]),
    }
    check(history, scores)


def test_two_classes_with_one_output():
    y, vy = (Y > 0).astype("float32"), (VY > 0).astype(int)
    model = build(1, "sigmoid", "binary_crossentropy")
    callback = ValidationMetrics(["no", "yes"], per_class=["f1", "recall"])
    history = fit(model, [callback], y=y, validation=(VX, vy))
    one = model.predict(VX, verbose=0)
    check(history, {"roc_auc_macro": metrics.roc_auc_score(vy, one[:, 0])})
    check(history, {"recall_yes": metrics.recall_score(vy, one[:, 0] >= 0.5)})


@pytest.mark.parametrize("first", [True, False])
def test_others_can_monitor_it_in_any_order(first):
    stop = EarlyStopping("val_f1_macro", patience=1, min_delta=9)
    callbacks = [stop, ValidationMetrics()] if first else [ValidationMetrics(), stop]
    history = fit(build(), callbacks, epochs=5)
    assert len(history["loss"]) == 2
    assert stop.best == history["val_f1_macro"][0]


def test_keras_own_monitors_can_too():
    history = fit(
        build(),
        [keras.callbacks.EarlyStopping("val_f1_macro", mode="max"), ValidationMetrics()],
        epochs=9,
    )
    assert len(history["loss"]) <= 9


def test_the_model_is_left_as_it_was(tmp_path):
    model = build(run_eagerly=False)
    model.evaluate(VX, VY, verbose=0)
    test_function = model.test_function
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")
    callback = ValidationMetrics()
    fit(model, [saver, callback])
    assert not {"evaluate", "compute_metrics"} & set(model.__dict__)
    assert model.test_function is test_function
    assert "f1_macro" not in model.evaluate(VX, VY, verbose=0, return_dict=True)
    keras.models.load_model(tmp_path / "m.keras")
    check(fit(model, [callback]), expected(VY, model.predict(VX, verbose=0)))


def test_other_evaluations_during_fit_are_not_counted():
    class Testing(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert set(self.model.evaluate(X, Y, verbose=0, return_dict=True)) == {"loss"}

    model = build()
    check(fit(model, [Testing(), ValidationMetrics()]), expected(VY, model.predict(VX, verbose=0)))


def test_a_failed_fit_leaves_nothing_behind_that_counts():
    class Failing(keras.callbacks.Callback):
        def on_test_end(self, logs=None):
            raise RuntimeError("stop here")

    model = build()
    with pytest.raises(RuntimeError, match="stop here"):
        fit(model, [ValidationMetrics(), Failing()])
    assert set(fit(model, [])) == {"loss", "val_loss"}
    check(fit(model, [ValidationMetrics()]), expected(VY, model.predict(VX, verbose=0)))


def test_absent_class_and_broken_outputs():
    model = build()
    two = VY < 2
    history = fit(model, [ValidationMetrics(per_class=["roc_auc"])], validation=(VX[two], VY[two]))
    assert np.isnan(history["val_roc_auc_2"][-1])
    assert np.isfinite(history["val_roc_auc_macro"][-1])
    model.set_weights([np.full((4, 3), np.nan), np.zeros(3)])
    assert np.isnan(fit(model, [ValidationMetrics()])["val_f1_macro"]).all()


def test_without_validation_data():
    with pytest.warns(UserWarning, match="no validation_data"):
        fit(build(), [ValidationMetrics()], validation=None)


def test_refusals():
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(3)(inputs), keras.layers.Dense(3)(inputs)]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", [LOGITS, LOGITS])
    with pytest.raises(ValueError, match="one output"):
        fit(model, [ValidationMetrics()], y=[Y, Y], validation=(VX, [VY, VY]))
    with pytest.raises(ValueError, match="`class_names` must be 3 names"):
        fit(build(), [ValidationMetrics(["a", "b"])])
    with pytest.raises(ValueError, match=r"labels must lie in 0..2"):
        fit(
            build(run_eagerly=True, loss=lambda y, p: p),
            [ValidationMetrics()],
            validation=(VX, VY + 1),
        )
    with pytest.raises(ValueError, match="`per_class` must be one of"):
        ValidationMetrics(per_class=["accuracy"])
    with pytest.raises(ValueError, match="`averages` must be one of 'precision_macro'"):
        ValidationMetrics(averages=["f1"])
    with pytest.raises(ValueError, match="`from_logits` must be one of"):
        ValidationMetrics(from_logits="yes")

    class Own(keras.Sequential):
        def test_step(self, data):
            return {"loss": 0.0}

    model = Own([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", LOGITS)
    with pytest.raises(ValueError, match="own `test_step` must call"):
        fit(model, [ValidationMetrics()])


def test_only_the_averages_that_are_asked_for_are_logged():
    history = fit(build_again(), [ValidationMetrics(per_class=(), averages=["f1_macro"])])
    assert sorted(history) == ["loss", "val_f1_macro", "val_loss"]
    assert history["val_f1_macro"] == fit(build_again(), [ValidationMetrics()])["val_f1_macro"]


def build_again():
    keras.utils.set_random_seed(1)
    return build()


@pytest.mark.parametrize("several", [False, True])
def test_a_class_without_positives_stays_out_of_the_averages_though_it_was_predicted(several):
    rng = np.random.default_rng(3)
    vy = rng.integers(0, 3, 40)  # of five classes: 3 is predicted too, 4 never
    scores = rng.random((40, 5)).astype("float32") - [0, 0, 0, 0.2, 2]
    predicted = scores.argmax(axis=1)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Activation("linear")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    targets = vy
    if several:
        targets, predicted = np.eye(5)[vy], (scores >= 0).astype(int)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    history = model.fit(
        scores,
        targets,
        validation_data=(scores, targets),
        verbose=0,
        callbacks=[ValidationMetrics(multi_label=several, per_class=["f1", "precision", "recall"])],
    ).history
    for how in ("macro", "weighted"):
        options = {"labels": [0, 1, 2], "average": how, "zero_division": np.nan}
        triple = metrics.precision_recall_fscore_support(targets, predicted, **options)
        names = [f"{name}_{how}" for name in ("precision", "recall", "f1")]
        check(history, dict(zip(names, triple, strict=False)))
    pooled = metrics.f1_score(targets, predicted, average="micro")
    check(history, {"f1_micro": pooled})
    for name in ("f1_3", "precision_3", "recall_3", "f1_4"):
        assert np.isnan(history[f"val_{name}"]).all()


def test_class_numbers_are_no_several_labels():
    with pytest.raises(ValueError, match="the targets have 1 columns and the model has 3 outputs"):
        fit(build(), [ValidationMetrics(multi_label=True)])
