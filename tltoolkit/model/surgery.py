"""Change a functional model: layers after chosen blocks, a head on several of them."""

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit._checks import Table
from tltoolkit.layers import graph
from tltoolkit.model import head as heads
from tltoolkit.model.classifier import blocks, note_preparation, preparation_of
from tltoolkit.model.discovery import block_ends
from tltoolkit.model.head import Head
from tltoolkit.model.settings import checked_names
from tltoolkit.model.terms import SETTINGS

# Names of a head's layers, beside those that begin with `head_`.
OURS = ("logits", "probabilities")
HEAD_ON_BLOCKS: Table = {"multi_label": SETTINGS["multi_label"], "seed": SETTINGS["seed"]}


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
    # First, since what is inserted by name could end up in the wrong layer.
    _check_names(model, found)
    # A block stands for its last layer; not the head, behind which are the scores.
    last = {name: layers[-1] for name, layers in found.items() if name != "head"}
    layers = {layer for names in found.values() for layer in names}
    for name in after:
        if name not in last and name not in layers:
            raise _checks.fail("after", f"one of {', '.join(last)} or a layer's name", name)
    made = graph.insert(model, {last.get(name, name): layer for name, layer in after.items()})
    # A new model: what is noted on the old one is not copied by Keras.
    note_preparation(made, preparation_of(model))
    return made


def head_on_blocks(
    model: Any,
    classes: int | Sequence[str],
    head: Head | None = None,
    multi_label: bool = False,
    seed: int = 0,
) -> Any:
    """A model of your own with a new head on several of its blocks, in place of its own.

    Layers are shared, so training one model trains the other; blocks above the last tap are left
    out. Fine-tune it with `tl.fine_tune`, save it as any Keras model; where `tl.surgery` has been
    used, Keras finds the one layer of ours in it when it loads.

    Args:
        model: A functional or Sequential `keras.Model` from images to scores; nested models are
            looked into and come out flat. For a model of `tl.build_classifier` say `head` there.
        classes: How many classes, two or more (one or more where `multi_label`), or their names,
            as `data.class_names`.
        head: Settings; None takes `tl.Head(taps="all", statistics=("mean", "std"))`. Names of
            taps are those of `tl.blocks(model)`.
        multi_label: An image may have several labels or none: independent probabilities.
        seed: Of the head's initial weights and dropout.

    Returns:
        A flat `keras.Model`: the images that `model` takes in, (B, C) float32 probabilities out.

    Raises:
        TypeError: Something that is no `tl.Head`.
        ValueError: A model whose graph is not known, without blocks below its head, with several
            layers of one name or with one of a name that the head needs; a tap that is none of
            its blocks; other statistics than the mean of blocks that end in vectors (B, F), which
            pass as they are; a value out of range.
    """
    head = heads.checked(Head(taps=heads.ALL, statistics=("mean", "std")) if head is None else head)
    _checks.arguments(HEAD_ON_BLOCKS, locals())
    units = _count(classes, multi_label)
    if hasattr(model, "tltoolkit_settings"):
        rule = "one of your own; tl.build_classifier(head=...) puts a head on several blocks"
        raise _checks.fail("model", rule, model)
    _check_names(model, blocks(model))
    flat = graph.flat(model)
    scores = heads.probabilities(head, _read(head, model, flat), units, multi_label, seed)
    # From the flat graph: Keras then leaves out the old head and all above the taps.
    made = keras.Model(flat.input, scores, name=model.name)
    note_preparation(made, preparation_of(model))
    return made


def _check_names(model: Any, found: Mapping[str, tuple[str, ...]]) -> None:
    if paths := [name for names in found.values() for name in names if "/" in name]:
        rule = f"one whose layers have different names, unlike {', '.join(sorted(paths)[:2])}"
        raise _checks.fail("model", rule, model)


def _read(head: Head, model: Any, flat: Any) -> dict[str, Any]:
    """Name -> output of each block that a head reads."""
    ends = block_ends(flat)
    if not ends:
        raise _checks.fail("model", "one with blocks below its head, as tl.blocks shows", model)
    read = {block: ends[block] for block in heads.tapped(head, tuple(ends))}
    shapes = {block: tuple(end.shape) for block, end in read.items()}
    vectors = [block for block, shape in shapes.items() if len(shape) == 2]
    if head.taps is None and any(len(shape) != 4 for shape in shapes.values()):
        raise _checks.fail("head", f"one with taps, which alone read {shapes}", head)
    # A vector has no positions to take a deviation or maximum over.
    if vectors and head.statistics != Head.statistics:
        rule = f"('mean',) for blocks that end in vectors, as {', '.join(vectors)} here"
        raise _checks.fail("statistics", rule, head.statistics)
    # Of what is kept alone: names of the old head are free again.
    _check_free(model, graph.part(flat, flat.input, list(read.values())))
    return read


def _check_free(model: Any, kept: Any) -> None:
    names = sorted(layer.name for layer in kept.layers)
    if taken := [name for name in names if name.startswith("head_") or name in OURS]:
        rule = f"one whose layers have other names than a head's, unlike {', '.join(taken[:2])}"
        raise _checks.fail("model", rule, model)


def _count(classes: Any, multi_label: bool) -> int:
    if isinstance(classes, numbers.Integral):
        _checks.integer("classes", classes, 1 if multi_label else 2)
        return int(classes)
    return len(checked_names(classes, multi_label, "classes"))
