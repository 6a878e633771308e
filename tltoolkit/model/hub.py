"""Classifiers on presets of keras-hub: ViT, DINOv2, SigLIP2, networks of timm and others."""

from collections.abc import Sequence
from typing import Any

import keras

from tltoolkit import _checks
from tltoolkit.model import head as heads
from tltoolkit.model.head import Head
from tltoolkit.model.settings import checked_names
from tltoolkit.model.terms import HUB, LARGEST

# Where neither the preset nor the user says it.
_USUAL_SIZE = 224


def build(
    preset: str,
    class_names: Sequence[str],
    *,
    weights: Any,
    image_size: int | None,
    head: Head,
    multi_label: bool,
    seed: int,
) -> Any:
    """A classifier on a preset: what `build_classifier` says of `backbone="hub:NAME"`.

    Args:
        preset: What `keras_hub.models.Backbone.from_preset` takes: a name, a handle or the path
            of a folder.
        class_names: As those of `build_classifier`, like the rest.
        weights: `"imagenet"` stands for the preset's own, whatever they were trained on.
        image_size: None takes the preset's.
        head: One without taps.
        multi_label: Whether an image may have several labels.
        seed: Of the head.

    Raises:
        ImportError: keras-hub is not installed.
        ValueError: There is no such preset, it is not one of images, or an argument does not fit.
        OSError: It could not be fetched.
    """
    names = checked_names(class_names, multi_label)
    if weights not in ("imagenet", None):
        raise _checks.fail("weights", "'imagenet' (the preset's own) or None", weights)
    if head.taps is not None:
        rule = "one without taps; tl.surgery.head_on_blocks reads the blocks of such a model"
        raise _checks.fail("head", rule, head)
    if image_size is not None:
        _checks.integer("image_size", image_size, 1, LARGEST)
    hub = _library()
    converter = _read(preset, hub.layers.ImageConverter.from_preset)
    shape = {} if image_size is None else {"image_shape": (image_size, image_size, 3)}
    whole = _read(
        preset, hub.models.Backbone.from_preset, load_weights=weights is not None, **shape
    )
    return _assembled(_of_images(preset, whole), converter, names, head, multi_label, seed)


def _library() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            "backbone='hub:...' needs keras-hub: pip install 'tltoolkit[hub]'"
        ) from error
    return keras_hub


def _read(preset: str, from_preset: Any, **options: Any) -> Any:
    """Part of a preset, with one kind of error for what is not there or not what it should be."""
    try:
        return from_preset(preset, **options)
    except (ValueError, TypeError, LookupError, FileNotFoundError) as error:
        why = str(error).strip().split("\n")[0]
        raise ValueError(
            f"`backbone` must be 'hub:' and a preset of images. Received: {preset!r}, of which "
            f"keras-hub says: {why}"
        ) from error
    except Exception as error:  # each of its sources fails in ways of its own
        raise OSError(f"the preset {preset!r} could not be fetched ({error})") from error


def _of_images(preset: str, whole: Any) -> Any:
    """The part of a preset's network that takes images, if it takes text as well."""
    body = getattr(whole, "vision_encoder", whole)
    shapes = [tuple(tensor.shape) for tensor in body.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 3:
        rule = "'hub:' and a preset of images (B, H, W, 3)"
        raise _checks.fail("backbone", rule, f"{HUB}{preset}, of {shapes}")
    return body


def _assembled(
    body: Any, converter: Any, names: Sequence[str], head: Head, multi_label: bool, seed: int
) -> Any:
    side = body.inputs[0].shape[1] or (converter.image_size or (_USUAL_SIZE,))[0]
    inputs = keras.Input((side, side, 3), name="pixels")
    scale, offset = (
        usual if value is None else value
        for value, usual in ((converter.scale, 1.0), (converter.offset, 0.0))
    )
    x = keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(inputs)
    # By the name of its input, where it has one.
    given = x if not isinstance(body.input, dict) else dict.fromkeys(body.input, x)
    # Of several maps the last is the uppermost.
    features = keras.tree.flatten(body(given))[-1]
    if len(features.shape) < 4:
        # Tokens, that of the class with them, become a map of one column, a vector one position.
        features = keras.layers.Reshape((-1, 1, features.shape[-1]), name="tokens")(features)
    made = heads.probabilities(head, {"features": features}, len(names), multi_label, seed)
    return keras.Model(inputs, made, name="hub")
