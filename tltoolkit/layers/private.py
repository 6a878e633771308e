"""Every private part of Keras and TensorFlow that the toolkit uses, each behind a function.

What has no public form may change with any release. So it stands here alone, which
tests/test_architecture.py holds; tests/layers/test_private_keras.py checks each part against public
behaviour, and `.ci/run` does that with keras-nightly too. All were seen in Keras 3.15.1 and
3.16.0.dev2026102704 and in TensorFlow 2.21, and each says what it is needed for.

Imports stand inside the functions: what a release moves breaks one function and its test, not
everything, and this module alone loads no framework.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

# How many batches ModelCheckpoint has seen since it saved; with `save_freq=n` a resumed run would
# save at other steps without. It has no public form, and is set by `setattr` on resuming.
MODEL_CHECKPOINT_COUNTER = "_batches_seen_since_last_saving"


@dataclass(frozen=True)
class Node:
    """One call of one layer or operation: what it read and what it made."""

    layer: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    # Keras' own record of the call; its class is exported nowhere.
    call: Any

    @property
    def is_input(self) -> bool:
        """Whether it is where a model begins."""
        return bool(self.call.is_input)

    def arguments(self, values: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the call was given, with `values` (by the id of the tensor) for its tensors.

        Only Keras' record knows where among lists and keywords each tensor stood.
        """
        return self.call.arguments.fill_in(values)


def functional(model: Any) -> Any:
    """The functional model that holds a model's graph, or None where there is none.

    A Sequential holds one inside, in `_functional`, once it is built. `isinstance` would not do:
    `keras.Model(inputs, outputs)` has a class that is exported nowhere.
    """
    inner = getattr(model, "_functional", None) or model
    return inner if getattr(inner, "_nodes_by_depth", None) is not None else None


def nodes(model: Any) -> list[Node]:
    """The calls of a model with a graph in an order in which they can run, inputs first.

    `get_config` has the graph in public, but only of layers that can be written down, and without
    the tensors at which a graph is cut.
    """
    inner = functional(model)
    if inner is None:
        raise ValueError(f"{model} has no graph")
    by_depth = inner._nodes_by_depth
    return [_node(call) for depth in sorted(by_depth, reverse=True) for call in by_depth[depth]]


def node_of(tensor: Any) -> Node:
    """The call that made a symbolic tensor: needed before there is a model to ask."""
    operation, index, _ = tensor._keras_history
    return _node(operation._inbound_nodes[index])


def last_call(operation: Any) -> Node:
    """The last call of a layer or operation; `output` is that of the first.

    A Sequential's first call is the one that built it.
    """
    return _node(operation._inbound_nodes[-1])


def call_lists(layer: Any) -> tuple[list[Any], list[Any]]:
    """The lists in which Keras keeps each call of a layer, and each call of what comes after.

    Nothing public takes a call off again, and they hold all models that were ever built on it.
    """
    return layer._inbound_nodes, layer._outbound_nodes


def layers_in(layer: Any) -> list[Any]:
    """The layers that a layer, model or operation holds directly, under whatever name.

    `model.layers` is that of models alone; other layers keep theirs to themselves.
    """
    return list(getattr(layer, "_layers", ()))


def seed_generators(layer: Any) -> list[Any]:
    """The generators that a layer draws from, without those of layers inside.

    Their public names differ: dropout has `seed_generator`, random image layers `generator`.
    """
    return list(layer._seed_generators)


def own_state(layer: Any) -> list[Any]:
    """The variables of a layer itself that gradients never train.

    `non_trainable_variables` adds those of layers inside, of generators, and what is frozen.
    """
    return list(layer._non_trainable_variables)


def logits_behind(outputs: Any) -> Any:
    """The logits that a softmax or sigmoid made `outputs` of, as long as they are one step.

    Keras' own losses look there too: a logarithm of the outputs would lose what has rounded to 0.
    """
    return getattr(outputs, "_keras_logits", None)


