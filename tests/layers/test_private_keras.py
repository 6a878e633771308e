"""Each private part of Keras and TensorFlow does what the toolkit takes it for.

Checked against public behaviour alone, so that `.ci/run` can ask keras-nightly the same.
"""

import gc
import inspect
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tltoolkit.layers import private

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


class Held(layers.Layer):
    """A layer that keeps others in a list and under a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [layers.Dense(4), layers.Dropout(0.5, seed=1)]
        self.last = layers.BatchNormalization()

    def call(self, x: Any, training: bool = False) -> Any:
        for part in self.parts:
            x = part(x)
        return self.last(x, training=training)


class Body(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.held, self.scores = Held(), layers.Dense(2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.scores(self.held(x, training=training))


def flat() -> keras.Model:
    x = inputs = keras.Input((3,))
    a = layers.Dense(4, name="a")(x)
    b = layers.Dense(4, name="b")(a)
    x = keras.ops.relu(layers.Add()([a, b]) * 2)
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), Held(), layers.Dense(2)])


def nested() -> keras.Model:
    inputs = keras.Input((3,))
    inner = flat()
    # The inner model is called twice, with an argument by keyword.
    sides = [inner(inputs), inner(layers.Rescaling(2.0)(inputs), training=False)]
    return keras.Model(inputs, layers.Dense(2)(sequential()(layers.Concatenate()(sides)[:, :3])))


def subclassed() -> keras.Model:
    model = Body()
    model(X)
    return model


GRAPHS = {"flat": flat, "sequential": sequential, "nested": nested}
MODELS = {**GRAPHS, "subclassed": subclassed}
with_graphs = pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
with_all = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
Make = Callable[[], keras.Model]


def ids(things: Any) -> set[int]:
    return {id(thing) for thing in things}


def test_each_part_has_a_test() -> None:
    own = [n for n, made in vars(private).items() if inspect.getmodule(made) is private]
    parts = {"MODEL_CHECKPOINT_COUNTER", *(n for n in own if not n.startswith("_"))}
    text = Path(__file__).read_text()
    assert not [part for part in parts if f"private.{part}" not in text]
    assert len(parts) > 15


@with_graphs
def test_a_graph_is_known_with_inputs_outputs_and_layers(make: Make) -> None:
    model = make()
    inner = private.functional(model)
    assert [t.shape for t in inner.inputs] == [t.shape for t in model.inputs]
    assert [t.shape for t in inner.outputs] == [t.shape for t in model.outputs]
    assert ids(model.layers) <= ids(inner.layers)
    np.testing.assert_array_equal(inner(X), model(X))


def test_what_has_no_graph_is_told() -> None:
    unbuilt = keras.Sequential([layers.Dense(2)])
    for model in (subclassed(), unbuilt, layers.Dense(2), keras.ops.relu):
        assert private.functional(model) is None
    with pytest.raises(ValueError, match="has no graph"):
        private.nodes(subclassed())
    unbuilt(X)
    assert private.functional(unbuilt) is not None


@with_graphs
def test_calls_made_again_in_their_order_give_the_models_outputs(make: Make) -> None:
    model = make()
    inner, values = private.functional(model), {}
    for node in private.nodes(model):
        assert isinstance(node, private.Node)
        if node.is_input:
            (made,) = node.outputs
            assert made is inner.inputs[0]
            values[id(made)] = X
        else:
            assert all(id(tensor) in values for tensor in node.inputs)
            args, kwargs = node.arguments(values)
            made = keras.tree.flatten(node.layer(*args, **kwargs))
            values |= dict(zip(map(id, node.outputs), made, strict=True))
    np.testing.assert_array_equal(values[id(inner.outputs[0])], model(X))


def test_the_maker_of_a_tensor_is_known_before_there_is_a_model() -> None:
    inputs = keras.Input((3,))
    a, b = layers.Dense(2), layers.Add()
    tensor = b([a(inputs), a(inputs)])
    node = private.node_of(tensor)
    assert node.layer is b
    assert node.outputs == (tensor,)
    first, second = map(private.node_of, node.inputs)
    assert first.layer is second.layer is a
    assert first.call is not second.call
    assert first.inputs == (inputs,)
    assert private.node_of(inputs).is_input


def test_the_last_call_of_a_layer_is_told_from_its_first() -> None:
    inputs, dense = keras.Input((3,)), layers.Dense(3)
    once = dense(inputs)
    again = dense(once)
    assert private.last_call(dense).inputs == (once,)
    assert private.last_call(dense).outputs == (again,)
    inner = sequential()
    made = inner(again)
    assert private.last_call(inner).outputs == (made,)
    plus = private.last_call(private.node_of(made + 3.0).layer)
    assert [a for a in plus.call.arguments.args if isinstance(a, float)] == [3.0]


def test_convnext_scales_by_a_variable_that_can_be_named() -> None:
    scale = private.layer_scale()(0.5, 3, name="scale")
    np.testing.assert_array_equal(scale(X), X / 2)
    private.name_variable(scale.gamma, "gamma", scale)
    assert (scale.gamma.name, scale.gamma.path) == ("gamma", "scale/gamma")
    with private.without_values():
        expected = keras.applications.ConvNeXtTiny(weights=None, include_top=False)
    assert any(type(layer) is private.layer_scale() for layer in expected.layers)


def test_variables_without_values_stay_so_and_others_do_not() -> None:
    with keras.StatelessScope():
        before = layers.Dense(2)
        before.build((None, 3))
        with private.without_values():
            inside = layers.Dense(2)
            inside.build((None, 3))
    assert before(X).shape == (4, 2)
    with keras.StatelessScope():
        layers.Dense(2).build((None, 3))
    assert tuple(inside.kernel.shape) == (3, 2)
    before.kernel.assign(np.zeros((3, 2)))
    with pytest.raises(AttributeError):
        inside.kernel.assign(np.zeros((3, 2)))


def test_a_call_can_be_taken_off_a_layer() -> None:
    model = flat()
    layer = model.get_layer("a")
    lists = private.call_lists(layer)
    sizes = [len(calls) for calls in lists]
    above, beside = layers.Dense(1), layers.Dense(1)
    above(layer.output)  # is called on what the layer made
    beside(layer(keras.Input((3,))))  # is called on what it makes anew
    assert [len(calls) - size for calls, size in zip(lists, sizes, strict=True)] == [1, 2]
    alive = weakref.ref(above), weakref.ref(beside)
    del above, beside
    gc.collect()
    assert None not in [one() for one in alive]
    for calls, size in zip(lists, sizes, strict=True):
        del calls[size:]
    gc.collect()
    assert [one() for one in alive] == [None, None]
    assert model(X).shape == (4, 2)


@with_all
def test_the_layers_in_a_model_are_those_that_it_lists(make: Make) -> None:
    model = make()
    inputs = {id(one) for one in private.layers_in(model) if isinstance(one, layers.InputLayer)}
    assert ids(private.layers_in(model)) - inputs == ids(model.layers) - inputs


def test_the_layers_in_a_layer_are_found_under_any_name() -> None:
    held = Held()
    assert ids(private.layers_in(held)) == ids([*held.parts, held.last])
    wrapped = layers.TimeDistributed(held)
    assert private.layers_in(wrapped) == [held]
    assert private.layers_in(private.nodes(flat())[-2].layer) == []


def test_seed_generators_are_those_of_the_layer_itself() -> None:
    dropout, flip, held = layers.Dropout(0.5, seed=3), layers.RandomFlip(seed=4), Held()
    assert private.seed_generators(dropout) == [dropout.seed_generator]
    assert private.seed_generators(flip) == [flip.generator]
    assert private.seed_generators(held) == private.seed_generators(layers.Dense(2)) == []
    (generator,) = private.seed_generators(dropout)
    before = generator.state.numpy()
    first = dropout(X, training=True).numpy()
    assert not np.array_equal(dropout(X, training=True), first)
    generator.state.assign(before)
    np.testing.assert_array_equal(dropout(X, training=True), first)


def test_own_state_is_what_gradients_never_train() -> None:
    model = subclassed()
    norm, dense = model.held.last, model.scores
    assert ids(private.own_state(norm)) == ids([norm.moving_mean, norm.moving_variance])
    for layer in (model, model.held, dense, *model.held.parts):
        layer.trainable = False
        assert private.own_state(layer) == []


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits_stay_beside_what_was_made_of_them(activation: str) -> None:
    inputs = keras.Input((3,))
    logits = layers.Dense(2)(inputs)
    whole = keras.Model(inputs, [logits, layers.Activation(activation, dtype="float32")(logits)])
    expected, outputs = whole(X * 1000)
    np.testing.assert_array_equal(private.logits_behind(outputs), expected)
    assert private.logits_behind(expected) is None
    assert private.logits_behind(outputs + 0) is None
    # Keras' own loss takes them: of the outputs alone, which are 0 and 1, it could not be exact.
    kind = "categorical" if activation == "softmax" else "binary"
    loss = getattr(keras.losses, f"{kind}_crossentropy")
    targets = np.eye(2, dtype="float32")[[0, 1, 0, 1]]
    np.testing.assert_array_equal(loss(targets, outputs), loss(targets, expected, from_logits=True))


def test_the_source_of_a_rate() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert private.rate_source(keras.optimizers.SGD(schedule)) is schedule

    def rate() -> float:
        return 0.25

    assert private.rate_source(keras.optimizers.Adam(rate)) is rate
    plain = keras.optimizers.SGD(0.1)
    plain.learning_rate = 0.5
    assert float(private.rate_source(plain)) == float(plain.learning_rate) == 0.5


class Epochs(keras.callbacks.Callback):
    """Starts at an epoch, and lists those that are trained."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start, self.seen = start, []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        private.start_fit_at(self.model, self.start)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        private.start_fit_at(self.model, None)
        self.seen.append(epoch)


