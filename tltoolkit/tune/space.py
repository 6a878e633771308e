"""The space of a search: which settings vary and how, and what a draw from it means."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tltoolkit import _checks, backbones
from tltoolkit.augment import Preparation
from tltoolkit.model import freezing
from tltoolkit.model.head import Head
from tltoolkit.model.settings import Settings
from tltoolkit.plans import ready, stages
from tltoolkit.plans.stages import Plan, Stage
from tltoolkit.plans.terms import OPTIMIZERS, SOLVERS

BUILD = ("backbone", "image_size", "trunk", "fit", "normalise")
# batch_size is an argument of training; the head's own copy of it follows.
HEAD = tuple(f.name for f in dataclasses.fields(Head) if f.name != "batch_size")
STAGE = tuple(f.name for f in dataclasses.fields(Stage) if f.name not in ("name", "_"))
SETTINGS = (*BUILD, *HEAD, "batch_size", *STAGE)
# As `build_classifier` and `fine_tune` have them.
BACKBONE, BATCH_SIZE = "efficientnet_lite0", 32
# What a stage has unless the space says otherwise: a head alone, or upper blocks after the head.
# As the stage of the head in `ready.fine_tune`.
ALONE = {"epochs": 20, "learning_rate": 3e-3, "augment": "none"}
UPPER = {"epochs": ready.EPOCHS, "learning_rate": ready.RATE, "label_smoothing": 0.1}
LOG = "log"
# Settings of a head that is not solved, and the value with which it can be.
UNSOLVED = {"hidden": (), "l1": 0.0, "max_norm": None}

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones, or evenly spread logarithms."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Space:
    """A space that was read and checked.

    Attributes:
        choices: Setting -> label -> value, for those with a list of values.
        ranges: Setting -> its range.
        fixed: Setting -> its one value.
    """

    choices: Mapping[str, Mapping[Any, Any]]
    ranges: Mapping[str, Range]
    fixed: Values

    def to_dict(self) -> dict[str, Any]:
        """Plain data that is equal for equal spaces, however they were written."""
        return {
            "choices": {name: list(map(str, labels)) for name, labels in self.choices.items()},
            "ranges": {name: dataclasses.asdict(r) for name, r in self.ranges.items()},
            "fixed": {name: repr(value) for name, value in self.fixed.items()},
        }

    def values(self, drawn: Values) -> dict[str, Any]:
        """The settings of a trial, from the labels and numbers that were drawn."""
        chosen = {name: labels[drawn[name]] for name, labels in self.choices.items()}
        return {**self.fixed, **chosen, **{name: drawn[name] for name in self.ranges}}

    def candidates(self) -> dict[str, list[Any]]:
        """Setting -> the values that stand for all in checks: each choice, the ends of a range."""
        ends = {name: [r.low, r.high] for name, r in self.ranges.items()}
        listed = {name: list(labels.values()) for name, labels in self.choices.items()}
        return {**{name: [value] for name, value in self.fixed.items()}, **listed, **ends}

    def grid(self) -> dict[str, list[Any]]:
        """Setting -> its labels or whole numbers, every combination of which a grid has.

        Raises:
            ValueError: A range of fractions, which has no end of values.
        """
        axes: dict[str, list[Any]] = {name: list(labels) for name, labels in self.choices.items()}
        for name, r in self.ranges.items():
            if not r.whole:
                rule = "a list of values for sampler='grid'"
                raise _checks.fail(f"space[{name!r}]", rule, (r.low, r.high))
            axes[name] = list(range(int(r.low), int(r.high) + 1))
        return axes


def read(space: Any) -> Space:
    """Read a space: a list is a choice, `(low, high)` or `(low, high, "log")` a range.

    Anything else is one fixed value. Two integers make a range of integers.

    Raises:
        ValueError: An unknown setting, an empty list, a range that is none, nothing that varies.
    """
    _checks.instance("space", space, Mapping, "a mapping from settings to what they may be")
    choices, ranges, fixed = {}, {}, {}
    for name, given in space.items():
        _checks.one_of("setting of the space", name, SETTINGS)
        # By type: a tuple is a range, and a list of two numbers still a choice.
        if isinstance(given, list):
            choices[name] = _labelled(name, given)
        elif isinstance(given, tuple):
            ranges[name] = _range(name, given)
        else:
            fixed[name] = given
    # A search of one point is a training.
    if not choices and not ranges:
        raise _checks.fail("space", "a mapping with at least one list or range", space)
    return Space(choices=choices, ranges=ranges, fixed=fixed)


def check(space: Space, class_names: tuple[str, ...], multi_label: bool) -> None:
    """Raise ValueError for a value, or a pair of values, that no trial could run with.

    Every two settings are tried together, because some allow one another only in part.
    """
    # First, as a setting that nobody reads would pass all that follows.
    _check_used(space.candidates())
    for values in _pairs(space.candidates()):
        settings = build_settings(values, class_names, multi_label)
        if values.get("optimizer") in SOLVERS:
            for name, nothing in UNSOLVED.items():
                if values.get(name):
                    rule = f"[{nothing}] with optimizer={values['optimizer']!r}"
                    raise _checks.fail(f"space[{name!r}]", rule, values[name])
        # Any preset would do: what is looked at is what unfreezes.
        for stage in plan_of(values, augment="none"):
            _check_unfreeze(settings, stage.unfreeze)


def build_settings(values: Values, class_names: tuple[str, ...], multi_label: bool) -> Settings:
    """The classifier of a trial, but for its weights."""
    backbone = backbones.get(values.get("backbone", BACKBONE))
    # Without hidden layers there is nothing to normalise, and only "auto" goes by batch_size.
    given = {n: values[n] for n in HEAD if n in values and (n != "norm" or values.get("hidden"))}
    size = batch_size(values)
    if given.get("norm") == "auto":
        given["batch_size"] = size
    return Settings(
        backbone=backbone.name,
        class_names=class_names,
        image_size=values.get("image_size") or backbone.image_size,
        head=Head(**given),
        trunk=values.get("trunk"),
        multi_label=multi_label,
        preparation=Preparation(fit=values.get("fit"), normalise=values.get("normalise")),
    )


def plan_of(values: Values, augment: str) -> Plan:
    """The plan of a trial: the head alone, or the head and then the layers of `unfreeze`.

    Args:
        values: The settings of the trial.
        augment: Preset for the upper layers, unless the settings say otherwise.
    """
    given = {name: values[name] for name in STAGE if name in values}
    unused = stages.unused(given.get("optimizer", Stage.optimizer))
    if given.get("unfreeze", freezing.HEAD) == freezing.HEAD:
        alone = {name: v for name, v in {**ALONE, **given}.items() if name not in unused}
        return Plan((Stage(freezing.HEAD, **alone),))
    upper = {**UPPER, "augment": augment, **given}
    # Half an epoch, but no more than half of the stage; a space may say otherwise.
    upper = {"warmup": min(0.5, upper["epochs"] / 2), **upper}
    upper = {name: value for name, value in upper.items() if name not in unused}
    solved = not any(values.get(name) for name in UNSOLVED)
    # Trials are compared on validation images, which a head in closed form would have a say in.
    head = ready.linear_probe() if solved else ready.first(linear_head=False)
    return Plan((*head, Stage("fine_tune", **upper)))


def batch_size(values: Values) -> int:
    """Images per step of a trial."""
    size = values.get("batch_size", BATCH_SIZE)
    _checks.integer("batch_size", size, 1)
    return int(size)


def _labelled(name: str, given: list[Any]) -> dict[Any, Any]:
    """Label -> value; numbers and strings are their own labels."""
    plain = (str, int, float, bool, type(None))
    # Optuna stores choices as JSON and takes plain values alone without a warning.
    labels = [one if isinstance(one, plain) else json.dumps(one) for one in given]
    values = dict(zip(labels, given, strict=True))
    if not given or len(values) < len(given):
        raise _checks.fail(f"space[{name!r}]", "a list of values that differ", given)
    return values


def _range(name: str, given: tuple[Any, ...]) -> Range:
    rule = "(low, high) or (low, high, 'log') with numbers low < high; choices are a list"
    # By type, since a bool is an int to `isinstance`.
    numbers = len(given) in (2, 3) and all(type(end) in (int, float) for end in given[:2])
    log = given[2:] == (LOG,)
    if not numbers or given[0] >= given[1] or given[2:] not in ((), (LOG,)):
        raise _checks.fail(f"space[{name!r}]", rule, given)
    # Optuna would refuse it as well, but in the middle of the search.
    if log and given[0] <= 0:
        raise _checks.fail(f"space[{name!r}]", "a range above 0, since it is logarithmic", given)
    low, high = given[:2]
    return Range(low=low, high=high, log=log, whole=type(low) is int and type(high) is int)


def _pairs(candidates: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    first = {name: values[0] for name, values in candidates.items()}
    for name, values in candidates.items():
        for value in values:
            yield {**first, name: value}
    for a, b in itertools.combinations(candidates, 2):
        for x, y in itertools.product(candidates[a], candidates[b]):
            yield {**first, a: x, b: y}


def _check_used(candidates: Mapping[str, list[Any]]) -> None:
    """Raise ValueError for a setting that no trial would look at."""
    optimizers = candidates.get("optimizer", [Stage.optimizer])
    known = [name for name in optimizers if name in (*OPTIMIZERS, *SOLVERS)]
    for name in candidates:
        if known and all(name in stages.unused(optimizer) for optimizer in known):
            rule = f"left out where `optimizer` is {' or '.join(map(repr, known))}"
            raise _checks.fail(f"space[{name!r}]", rule, candidates[name])
    if any(candidates.get("norm", ())) and not any(candidates.get("hidden", ())):
        rule = "left out without `hidden` layers, which it normalises"
        raise _checks.fail("space['norm']", rule, candidates["norm"])


def _check_unfreeze(settings: Settings, unfreeze: str | int | float) -> None:
    if isinstance(unfreeze, str) and any(sign in unfreeze for sign in "*?["):
        return  # a pattern of layer names, which only a built network has
    names = (*settings.blocks, freezing.HEAD)
    freezing.trained_layers({name: (name,) for name in names}, unfreeze)
