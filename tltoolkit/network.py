"""One view of every classifier that can be trained or asked: ours and the user's own."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks, freezing, graph
from tltoolkit.model import LOGITS, Settings, blocks

PROBABILITIES = ("softmax", "sigmoid")


def fresh(build: Any) -> Callable[[], Any]:
    """`build`, with a look at what it makes: a model that has learned already spoils a score.

    Raises:
        ValueError: `build` is no function; and when called, one that gives weights again that
            have changed since it gave them.
    """
    # A model can be called too, but only makes scores.
    if not callable(build) or isinstance(build, keras.Model):
        rule = "a function that makes a new model, such as lambda: tl.build_classifier(...)"
        raise _checks.fail("build", rule, build)
    before: dict[int, tuple[Any, bytes]] = {}

    def made() -> Any:
        model = build()
        # The variables are held, as the place of one that is gone may be taken by another.
        now = {id(v): (v, _content(v)) for v in getattr(model, "variables", ())}
        if any(now[key][1] != before[key][1] for key in now.keys() & before.keys()):
            rule = "a function that makes a new model each time, not one that has learned already"
            raise _checks.fail("build", rule, build)
        before.clear()
        before.update(now)
        return model

    return made


def _content(variable: Any) -> bytes:
    # Random states go on from one training to the next.
    if variable.name == "seed_generator_state":
        return b""
    return hashlib.sha256(np.ascontiguousarray(variable.numpy()).data).digest()


@dataclass(frozen=True, kw_only=True)
class Network:
    """A classifier as training and evaluation see it.

    Attributes:
        model: The flat functional model, or the user's subclassed one.
        output: The tensor (B, C) that the loss is computed from; None for a subclassed model,
            which cannot be cut.
        from_logits: Whether that tensor holds logits rather than probabilities.
        blocks: Block name -> layer names, `"head"` last.
        image_size: Side of the square images in pixels.
        classes: C.
        settings: Those of `build_classifier`, or None.
    """

    model: Any
    output: Any | None
    from_logits: bool
    blocks: Mapping[str, tuple[str, ...]]
    image_size: int
    classes: int
    settings: Settings | None

    def check_classes(self, name: str, class_names: tuple[str, ...], multi_label: bool) -> None:
        """Raise ValueError unless data with these classes fits."""
        if self.settings is None:
            if len(class_names) != self.classes:
                raise _checks.fail(
                    name, f"data with the model's {self.classes} classes", class_names
                )
            return
        if class_names != self.settings.class_names:
            rule = f"data with the model's classes {self.settings.class_names}"
            raise _checks.fail(name, rule, class_names)
        if multi_label != self.settings.multi_label:
            rule = f"data with multi_label={self.settings.multi_label}, as the model"
            raise _checks.fail(name, rule, multi_label)

    def as_input(self, images: Any, targets: Any = None) -> tuple[Any, Any]:
        """uint8 images as the model takes them; a functional model converts them itself."""
        return (keras.ops.cast(images, "float32") if self.output is None else images), targets

    def probabilities(self, outputs: np.ndarray, multi_label: bool) -> np.ndarray:
        """Values of `output`, (B, C), as probabilities."""
        return probabilities(outputs, multi_label) if self.from_logits else outputs


def probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Softmax of logits (N, C), or sigmoid where `multi_label`, in float64."""
    from scipy.special import expit, softmax

    logits = logits.astype(np.float64)
    return np.asarray(expit(logits) if multi_label else softmax(logits, axis=1))


def network_of(model: Any) -> Network:
    """The view of a classifier.

    Args:
        model: From `tl.build_classifier`, or any `keras.Model` from one square image of three
            channels to one row of class scores. One that is not functional cannot be cut at a
            layer: it gets one block for its body.

    Raises:
        TypeError: Not a Keras model.
        ValueError: Other inputs or outputs, or a model that is not built.
    """
    _checks.instance("model", model, keras.Model, "a keras.Model")
    settings = getattr(model, "tltoolkit_settings", None)
    if not graph.is_functional(model):
        return _subclassed(model)
    flat = graph.flat(model)
    size, classes = _shape(flat.inputs, flat.outputs)
    return Network(
        model=flat,
        output=graph.output_of(flat, LOGITS) if settings is not None else flat.outputs[0],
        from_logits=settings is not None or not _ends_in_probabilities(flat),
        blocks=blocks(model),
        image_size=size,
        classes=classes,
        settings=settings,
    )


def _subclassed(model: Any) -> Network:
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if shape is None:
        rule = "a functional model or one that was built on images, as model(images) does"
        raise _checks.fail("model", rule, model)
    image = keras.KerasTensor(shape)
    size, classes = _shape([image], [model.compute_output_spec(image)])
    *body, head = [layer.name for layer in model.layers if layer.weights]
    return Network(
        model=model,
        output=None,
        from_logits=not _is_probability(model.layers[-1]),
        blocks={"body": tuple(body), freezing.HEAD: (head,)},
        image_size=size,
        classes=classes,
        settings=None,
    )


def _shape(inputs: Any, outputs: Any) -> tuple[int, int]:
    shapes = [tuple(tensor.shape) for tensor in inputs], [tuple(tensor.shape) for tensor in outputs]
    fits = (
        [len(group) for group in shapes] == [1, 1]
        and len(shapes[0][0]) == 4
        and len(shapes[1][0]) == 2
        and shapes[0][0][1] == shapes[0][0][2] is not None
        and shapes[0][0][3] == 3
        and shapes[1][0][1] is not None
    )
    if not fits:
        rule = "a model from one (B, S, S, 3) image of fixed size to one (B, C) row of scores"
        raise _checks.fail("model", rule, f"{shapes[0]} -> {shapes[1]}")
    return shapes[0][0][1], shapes[1][0][1]


def _ends_in_probabilities(flat: Any) -> bool:
    last = next(
        node.layer
        for node in graph.nodes(flat)
        if any(tensor is flat.outputs[0] for tensor in node.outputs)
    )
    return _is_probability(last)


def _is_probability(layer: Any) -> bool:
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return activation in PROBABILITIES or isinstance(layer, keras.layers.Softmax)
