"""A classifier as one flat functional model: pixels 0..255 in, probabilities out."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tltoolkit import _checks, backbones, imbalance
from tltoolkit.augment import Preparation
from tltoolkit.callbacks import ScheduledSpatialDropout2D
from tltoolkit.files import reading
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model import head as heads
from tltoolkit.model.discovery import find_blocks
from tltoolkit.model.head import Head
from tltoolkit.model.terms import LARGEST, SETTINGS

LOGITS = "logits"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that is needed to build a classifier again, but for its weights."""

    backbone: str
    class_names: tuple[str, ...]
    image_size: int
    head: Head = field(default_factory=Head)
    spatial_dropout: Mapping[str, float] = field(default_factory=dict)
    trunk: str | None = None
    multi_label: bool = False
    seed: int = 0
    # What is left unsaid is said by the pipeline that it is trained with.
    preparation: Preparation = field(default_factory=Preparation)
    # The share of each class in training, and the one that the outputs assume; noted by training.
    train_prior: tuple[float, ...] | None = None
    output_prior: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _checks.fields(SETTINGS, self)
        found = backbones.get(self.backbone)
        kept = found.blocks
        if self.trunk is not None:
            _checks.one_of("trunk", self.trunk, found.blocks)
            kept = found.blocks[: found.blocks.index(self.trunk) + 1]
        rule = "a mapping from block name to rate, such as {'block4': 0.2}"
        _checks.instance("spatial_dropout", self.spatial_dropout, Mapping, rule)
        object.__setattr__(self, "spatial_dropout", dict(self.spatial_dropout))
        for block, rate in self.spatial_dropout.items():
            _checks.one_of("spatial_dropout", block, kept)
            _checks.number(f"spatial_dropout[{block!r}]", rate, 0, below=1)
        object.__setattr__(self, "class_names", _class_names(self.class_names, self.multi_label))
        _checks.integer("image_size", self.image_size, found.min_size, LARGEST)
        _checks.instance("head", self.head, Head, "a tl.Head")
        _checks.instance("preparation", self.preparation, Preparation, "an augment.Preparation")
        for name in ("train_prior", "output_prior"):
            if (prior := getattr(self, name)) is not None:
                imbalance.check_prior(name, prior, len(self.class_names), self.multi_label)
                object.__setattr__(self, name, tuple(map(float, prior)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON.

        Raises:
            ValueError: The preparation has a transform that cannot be written.
        """
        plain = dataclasses.replace(self, preparation=Preparation())
        return {**dataclasses.asdict(plain), "preparation": self.preparation.to_dict()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Settings":
        """The settings of `to_dict`'s data; a name or value that does not fit is an error."""
        values = reading.fields(cls, settings, "settings")
        parts = {
            "head": Head(**reading.fields(Head, values.get("head", {}), "head")),
            "preparation": Preparation.from_dict(values.get("preparation")),
        }
        return cls(**{**values, **parts})


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
        backbone: A name from `tl.backbones.names()`.
        class_names: Names of the C classes in the order of the labels; two or more (one or more
            where `multi_label`). Usually `data.class_names`.
        weights: `"imagenet"`, None (random) or the path of a `.weights.h5` or `.keras` file.
        image_size: Side of the square input in pixels; None takes the backbone's own.
        head: Settings of the head; None takes `tl.Head()`.
        spatial_dropout: Block name -> share of the channels dropped after that block while
            training, as `{"block4": 0.2}`. `callbacks.SpatialDropoutSchedule` can change it.
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
    """
    if class_names is None:
        raise _checks.fail("class_names", "the names of the classes, as data.class_names", None)
    settings = Settings(
        backbone=backbone,
        class_names=class_names,  # type: ignore[arg-type] # becomes a tuple once it is checked
        image_size=image_size if image_size is not None else backbones.get(backbone).image_size,
        head=heads.checked(head if head is not None else Head()),
        spatial_dropout={} if spatial_dropout is None else spatial_dropout,
        trunk=trunk,
        multi_label=multi_label,
        seed=seed,
        preparation=Preparation(fit=fit, normalise=normalise),
    )
    model = build(settings, weights)
    model.tltoolkit_weights = weights
    return model


def build(settings: Settings, weights: str | Path | None) -> Any:
    """The classifier of `settings`, its backbone with `weights`."""
    side = settings.image_size
    inputs = keras.Input((side, side, 3), name="pixels")
    features = backbones.build(settings.backbone, inputs, weights=weights, seed=settings.seed)
    if settings.trunk is not None:
        whole = keras.Model(inputs, features)
        features = graph.output_of(whole, _last_layers(settings, whole)[settings.trunk])
    model = _finished(settings, inputs, features)
    if settings.spatial_dropout:
        last = _last_layers(settings, model)
        model = graph.insert(
            model,
            {
                last[block]: ScheduledSpatialDropout2D(
                    rate, seed=settings.seed + i, name=f"{block}_spatial_dropout"
                )
                for i, (block, rate) in enumerate(settings.spatial_dropout.items())
            },
        )
    model.tltoolkit_settings = settings
    return model


def with_head(model: Any, head: Head) -> Any:
    """Our classifier with a new head in place of its own; all other layers are shared."""
    settings = dataclasses.replace(settings_of(model), head=head)
    own = set(blocks(model)[freezing.HEAD])
    features = next(node.inputs[0] for node in graph.nodes(model) if node.layer.name in own)
    made = _finished(settings, model.input, features)
    made.tltoolkit_settings = settings
    return made


def _finished(settings: Settings, inputs: Any, features: Any) -> Any:
    logits = heads.attach(settings.head, features, len(settings.class_names), settings.seed)
    activation = "sigmoid" if settings.multi_label else "softmax"
    outputs = keras.layers.Activation(activation, dtype="float32", name="probabilities")(logits)
    return keras.Model(inputs, outputs, name=settings.backbone)


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


def _last_layers(settings: Settings, model: Any) -> dict[str, str]:
    return {block: layers[-1] for block, layers in _backbone_blocks(settings, model).items()}


def _class_names(names: Any, multi_label: bool) -> tuple[str, ...]:
    least = 1 if multi_label else 2
    rule = f"a sequence of {least} or more different, non-empty strings"
    # A set has no order, and a text is a sequence of letters.
    if isinstance(names, (str, bytes, set, frozenset)) or not isinstance(names, Iterable):
        raise _checks.fail("class_names", rule, names)
    names = tuple(names)
    good = all(isinstance(name, str) and name for name in names)
    if not good or len(names) < least or len(set(names)) < len(names):
        raise _checks.fail("class_names", rule, names)
    return tuple(str(name) for name in names)