def compiled() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def test_a_fit_starts_where_a_callback_says() -> None:
    model, callback = compiled(), Epochs(2)
    model.fit(X, X[:, :1], epochs=4, verbose=0, callbacks=[callback])
    assert callback.seen == [2, 3]
    assert model.fit(X, X[:, :1], epochs=2, verbose=0).epoch == [0, 1]


def test_a_checkpoint_goes_on_counting(tmp_path: Path) -> None:
    def saved(count: int, steps: int) -> tuple[bool, int]:
        path = tmp_path / f"{count}-{steps}.weights.h5"
        callback = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=3)
        assert getattr(callback, private.MODEL_CHECKPOINT_COUNTER) == 0
        setattr(callback, private.MODEL_CHECKPOINT_COUNTER, count)
        batch = X[:steps], X[:steps, :1]
        compiled().fit(*batch, batch_size=1, verbose=0, callbacks=[callback])
        return path.exists(), getattr(callback, private.MODEL_CHECKPOINT_COUNTER)

    assert saved(0, 2) == (False, 2)
    assert saved(2, 1) == (True, 0)


def test_the_global_generator_can_be_read_and_put_back() -> None:
    keras.utils.set_random_seed(5)
    keras.random.uniform((2,))
    mine = private.global_seed_generator()
    state = mine.state.numpy()
    expected = keras.random.uniform((9,)).numpy()
    keras.utils.set_random_seed(6)
    assert not np.array_equal(keras.random.uniform((9,)), expected)
    mine.state.assign(state)
    private.set_global_seed_generator(mine)
    np.testing.assert_array_equal(keras.random.uniform((9,)), expected)
    private.set_global_seed_generator(None)
    assert private.global_seed_generator() is None
    keras.random.uniform((1,))
    assert private.global_seed_generator() not in (None, mine)


