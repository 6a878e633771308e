"""Several ValidationMetrics in one fit, and what stays of a fit once it is over."""

import gc
import weakref

import keras
import numpy as np
import pytest

from tltoolkit.callbacks import ValidationMetrics

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), np.arange(40) % 3
VX, VY = RNG.normal(size=(31, 4)).astype("float32"), np.arange(31) % 3


def build(**options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", **options)
    # Otherwise the first step makes its variables, and is traced twice.
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, callbacks, epochs=2):
    settings = {"epochs": epochs, "verbose": 0, "validation_data": (VX, VY)}
    return model.fit(X, Y, callbacks=callbacks, **settings).history


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_each_of_several_logs_what_it_alone_would(options):
    first = {"per_class": ("f1",), "averages": ("f1_macro",), "class_names": ["a", "b", "c"]}
    second = {"per_class": (), "averages": ("roc_auc_macro", "recall_weighted")}
    alone = [fit(build(**options), [ValidationMetrics(**given)]) for given in (first, second)]
    model = build(**options)
    both = fit(model, [ValidationMetrics(**given) for given in (first, second)])
    assert both == {**alone[0], **alone[1]}
    assert {"val_f1_a", "val_f1_macro", "val_roc_auc_macro", "val_recall_weighted"} < set(both)
    assert not {"evaluate", "compute_metrics"} & set(model.__dict__)


def test_of_the_same_name_the_later_one_counts():
    def scored(*metrics):
        model = build()
        model.compile("sgd", "categorical_crossentropy", run_eagerly=True)
        one_hot = (VX, np.eye(3)[VY])
        return model.fit(
            X, np.eye(3)[Y], validation_data=one_hot, verbose=0, callbacks=list(metrics)
        ).history["val_f1_micro"]

    single, several = scored(ValidationMetrics()), scored(ValidationMetrics(multi_label=True))
    assert single != several
    assert scored(ValidationMetrics(), ValidationMetrics(multi_label=True)) == several
    assert scored(ValidationMetrics(multi_label=True), ValidationMetrics()) == single


def test_an_evaluate_of_the_users_own_is_called_and_comes_back():
    model, calls = build(run_eagerly=True), []

    def own(*args, **kwargs):
        calls.append(1)
        return keras.Sequential.evaluate(model, *args, **kwargs)

    model.evaluate = own
    history = fit(model, [ValidationMetrics(), ValidationMetrics(per_class=("recall",))])
    assert len(calls) == 2
    assert "val_recall_1" in history
    assert model.evaluate is own


class Failing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise InterruptedError


@pytest.mark.parametrize(
    ("options", "fails"),
    [({}, False), ({}, True), ({"run_eagerly": True}, True), ({"jit_compile": True}, False)],
)
def test_nothing_of_a_fit_stays_alive(options, fails):
    model, metrics = build(**options), [ValidationMetrics(), ValidationMetrics()]
    if fails:
        with pytest.raises(InterruptedError):
            fit(model, [*metrics, Failing()], epochs=1)
    else:
        fit(model, metrics, epochs=1)
    freed = [weakref.ref(one) for one in (model, model.optimizer, *model.variables, *metrics)]
    del model, metrics
    gc.collect()
    assert [one() for one in freed] == [None] * len(freed)


def test_a_model_whose_fits_fail_again_and_again_keeps_one_wrapping():
    model = build()
    for _ in range(3):
        with pytest.raises(InterruptedError):
            fit(model, [ValidationMetrics(), Failing()])
    gc.collect()
    metrics = [one for one in gc.get_objects() if type(one) is ValidationMetrics]
    assert len(metrics) <= 1  # that of Keras' own last list of callbacks
    assert "val_f1_macro" not in fit(model, [])
    history = fit(model, [ValidationMetrics()])
    assert len(history["val_f1_macro"]) == 2
    assert "evaluate" not in model.__dict__
