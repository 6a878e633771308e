"""A classifier as a .onnx file."""

from pathlib import Path
from typing import Any

import keras
import onnx
from onnx import numpy_helper

from tltoolkit._checks import fail
from tltoolkit.layers import graph
from tltoolkit.runtimes.card import KEY, Card

# Domains of ONNX itself; "" stands for the first.
OWN = ("", "ai.onnx", "ai.onnx.ml")
# Numbers of an array from which on it is worth being stored in half: biases stay.
LARGE = 256


def write(model: Any, path: Path, card: Card, images: Any = None) -> bytes:
    """The content of the file, not yet sealed; arguments as those of `litert.write`.

    Raises:
        ValueError: A model in mixed precision; operations that are not ONNX's own.
    """
    used = {str(part.compute_dtype) for part in graph.layers_inside(model)}
    mixed = {name for name in used if "float16" in name}
    if mixed:
        rule = "one in float32 for format='onnx'"
        raise fail("classifier", rule, f"a model that computes in {', '.join(sorted(mixed))}")
    # Said, since Keras takes no model here that has never been called.
    pixels = keras.InputSpec(shape=model.inputs[0].shape, dtype="float32", name="pixels")
    model.export(str(path), format="onnx", verbose=False, input_signature=[pixels])
    made = onnx.load(path)
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    others = {n.op_type for n in made.graph.node if n.domain not in OWN or n.op_type not in known}
    if others:
        raise ValueError(f"operations that are not ONNX's own: {', '.join(sorted(others))}")
    if card.quantize == "float16":
        _halve(made.graph)
    entry = made.metadata_props.add()
    entry.key, entry.value = KEY, card.to_text()
    return bytes(made.SerializeToString())


def _halve(graph: Any) -> None:
    """Store large arrays in half precision; they are computed with in full."""
    casts = []
    for array in graph.initializer:
        values = numpy_helper.to_array(array)
        if array.data_type != onnx.TensorProto.FLOAT or values.size < LARGE:
            continue
        name = array.name
        array.CopyFrom(numpy_helper.from_array(values.astype("float16"), f"{name}_half"))
        cast = onnx.helper.make_node("Cast", [array.name], [name], to=onnx.TensorProto.FLOAT)
        casts.append(cast)
    nodes = list(graph.node)
    del graph.node[:]
    # First, since nodes come in the order in which they are computed.
    graph.node.extend([*casts, *nodes])