def test_safe_mode_holds_whatever_the_process_has_opted_for() -> None:
    layer = layers.Lambda(lambda x: x + 1)
    told: list[str] = []

    def deserialize() -> None:
        config = keras.saving.serialize_keras_object(layer)
        keras.saving.deserialize_keras_object(config, safe_mode=True)

    def read() -> None:
        # Keras keeps the choice by thread, so that it ends with this one.
        keras.config.enable_unsafe_deserialization()
        deserialize()
        told.append("the choice goes first")
        try:
            with private.safe_mode():
                deserialize()
        except ValueError:
            told.append("but not within")
        deserialize()
        told.append("and again after it")

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert told == ["the choice goes first", "but not within", "and again after it"]


def written(path: Path) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None
        )
    return sorted(shapes)


@with_all
def test_stored_shapes_are_those_of_the_file(make: Make, tmp_path: Path) -> None:
    model = make()
    model.save_weights(tmp_path / "it.weights.h5")
    assert sorted(private.stored_shapes(model)) == written(tmp_path / "it.weights.h5")


def test_what_is_stored_is_not_what_a_model_has(tmp_path: Path) -> None:
    dense = layers.Dense(4)
    model = keras.Sequential([keras.Input((5, 3)), layers.TimeDistributed(dense)])
    dense.enable_lora(2)
    model.save_weights(tmp_path / "it.weights.h5")
    found = sorted(private.stored_shapes(model))
    assert found == written(tmp_path / "it.weights.h5")
    assert found != sorted(tuple(v.shape) for v in model.variables)


@pytest.mark.parametrize("forget", [False, True])
def test_variables_without_values_are_forgotten(forget: bool) -> None:
    with keras.StatelessScope(initialize_variables=False):
        dense = layers.Dense(2)
        dense.build((None, 3))
    if forget:
        private.forget_variables_without_values()
    with keras.StatelessScope():
        pass  # gives a value to all that wait for one
    assert tf.is_tensor(dense.kernel.value) or isinstance(dense.kernel.value, tf.Variable)
    assert isinstance(dense.kernel.value, tf.Variable) is not forget


@with_all
def test_a_folded_function_holds_the_weights_of_that_moment(make: Make) -> None:
    model = make()
    traced = tf.function(lambda x: model(x, training=False))
    concrete = traced.get_concrete_function(tf.TensorSpec((None, 3), tf.float32))
    expected = concrete(tf.constant(X)).numpy()
    folded = private.folded(concrete)
    for variable in model.trainable_variables:
        variable.assign_add(keras.ops.ones(variable.shape))
    assert not np.allclose(concrete(tf.constant(X)), expected)
    np.testing.assert_allclose(folded(tf.constant(X))[0], expected, rtol=1e-5, atol=1e-6)


def test_operations_that_take_a_resource() -> None:
    counter = tf.Variable(0.0)
    table = tf.Variable(tf.ones((5, 2)))

    @tf.function
    def work(x: Any) -> Any:
        counter.assign_add(tf.reduce_sum(x))
        return tf.matmul(x, tf.transpose(tf.gather(table, [0, 1]))) + counter

    graph = work.get_concrete_function(tf.TensorSpec((3, 2), tf.float32)).graph
    operations = graph.get_operations()
    takes = {op.type: any(t.dtype == tf.resource for t in op.inputs) for op in operations}
    assert {"AssignAddVariableOp", "ResourceGather", "ReadVariableOp"} <= set(takes)
    assert {kind: private.takes_resource(kind) for kind in takes} == takes
    assert not private.takes_resource("__inference_no_operation_7")