def rate_source(optimizer: Any) -> Any:
    """What an optimizer takes its rate from: a variable, a schedule or a function.

    `optimizer.learning_rate` is the schedule's value of the moment, `get_config` a copy of it.
    """
    return optimizer._learning_rate


def start_fit_at(model: Any, epoch: int | None) -> None:
    """Let a `fit` that has begun start at this epoch, whatever its `initial_epoch`; None: as said.

    A callback has no other way, and BackupAndRestore goes it as well. But Keras 3.15 never takes
    it back, so that a later `fit` trains too few epochs: set None as soon as it has been read.
    """
    model._initial_epoch = epoch


def global_seed_generator() -> Any:
    """The generator behind `keras.random` without a seed, or None before it is first used.

    `keras.utils.set_random_seed` drops it; nothing public reads it or puts it back.
    """
    from keras.src.backend.common import global_state
    from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

    return global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)


def set_global_seed_generator(generator: Any) -> None:
    """Put one back that `global_seed_generator` gave."""
    from keras.src.backend.common import global_state
    from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

    global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


def safe_mode() -> AbstractContextManager[None]:
    """Within the block no code is read from a model's configuration.

    `safe_mode=True` of `load_model` gives way where the process has called
    `keras.config.enable_unsafe_deserialization` (Keras 3.15).
    """
    from keras.src.saving.serialization_lib import SafeModeScope

    return SafeModeScope(safe_mode=True)


def stored_shapes(model: Any) -> list[tuple[int, ...]]:
    """The shapes of the arrays that saving a model writes; its variables need no values.

    They are not those of its variables: LoRA's are merged, a wrapper's are written twice. The
    public way to know is to write the file, which takes the memory that a check is to spare.
    """
    from keras.src.saving.saving_lib import H5IOStore, _save_state

    parts: list[dict[str, Any]] = []

    class Shapes(H5IOStore):
        """Takes the place of a file; Keras 3.15 takes nothing but its own kinds of files."""

        def __init__(self) -> None:
            """Open none."""

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: Any = None) -> dict[str, Any]:
            parts.append({})
            return parts[-1]

    _save_state(model, Shapes(), None, "", set())
    return [tuple(array.shape) for part in parts for array in part.values()]


def forget_variables_without_values() -> None:
    """Drop the list of variables that were made in a scope without values.

    Keras 3.15 keeps them, to fill all when the next scope ends, whoever opens that.
    """
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("uninitialized_variables", [])


@contextmanager
def without_values() -> Iterator[None]:
    """Within the block layers make variables that have a shape and never get a value.

    For a network that is only looked at: values take more than half of the time of building it.
    """
    from keras import StatelessScope
    from keras.src.backend.common import global_state

    # Keras 3.15 would fill them when the next scope ends, as it has to fill those from before.
    before = list(global_state.get_global_attribute("uninitialized_variables", []))
    try:
        with StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute("uninitialized_variables", before)


def folded(concrete: Any) -> Any:
    """A concrete function with constants in place of its variables; it returns a list.

    TensorFlow exports this for graphs of version 1 and within its converters alone.
    """
    from tensorflow.python.framework import convert_to_constants

    return convert_to_constants.convert_variables_to_constants_v2(concrete)


def takes_resource(operation: str) -> bool:
    """Whether an operation of TensorFlow, by its name, takes a variable or another resource.

    A graph's functions are stored without the types of what they pass on; nothing public tells.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    known = op_def_registry.get(operation)  # None for a function of the graph
    resource = tf.resource.as_datatype_enum
    return known is not None and any(given.type == resource for given in known.input_arg)


def layer_scale() -> Any:
    """The class of ConvNeXt's layers that scale each channel; Keras 3.15 exports it nowhere."""
    from keras.src.applications.convnext import LayerScale

    return LayerScale


def name_variable(variable: Any, name: str, layer: Any) -> None:
    """Name a variable that its layer left to Keras, which numbers it by what else was built.

    By its number a checkpoint would not be found again.
    """
    variable._name, variable._path = name, f"{layer.name}/{name}"


def _node(call: Any) -> Node:
    return Node(call.operation, tuple(call.input_tensors), tuple(call.outputs), call)
