"""A plan of training: stages in a row, each saying what trains, how long and at what rate."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from tltoolkit import _checks
from tltoolkit._checks import Instance, Integer, Number, OneOf, Table
from tltoolkit.augment.terms import PRESETS
from tltoolkit.files import reading
from tltoolkit.plans.terms import BATCH_NORMS, OPTIMIZERS, SCHEDULES, SOLVERS

AUTO = "auto"
# What belongs to steps and epochs, of which a head that is solved has none.
STEPWISE = (
    "epochs",
    "learning_rate",
    "layer_decay",
    "head_rate",
    "schedule",
    "warmup",
    "momentum",
    "weight_decay",
    "clip_norm",
    "label_smoothing",
    "batch_norm",
    "early_stopping",
)
# Values besides the defaults that ask for nothing an optimizer without the setting would not do.
NOTHING = {"epochs": 1, "weight_decay": 0.0, "clip_norm": None}
# `warmup` has an upper bound, too: the epochs of its stage.
STAGE: Table = {
    "name": Instance(str, "a string"),
    "unfreeze": Instance((str, int, float), "a string or a number"),
    "epochs": Integer(1),
    "learning_rate": Number(above=0) | AUTO,
    "layer_decay": Number(above=0, high=1),
    "head_rate": Number(0),
    "schedule": OneOf(*SCHEDULES),
    "warmup": Number(0),
    "optimizer": OneOf(*OPTIMIZERS, *SOLVERS),
    "momentum": Number(0, below=1),
    "weight_decay": Number(0),
    "clip_norm": Number(above=0) | None,
    "label_smoothing": Number(0, below=1),
    "batch_norm": OneOf(*BATCH_NORMS),
    "augment": OneOf(*PRESETS) | None,
    "cache_views": Integer(0) | None,
    "early_stopping": Integer(1) | None,
}


def unused(optimizer: str) -> tuple[str, ...]:
    """The settings of a stage that an optimizer has no use for."""
    if optimizer in SOLVERS:
        return STEPWISE
    if optimizer not in OPTIMIZERS:
        return ()  # a stage will say which there are
    return tuple(n for n in ("momentum", "weight_decay") if n not in OPTIMIZERS[optimizer])


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Args:
        name: What the records call it.
        unfreeze: What trains besides the head: `"head"` (nothing else), `"all"`, a block name
            ("from this block up"), an int n (the last n blocks), a float in (0, 1] (that share
            of the blocks) or a pattern of layer names such as `"block7*"`, or of the paths that
            `tl.blocks` shows where layers of nested models have one name.
        epochs: Passes over the training images, >= 1.
        learning_rate: Peak learning rate, > 0; or `"auto"`, which measures it when the stage
            begins, as `tl.tune.find_lr` does, with the stage's own optimizer and images. Where
            that tells nothing it warns and takes 1e-3 for `unfreeze="head"`, or else 1e-4.
        layer_decay: Factor in (0, 1] between the rates of a block and of the block above it.
        head_rate: Factor of the head's rate, >= 0. A head that was solved is at its optimum, and
            0 lets the blocks follow it.
        schedule: `"cosine"` (to zero over the stage) or `"constant"`.
        warmup: Epochs of linear warm-up from zero, >= 0; may be a fraction of one.
        optimizer: `"adamw"`, `"adam"` (the same without weight decay), `"sgd"`, `"rmsprop"`,
            `"adagrad"`, `"adadelta"`; or one that solves a linear head on stored features:
            `"lbfgs"` (logistic regression, its L2 penalty that of `tl.Head(l2=...)`, or else the
            best on the validation split), or in closed form `"lda"` (linear discriminants with
            shrunk scatter and class means) and `"ridge"`. These two choose among blocks,
            statistics and strengths by cross-validation over the training and validation
            images, groups kept together, and average the best. `unfreeze` must then be
            `"head"`, and all that belongs to steps and epochs be left out: there are none, nor
            callbacks.
        momentum: Nesterov momentum of `"sgd"` and momentum of `"rmsprop"`, in [0, 1); left out
            with the others, which have none.
        weight_decay: Decoupled weight decay, >= 0; spares biases and normalisation. `"adam"` has
            none.
        clip_norm: Upper limit of the norm of the whole gradient, or None.
        label_smoothing: Share of each target spread over all classes, in [0, 1).
        batch_norm: `"frozen"` keeps every BatchNormalization below the head in inference mode;
            `"train"` trains those of the unfrozen blocks; `"recalibrate"` freezes them and
            estimates their statistics anew on the training images after the stage.
        augment: A preset's name for this stage, or None for what `fine_tune` was given.
        cache_views: Versions of each training image whose activations at the freeze boundary
            are stored, >= 0; the epochs take turns among them. 0 computes the frozen part in
            every epoch, which a head that is solved cannot do; None is 1 without augmentation,
            or else one for every three epochs as far as they fit the memory.
        early_stopping: Epochs without a better validation loss before the stage ends, or None.

    Raises:
        ValueError: A value out of its range, or one that the optimizer would not look at.
    """

    name: str
    _: KW_ONLY
    unfreeze: str | int | float = "head"
    epochs: int = 5
    learning_rate: float | str = 1e-3
    layer_decay: float = 1.0
    head_rate: float = 1.0
    schedule: str = "cosine"
    warmup: float = 0.0
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    # On, since frozen BatchNorm makes one large step dangerous.
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    batch_norm: str = "frozen"
    augment: str | None = None
    cache_views: int | None = None
    early_stopping: int | None = None

    def __post_init__(self) -> None:
        _checks.fields(STAGE, self)
        _checks.number("warmup", self.warmup, 0, self.epochs)
        if self.head_rate == 0 and self.unfreeze == "head" and not self.solved:
            rule = "above 0 in a stage that trains the head alone"
            raise _checks.fail("head_rate", rule, self.head_rate)
        if self.solved and self.learning_rate == AUTO:
            rule = f"a number with optimizer={self.optimizer!r}, which has no rate to find"
            raise _checks.fail("learning_rate", rule, self.learning_rate)
        if self.solved and self.unfreeze != "head":
            rule = f"'head' with optimizer={self.optimizer!r}"
            raise _checks.fail("unfreeze", rule, self.unfreeze)
        if self.solved and self.cache_views == 0:
            said = f"optimizer={self.optimizer!r}, which solves on what is stored"
            rule = f"at least 1, or None, with {said}"
            raise _checks.fail("cache_views", rule, self.cache_views)
        self._check_used()

    @property
    def solved(self) -> bool:
        """Whether the head is solved on stored features, in place of steps."""
        return self.optimizer in SOLVERS

    def _check_used(self) -> None:
        for name in unused(self.optimizer):
            value, silent = getattr(self, name), [getattr(Stage, name)]
            silent += [NOTHING[name]] if name in NOTHING else []
            # A setting that would be ignored in silence is a mistake of whoever set it.
            if value not in silent:
                left = f"left out (or {' or '.join(map(repr, silent))})"
                rule = f"{left} with optimizer={self.optimizer!r}, which has no use for it"
                raise _checks.fail(name, rule, value)


