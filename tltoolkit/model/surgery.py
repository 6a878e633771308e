"""Put layers after chosen blocks of a functional model."""

from collections.abc import Callable, Mapping
from typing import Any

from tltoolkit import _checks
from tltoolkit.layers import graph
from tltoolkit.model.classifier import blocks, note_preparation, preparation_of


def insert(model: Any, after: Mapping[str, Callable[[Any], Any]]) -> Any:
    """A model with a layer after each of some blocks or layers; all others are shared.

    Weights stay where they are, so training one model trains the other. A layer that passes its
    input on in inference, as dropout does, leaves predictions unchanged to the bit.

    Args:
        model: A functional or Sequential `keras.Model`; nested models are looked into and come
            out flat.
        after: Block or layer name -> the Keras layer to put after it, such as
            `{"block4": callbacks.ScheduledSpatialDropout2D(0.2)}`. Block names are those of
            `tl.blocks(model)`.

    Raises:
        ValueError: A name that the model does not have, or the head; a model in which several
            layers have one name, since Keras could not save it flat.
    """
    found = blocks(model)
    if paths := [name for names in found.values() for name in names if "/" in name]:
        rule = f"one whose layers have different names, unlike {', '.join(sorted(paths)[:2])}"
        raise _checks.fail("model", rule, model)
    last = {name: layers[-1] for name, layers in found.items() if name != "head"}
    layers = {layer for names in found.values() for layer in names}
    for name in after:
        if name not in last and name not in layers:
            raise _checks.fail("after", f"one of {', '.join(last)} or a layer's name", name)
    made = graph.insert(model, {last.get(name, name): layer for name, layer in after.items()})
    note_preparation(made, preparation_of(model))
    return made
