"""A classifier as a .tflite file."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tltoolkit.deploy import eight_bits, litert_metadata
from tltoolkit.runtimes.card import KEY, Card

# What the converter says, somewhere in a long text, of an operation that it does not know.
_UNKNOWN = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def write(model: Any, path: Path, card: Card, images: np.ndarray | None) -> bytes:
    """The content of the file, not yet sealed.

    Args:
        model: From pixels to probabilities.
        path: Of a file to work with.
        card: What it says of the classifier.
        images: To calibrate int8 on, (N, S, S, 3) uint8.

    Raises:
        ValueError: Operations that are not LiteRT's own.
    """
    try:
        model.export(str(path), format="litert", verbose=False, **_options(card.quantize, images))
    except Exception as error:  # whatever the converter may raise
        if found := _UNKNOWN.findall(str(error)):
            raise _lacking(found) from error
        raise
    content = path.read_bytes()
    if card.quantize == "int8" and images is not None:
        floats = path.with_name(f"float-{path.name}")
        model.export(str(floats), format="litert", verbose=False)
        content = eight_bits.refined(content, floats.read_bytes(), images)
    made = eight_bits.opened(content)
    # Others need a library that neither the runtime here nor that of a telephone has.
    others = [str(code.customCode, "ascii") for code in made.operatorCodes if code.customCode]
    if others:
        raise _lacking(others)
    if card.quantize == "int8":
        _end_in_floats(made)
    familiarity = card.familiarity is not None
    if familiarity:
        _in_order(made)
    for name, content in (
        (litert_metadata.ENTRY, litert_metadata.metadata(card.image_size, familiarity)),
        (KEY, card.to_text().encode()),
    ):
        _add(made, name, content)
    return litert_metadata.with_labels(eight_bits.packed(made), card.class_names)


def _lacking(names: Iterable[str]) -> ValueError:
    return ValueError(f"operations that are not LiteRT's own: {', '.join(sorted({*names}))}")


def _options(quantize: str | None, images: np.ndarray | None) -> dict[str, Any]:
    import tensorflow as tf

    if quantize is None:
        return {}
    smaller: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if quantize == "float16":
        return {**smaller, "target_spec": {"supported_types": [tf.float16]}}

    def shown() -> Iterator[list[np.ndarray]]:
        for image in images if images is not None else ():
            yield [image[None].astype(np.float32)]

    return {**smaller, "representative_dataset": shown}


def _end_in_floats(made: Any) -> None:
    """Let the activation that comes last compute in floats, after the numbers of eight bits.

    As it is converted it comes before, and gives multiples of 1/256: a probability of 0 has no
    logarithm, and a temperature would not know what to do with it.
    """
    graph = made.subgraphs[0]
    if len(graph.operators) < 2:
        return
    activation, last = graph.operators[-2:]
    kinds = [made.operatorCodes[one.opcodeIndex].builtinCode for one in (activation, last)]
    known = schema.BuiltinOperator.SOFTMAX, schema.BuiltinOperator.LOGISTIC
    if (
        kinds[0] not in known
        or kinds[1] != schema.BuiltinOperator.DEQUANTIZE
        or list(last.inputs) != list(activation.outputs)
    ):
        return
    between = graph.tensors[activation.outputs[0]]
    between.type, between.quantization = schema.TensorType.FLOAT32, None
    # The tensor between them now holds the logits as floats.
    last.inputs, last.outputs, activation.inputs, activation.outputs = (
        activation.inputs, activation.outputs, activation.outputs, last.outputs,
    )  # fmt: skip
    graph.operators[-2:] = [last, activation]


def _in_order(made: Any) -> None:
    """Let the outputs come as Keras numbered them; the converter gives them in any order."""
    names = {bytes(one.name): one.tensorIndex for one in made.signatureDefs[0].outputs}
    made.subgraphs[0].outputs = [names[name] for name in sorted(names)]


def _add(made: Any, name: str, content: bytes) -> None:
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry.name, entry.buffer = name, len(made.buffers)
    made.buffers = [*made.buffers, buffer]
    made.metadata = [*(made.metadata or ()), entry]
