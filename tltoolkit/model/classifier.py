"""A classifier as one flat functional model: pixels 0..255 in, probabilities out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tltoolkit import _checks, backbones
from tltoolkit.augment import Preparation
from tltoolkit.callbacks import ScheduledSpatialDropout2D
from tltoolkit.layers import graph
from tltoolkit.model import freezing, hub
from tltoolkit.model import head as heads
from tltoolkit.model.discovery import find_blocks
from tltoolkit.model.head import Head
from tltoolkit.model.settings import Settings
from tltoolkit.model.terms import HUB

LOGITS = "logits"  # the layer by whose name the scores before the activation are found
DROPOUT = "_spatial_dropout"  # after the name of a block, that of its dropout


def build_classifier(
    backbone: str = "efficientnet_lite0",
    class_names: Sequence[str] | None = None,
    weights: str | Path | None = "imagenet",
    image_size: int | None = None,
    head: Head | None = None,
    spatial_dropout: Mapping[str, float] | None = None,
    trunk: str | None = None,
    multi_label: bool = False,
    seed: int = 0,
    *,
    fit: str | None = None,
    normalise: Any = None,
) -> Any:
    """Build an image classifier on a pretrained backbone.

    Args:
        backbone: A name from `tl.backbones.names()`. Which one serves your images best,
            `tl.tune.choose_backbone(data).backbone` finds out. Or `"hub:"` and a preset of
            keras-hub: a name such as `"vit_base_patch16_224_imagenet"`, a handle such as
            `"hf://timm/resnet18.a1_in1k"` or the path of a folder. Such a model is like one of
            your own: its blocks are found in its graph, a run keeps it as a `.keras` file.
        class_names: Names of the C classes in the order of the labels; two or more (one or more
            where `multi_label`). Usually `data.class_names`.
        weights: `"imagenet"` (with `hub:` the preset's own), None (random) or the path of a
            `.weights.h5`, `.keras` or `.safetensors` file with this backbone's weights.
        image_size: Side of the square input in pixels; None takes the backbone's own.
        head: Settings of the head; None takes `tl.Head()`.
        spatial_dropout: Block name -> share of the channels dropped after that block, where a
            head on blocks reads it, while training, as `{"block4": 0.2}`.
            `callbacks.SpatialDropoutSchedule` can change it.
        trunk: A block's name: the backbone ends after it and the head sits there.
        multi_label: An image may have several labels or none: C independent probabilities.
        seed: Seed of the head's initial weights and dropout, and of the backbone's initial
            weights where `weights` is None.
        fit: How every image becomes square, in training, evaluation and prediction alike:
            `"squash"` gives up its proportions, `"pad"` adds black bars, `"crop"` keeps the
            central square. None leaves it to the pipeline that the model is trained with, and
            is `"squash"` where that says nothing.
        normalise: What is done to the pixels of every image before: `"global_contrast"`,
            `"local_contrast"`, or transforms of albumentations that draw nothing at random; see
            `tl.augment.Preparation`. None as for `fit`, or else nothing. (The scaling that the
            backbone wants is inside the model.)

    Returns:
        A flat `keras.Model`: (B, image_size, image_size, 3) pixels of 0..255, uint8 or float,
        in; (B, C) float32 probabilities out. Its layer `"logits"` holds them before softmax or
        sigmoid. Preprocessing is inside.

    Raises:
        ValueError: An argument out of range, an unknown backbone, weights that do not fit.
        OSError: The ImageNet weights are neither cached nor to be downloaded.
        ImportError: What reads the weights, or keras-hub, is not installed.
    """
    if backbone == "auto":
        rule = "a name; tl.tune.choose_backbone(data).backbone is the one that suits your images"
        raise _checks.fail("backbone", rule, backbone)
    # Not a required argument, as it comes after one with a default.
    if class_names is None:
        raise _checks.fail("class_names", "the names of the classes, as data.class_names", None)
    head = heads.checked(head if head is not None else Head())
    preparation = Preparation(fit=fit, normalise=normalise)
    if str(backbone).startswith(HUB):
        for name, value in (("spatial_dropout", spatial_dropout), ("trunk", trunk)):
            if value is not None:
                raise _checks.fail(name, "left out with a preset of keras-hub", value)
        made = hub.build(
            backbone.removeprefix(HUB),
            class_names,
            weights=weights,
            image_size=image_size,
            head=head,
            multi_label=multi_label,
            seed=seed,
        )
        note_preparation(made, preparation)
        return made
    settings = Settings(
        backbone=backbone,
        class_names=class_names,  # type: ignore[arg-type] # becomes a tuple once it is checked
        image_size=image_size if image_size is not None else backbones.get(backbone).image_size,
        head=head,
        spatial_dropout={} if spatial_dropout is None else spatial_dropout,
        trunk=trunk,
        multi_label=multi_label,
        seed=seed,
        preparation=preparation,
    )
    model = build(settings, weights)
    # Noted for `refit`, which builds the same model again.
    model.tltoolkit_weights = weights
    return model


def build(settings: Settings, weights: str | Path | None) -> Any:
    """The classifier of `settings`, its backbone with `weights`."""
    side = settings.image_size
    inputs = keras.Input((side, side, 3), name="pixels")
    # The whole backbone: `keras.Model` then leaves out what no tap reads.
    features = backbones.build(settings.backbone, inputs, weights=weights, seed=settings.seed)
    model = _finished(settings, keras.Model(inputs, features))
    if settings.spatial_dropout:
        taps = backbones.taps_of(settings.backbone, [layer.name for layer in model.layers])
        # The graph is rebuilt, as no layer can be put into one that stands.
        model = graph.insert(
            model,
            {
                taps[block]: ScheduledSpatialDropout2D(
                    # Other seeds for other blocks, or all would drop the same places.
                    rate,
                    seed=settings.seed + i,
                    name=f"{block}{DROPOUT}",
                )
                for i, (block, rate) in enumerate(settings.spatial_dropout.items())
            },
        )
    # Last: `insert` makes a new model, which would have none.
    model.tltoolkit_settings = settings
    return model


def with_head(model: Any, head: Head) -> Any:
    """Our classifier with a new head in place of its own; all other layers are shared.

    Raises:
        ValueError: A head on blocks that the model was built without, or one on all of the last
            block where only what is below its tap was built.
    """
    before = settings_of(model)
    if head.taps is None and before.head.taps is not None and before.trunk is not None:
        raise _checks.fail("head", "a head with taps, as the model has", head)
    settings = dataclasses.replace(before, head=head)
    made = _finished(settings, model)
    made.tltoolkit_settings = settings
    return made


def with_classes(model: Any, class_names: Sequence[str]) -> Any:
    """Our classifier with a new, untrained head of the same form for other classes.

    All other layers are shared. What training noted of the classes before is left out.
    """
    settings = dataclasses.replace(
        settings_of(model), class_names=tuple(class_names), train_prior=None, output_prior=None
    )
    made = _finished(settings, model)
    made.tltoolkit_settings = settings
    return made


def _finished(settings: Settings, body: Any) -> Any:
    """The layers of `body` that the head of `settings` needs, with it."""
    # By the model and not by the table: a trunk ends the network earlier.
    found = _backbone_blocks(settings, body)
    if not found.keys() >= set(settings.tapped):
        rule = f"a head on blocks that the model has, {', '.join(found)}"
        raise _checks.fail("head", rule, settings.tapped)
    ends = {
        block: graph.output_of(body, _end(settings, block, found[block]))
        for block in settings.tapped
    }
    made = heads.probabilities(
        settings.head, ends, len(settings.class_names), settings.multi_label, settings.seed
    )
    return keras.Model(body.input, made, name=settings.backbone)


def settings_of(model: Any) -> Settings:
    """The settings that a classifier was built with.

    Raises:
        ValueError: `model` does not come from `build_classifier`.
    """
    settings = getattr(model, "tltoolkit_settings", None)
    if not isinstance(settings, Settings):
        raise _checks.fail("model", "a model made by tl.build_classifier or tl.load", model)
    return settings


def preparation_of(model: Any) -> Preparation:
    """What every image goes through before this model takes it.

    For a model of your own it is what `fine_tune` noted, or was read with it.
    """
    settings = getattr(model, "tltoolkit_settings", None)
    if settings is not None:
        return settings.preparation
    return getattr(model, "tltoolkit_preparation", None) or Preparation()


def note_preparation(model: Any, preparation: Preparation) -> None:
    """Let a model know what its images go through."""
    settings = getattr(model, "tltoolkit_settings", None)
    if settings is not None:
        model.tltoolkit_settings = dataclasses.replace(settings, preparation=preparation)
    # No attribute where there is nothing to say: a user's model stays as it is.
    elif preparation != Preparation():
        model.tltoolkit_preparation = preparation


def blocks(model: Any) -> dict[str, tuple[str, ...]]:
    """Block name -> layer names of a model, in the order of the model, `"head"` last.

    Where layers of nested models have one name, their paths stand for it, as `left/conv1`.

    A block is the unit of freezing: `Stage(unfreeze=2)` trains the last two below the head. For
    a classifier of this toolkit they are those of the backbone's table; for another functional
    model they are found from its graph: a block ends where branches join or before the feature
    map shrinks. Nested models are looked into.

    Raises:
        ValueError: A model whose graph is not known, or without any weights.
    """
    settings = getattr(model, "tltoolkit_settings", None)
    if settings is None:
        if not graph.is_functional(model):
            raise _checks.fail("model", "a functional or Sequential keras.Model", model)
        return find_blocks(graph.flat(model))
    found = _backbone_blocks(settings, model)
    known = {layer for names in found.values() for layer in names}
    # The input is of no block, and not of the head either.
    own = (layer.name for layer in model.layers[1:] if layer.name not in known)
    return {**found, freezing.HEAD: tuple(own)}


def freeze(model: Any, unfreeze: str | int | float, batch_norm: str = "frozen") -> dict[str, bool]:
    """Say in one call what trains, for use with your own `compile` and `fit`.

    The three states of transfer learning are `"none"` (predict only), `"head"` (the
    classification layer only) and `"all"` (everything). Compile afterwards.

    Args:
        model: A functional or Sequential `keras.Model`; nested models are looked into.
        unfreeze: As in `tl.Stage`, or `"none"`.
        batch_norm: `"frozen"` keeps BatchNormalization below the head in inference mode;
            `"train"` trains that of what is unfrozen.

    Returns:
        Layer name -> whether it trains, for each layer with weights, and for each
        BatchNormalization that stays frozen inside one that trains.

    Raises:
        ValueError: Something that the model does not have, or a head that cannot be told from
            the rest of the model.
    """
    found, flat = blocks(model), graph.flat(model)
    # No stage has it: training nothing is for predicting alone.
    if unfreeze == "none":
        plan = dict.fromkeys(freezing.applied(flat), False)
    else:
        plan = freezing.freeze_plan(flat, found, unfreeze, batch_norm)
    # A nested model that is frozen itself would hide what its layers say.
    model.trainable = True
    freezing.apply_freeze(flat, plan)
    return plan


def _backbone_blocks(settings: Settings, model: Any) -> dict[str, tuple[str, ...]]:
    found = backbones.blocks_of(settings.backbone, [layer.name for layer in model.layers])
    return {block: layers for block, layers in found.items() if layers}


def _end(settings: Settings, block: str, layers: tuple[str, ...]) -> str:
    """The layer of a block that the head reads."""
    if settings.head.taps is None:
        return layers[-1]
    # Before a block's own dropout, that of the last block would do nothing at all.
    dropout = f"{block}{DROPOUT}"
    return dropout if dropout in layers else backbones.get(settings.backbone).tap_of(layers)
