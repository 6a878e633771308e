import keras
import numpy as np

from tltoolkit.layers import graph


def residual() -> keras.Model:
    """pixels -> a -> (b -> c) + a -> out: cut points are pixels, a, the sum and out."""
    pixels = keras.Input((4,), name="pixels")
    a = keras.layers.Dense(4, name="a")(pixels)
    c = keras.layers.Dense(4, name="c")(keras.layers.Dense(3, name="b")(a))
    joined = keras.layers.Add(name="sum")([a, c])
    return keras.Model(pixels, keras.layers.Dense(2, name="out")(joined))


def names_of_cuts(model: keras.Model) -> list[str]:
    order = graph.nodes(model)
    return [order[position - 1].layer.name for position, _ in graph.cuts(model)]


def test_cuts_are_where_everything_passes_through_one_tensor() -> None:
    assert names_of_cuts(residual()) == ["pixels", "a", "sum", "out"]


def test_nodes_come_in_an_order_in_which_they_can_run() -> None:
    known: set[int] = set()
    for node in graph.nodes(residual()):
        assert all(id(tensor) in known for tensor in node.inputs)
        known |= {id(tensor) for tensor in node.outputs}


def test_each_cut_splits_the_model_without_changing_it() -> None:
    model = residual()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    expected = model(x).numpy()
    for _, tensor in list(graph.cuts(model))[:-1]:
        lower, upper = keras.Model(model.input, tensor), keras.Model(tensor, model.output)
        np.testing.assert_array_equal(upper(lower(x)), expected)


def test_flat_looks_into_nested_models_and_shares_their_layers() -> None:
    inner = residual()
    preprocess = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(0.5, name="scale")])
    x = keras.Input((4,), name="x")
    outer = keras.Model(x, keras.layers.ReLU(name="relu")(inner(preprocess(x))))

    model = graph.flat(outer)
    assert [layer.name for layer in model.layers] == [
        "x", "scale", "a", "b", "c", "sum", "out", "relu",
    ]  # fmt: skip
    values = np.random.default_rng(1).normal(size=(6, 4)).astype("float32")
    np.testing.assert_array_equal(model(values), outer(values))
    model.get_layer("a").kernel.assign_add(np.ones((4, 4)))
    np.testing.assert_array_equal(model(values), outer(values))


def test_flat_leaves_a_flat_model_alone() -> None:
    model = residual()
    assert graph.flat(model) is model


def test_a_subclassed_model_has_no_graph() -> None:
    class Own(keras.Model):
        def call(self, x: object) -> object:
            return x

    assert not graph.is_functional(Own())
    assert graph.is_functional(residual())


def test_insert_puts_a_call_after_a_layer_and_changes_nothing_else() -> None:
    model = residual()
    noisy = graph.insert(model, {"b": keras.layers.Dropout(0.5, seed=1, name="drop")})
    assert [layer.name for layer in noisy.layers] == ["pixels", "a", "b", "drop", "c", "sum", "out"]
    x = np.random.default_rng(2).normal(size=(5, 4)).astype("float32")
    np.testing.assert_array_equal(noisy(x, training=False), model(x))
    assert not np.array_equal(noisy(x, training=True), model(x))


def test_output_of_is_that_of_this_model() -> None:
    model = residual()
    doubled = graph.insert(model, {"a": keras.layers.Rescaling(2.0, name="twice")})
    x = np.ones((1, 4), "float32")
    for one in (model, doubled):
        upto = keras.Model(one.input, graph.output_of(one, "c"))
        assert upto(x).shape == (1, 4)
    np.testing.assert_allclose(
        keras.Model(doubled.input, graph.output_of(doubled, "twice"))(x),
        2 * keras.Model(model.input, graph.output_of(model, "a"))(x),
        rtol=1e-6,
    )
