"""One view of every classifier that can be trained or asked: ours and the user's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks, augment
from tltoolkit.augment import Preparation
from tltoolkit.augment.preparation import shown
from tltoolkit.layers import graph
from tltoolkit.layers.random_states import same_random_state
from tltoolkit.model import freezing, outputs
from tltoolkit.model.classifier import LOGITS, blocks, preparation_of
from tltoolkit.model.settings import Settings
from tltoolkit.model.terms import FROM_LOGITS

# Luma of ITU-R BT.601 in units of 2^-16, rounded: what Pillow's mode "L" holds.
LUMA = (19595, 38470, 7471)
RGB, GREY = 3, 1
# By more than so much no sum of float32 probabilities misses 1.
ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class Network:
    """A classifier as training and evaluation see it.

    Attributes:
        model: The flat functional model, or the user's subclassed one.
        output: The tensor (B, C) that the loss is computed from; None for a subclassed model,
            which cannot be cut.
        from_logits: Whether that tensor holds logits rather than probabilities.
        activation: What the model's own outputs went through: `"softmax"`, `"sigmoid"`, or `""`
            if they are logits.
        blocks: Block name -> labels of layers (`graph.labels`), `"head"` last.
        image_size: Side of the square images in pixels.
        channels: Of the images: 3, or 1 for a model of grey ones.
        classes: C, the columns of the outputs. A single one stands for two classes where an
            image has one label: it says how likely the second is.
        settings: Those of `build_classifier`, or None.
        preparation: What every image goes through before.
    """

    model: Any
    output: Any | None
    from_logits: bool
    activation: str
    blocks: Mapping[str, tuple[str, ...]]
    image_size: int
    channels: int
    classes: int
    settings: Settings | None
    preparation: Preparation = field(default_factory=Preparation)

    @property
    def plain(self) -> augment.Pipeline:
        """Images as the model takes them, nothing random."""
        return augment.Pipeline(None, self.image_size, first=self.preparation)

    def shown(self, name: str, pipeline: augment.Pipeline) -> "tuple[Network, augment.Pipeline]":
        """The network and the pipeline, each with what the other says of every image.

        Raises:
            ValueError: They differ in that, or in the size of images; `name` is the argument.
        """
        preparation, pipeline = shown(name, self.image_size, self.preparation, pipeline)
        return replace(self, preparation=preparation), pipeline

    def check_classes(self, name: str, class_names: tuple[str, ...], multi_label: bool) -> None:
        """Raise ValueError unless the outputs fit data with these classes."""
        # A model of somebody else's has no names to compare, only a number of outputs.
        if self.settings is None:
            self.check_outputs(multi_label)
            count = 2 if self.one_for_two(multi_label) else self.classes
            if len(class_names) != count:
                raise _checks.fail(name, f"data with the model's {count} classes", class_names)
            return
        if class_names != self.settings.class_names:
            rule = f"data with the model's classes {self.settings.class_names}"
            raise _checks.fail(name, rule, class_names)
        if multi_label != self.settings.multi_label:
            rule = f"data with multi_label={self.settings.multi_label}, as the model"
            raise _checks.fail(name, rule, multi_label)

    @property
    def stated(self) -> bool | str:
        """What `network_of` takes as `from_logits` to come to the same again."""
        return "auto" if self.settings is not None else self.from_logits

    def one_for_two(self, multi_label: bool) -> bool:
        """Whether one output stands for two classes."""
        return self.classes == 1 and not multi_label

    def per_output(self, values: np.ndarray, multi_label: bool) -> np.ndarray:
        """Numbers added to logits, (..., C), as they are added to the outputs."""
        return values[..., 1:] - values[..., :1] if self.one_for_two(multi_label) else values

    def check_outputs(self, multi_label: bool) -> None:
        """Raise ValueError unless the outputs of a user's own model fit such labels."""
        if self.settings is not None:
            return
        found = f"{self.model.name}, {self.classes} outputs after a {self.activation}"
        if self.activation == outputs.SOFTMAX and self.classes == 1:
            rule = "one with a sigmoid or two outputs, since the softmax of one output is always 1"
        elif self.activation == outputs.SOFTMAX and multi_label:
            rule = "one that ends in sigmoids or logits, since an image has several labels"
        elif self.activation == outputs.SIGMOID and self.classes > 1 and not multi_label:
            rule = (
                "one that ends in a softmax or logits (or in one sigmoid for two classes), since "
                "an image has one label; sigmoids are for data with several labels per image, "
                "multi_label"
            )
        else:
            return
        raise _checks.fail("model", rule, found)

    @property
    def converts(self) -> bool:
        """Whether `as_input` changes anything."""
        return self.output is None or self.channels != RGB

    def as_input(self, images: Any, targets: Any = None) -> tuple[Any, Any]:
        """RGB images of uint8 as the model takes them; a functional one converts the type."""
        images = as_channels(images, self.channels)
        # A subclassed model may compute with integers as they come.
        return (keras.ops.cast(images, "float32") if self.output is None else images), targets

    def probabilities(self, values: np.ndarray, multi_label: bool) -> np.ndarray:
        """Values of `output`, (B, C), as probabilities; (B, 2) where one stands for two."""
        if self.from_logits:
            return probabilities(values, multi_label)
        said = _exact(values, self.activation)
        return np.hstack([1 - said, said]) if self.one_for_two(multi_label) else said


def probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Softmax of logits (N, C), or sigmoid where `multi_label`, in float64.

    A single logit of two classes, (N, 1), gives (N, 2).
    """
    from scipy.special import expit, softmax

    # In float32 a sure softmax rounds to 1, and its log loss to 0.
    logits = logits.astype(np.float64)
    if not multi_label and logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    return np.asarray(expit(logits) if multi_label else softmax(logits, axis=1))


def as_channels(images: Any, channels: int) -> Any:
    """RGB images (B, H, W, 3) as they are, or as Pillow makes them grey, (B, H, W, 1)."""
    if channels == RGB:
        return images
    # In whole numbers, as Pillow computes: floats would round some grey levels otherwise.
    whole = keras.ops.cast(images, "int32")
    grey = sum(whole[..., i : i + 1] * weight for i, weight in enumerate(LUMA))
    return keras.ops.cast((grey + 2**15) // 2**16, "float32")  # rounded, as Pillow does it


@same_random_state()
def network_of(model: Any, from_logits: bool | str = "auto", multi_label: bool = False) -> Network:
    """The view of a classifier.

    Args:
        model: From `tl.build_classifier`, or any `keras.Model` from one square image of three
            channels (or of one, for grey) to one row of class scores. One that is not functional
            cannot be cut at a layer: it gets one block for its body.
        from_logits: Whether the model's outputs are logits; `"auto"` looks, see `outputs`.
        multi_label: Whether an image may have several labels.

    Raises:
        TypeError: Not a Keras model.
        ValueError: Other inputs or outputs, or a model that is not built.

    Warns:
        UserWarning: What the outputs mean is not certain.
    """
    _checks.instance("model", model, keras.Model, "a keras.Model")
    FROM_LOGITS.check("from_logits", from_logits)
    settings = getattr(model, "tltoolkit_settings", None)
    if not graph.is_functional(model):
        return _subclassed(model, from_logits, multi_label)
    flat = graph.flat(model)
    # Before the outputs are looked at, which takes images of this shape.
    shape, classes = _shape(flat.inputs, flat.output)
    if settings is None:
        activation = outputs.activation_of(model, shape, from_logits, multi_label)
    elif from_logits is True:
        rule = "'auto' or False for a model of tl.build_classifier, which ends in probabilities"
        raise _checks.fail("from_logits", rule, from_logits)
    else:
        activation = outputs.SIGMOID if settings.multi_label else outputs.SOFTMAX
    return Network(
        model=flat,
        # Ours are trained by the logits: exact where a softmax has rounded.
        output=graph.output_of(flat, LOGITS) if settings is not None else flat.outputs[0],
        from_logits=settings is not None or activation == outputs.LOGITS,
        activation=activation,
        blocks=blocks(model),
        image_size=shape[0],
        channels=shape[2],
        classes=classes,
        settings=settings,
        preparation=preparation_of(model),
    )


def _subclassed(model: Any, from_logits: bool | str, multi_label: bool) -> Network:
    # What it was first called on: subclassed, it has no `input_shape` (Keras 3.15).
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if shape is None:
        rule = "a functional model or one that was built on images, as model(images) does"
        raise _checks.fail("model", rule, model)
    image = keras.KerasTensor(shape)
    shape, classes = _shape([image], model.compute_output_spec(image))
    activation = outputs.activation_of(model, shape, from_logits, multi_label)
    labels = graph.labels(model)
    weighted = _in_call_order(model, image, [one for one in model.layers if one.weights])
    # The last one whose weights are read scores, in whatever order they were made.
    *body, head = [labels[id(layer)] for layer in weighted]
    return Network(
        model=model,
        output=None,
        from_logits=activation == outputs.LOGITS,
        activation=activation,
        blocks={"body": tuple(body), freezing.HEAD: (head,)},
        image_size=shape[0],
        channels=shape[2],
        classes=classes,
        settings=None,
        preparation=preparation_of(model),
    )


def _in_call_order(model: Any, image: Any, layers: list[Any]) -> list[Any]:
    """Layers by when the model first reads their weights; as they were made if that is unknown."""
    import tensorflow as tf

    spec = tf.TensorSpec(image.shape, image.dtype)
    try:
        with keras.StatelessScope():
            call = tf.function(lambda x: model(x, training=False), autograph=False)
            read = call.get_concrete_function(spec).captured_inputs
    except Exception:  # whatever a user's code may raise
        return layers
    turn = {id(handle): i for i, handle in enumerate(read)}

    def first(layer: Any) -> int:
        # Never read, as a head for training alone: it scores nothing, and must not come last.
        keys = (id(v.value.handle) for v in layer.weights)
        return min((turn[key] for key in keys if key in turn), default=-1)

    return sorted(layers, key=first)


def _shape(inputs: list[Any], made: Any) -> tuple[tuple[int, int, int], int]:
    """Height, width and channels of the images, and the number of scores."""
    tensors = [made] if isinstance(made, keras.KerasTensor) else made
    shapes = [tuple(tensor.shape) for tensor in inputs]
    scores = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), made)
    rule = _misfit(shapes, tensors)
    if rule:
        raise _checks.fail("model", rule, f"{shapes} -> {scores}")
    return shapes[0][1:], tensors[0].shape[1]


def _misfit(shapes: list[tuple[Any, ...]], tensors: Any) -> str:
    """What a model of other inputs or outputs must be; "" for one that fits."""
    if isinstance(tensors, Mapping) or len(tensors) != 1:
        return (
            "one with one output, the row of class scores; of several take one, as in "
            "keras.Model(model.input, model.output['scores'])"
        )
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:]:
        return "one of one (B, S, S, 3) image of fixed size, as keras.Input((224, 224, 3))"
    if len(tensors[0].shape) != 2 or tensors[0].shape[1] is None:
        return "one from one (B, S, S, 3) image of fixed size to one (B, C) row of scores"
    _, height, width, channels = shapes[0]
    if height != width:
        side = max(height, width)
        first = f"keras.Input(({side}, {side}, {channels}))"
        return (
            "one of square images, since every image is made square; put first "
            f"{first} and keras.layers.Resizing({height}, {width})"
        )
    return "" if channels in (RGB, GREY) else "one of images with 3 channels, or with 1 for grey"


def _exact(said: np.ndarray, activation: str) -> np.ndarray:
    """Probabilities in float32 at least; those of a softmax in half precision sum to 1 again."""
    said = said.astype(np.promote_types(said.dtype, np.float32), copy=False)
    sums = said.sum(axis=1, keepdims=True)
    coarse = activation == outputs.SOFTMAX and bool((abs(sums - 1) > ROUNDING).any())
    return said / sums if coarse else said