@dataclass(frozen=True)
class Plan:
    """Stages in the order in which they run. Prints as a table.

    Args:
        stages: At least one Stage, with names that differ.

    Raises:
        ValueError: No stage, or two of one name.
        TypeError: Something else than a Stage.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        rule = "a sequence of tl.Stage, as in tl.Plan((stage,))"
        # Past the annotation: what comes from YAML or a user may be anything.
        given: Any = self.stages
        # A text is a sequence of letters.
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(str(_checks.fail("stages", rule, given)))
        # A list or generator that is used up or changed later must not be part of a frozen plan.
        object.__setattr__(self, "stages", tuple(given))
        for stage in self.stages:
            _checks.instance("stages", stage, Stage, rule)
        # Records and checkpoints tell stages apart by their names.
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise _checks.fail("stages", "at least one stage, with names that differ", names)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    def __str__(self) -> str:
        shown = ("name", "unfreeze", "epochs", "learning_rate", "optimizer", "batch_norm")
        rows = [shown, *(tuple(str(getattr(stage, f)) for f in shown) for stage in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON and YAML."""
        return {"stages": [dataclasses.asdict(stage) for stage in self]}

    def to_yaml(self) -> str:
        """The plan as YAML text, to keep and to edit."""
        return reading.yaml_text(self.to_dict())

    @classmethod
    def from_yaml(cls, text: str) -> "Plan":
        """The plan of `to_yaml`'s text; nothing but plain data is read.

        Raises:
            ValueError: Text that is not a plan, or a setting that no stage has.
        """
        return cls.from_dict(reading.plain_yaml(text))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Plan":
        """The plan of `to_dict`'s data.

        Raises:
            ValueError: A setting that no stage has, or a value out of its range.
        """
        stages = settings.get("stages") if isinstance(settings, Mapping) else None
        if not isinstance(stages, list) or not all(isinstance(s, Mapping) for s in stages):
            raise _checks.fail("settings", "a mapping with a list of stages", settings)
        for stage in stages:
            for name in stage:
                _checks.one_of("setting of a stage", name, sorted(STAGE))
            # Or `Stage` would raise a TypeError, in words of Python's calls.
            if "name" not in stage:
                raise _checks.fail("settings", "stages that have a name", stage)
        return cls(tuple(Stage(**stage) for stage in stages))
