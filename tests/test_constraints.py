"""Every row of every table of settings: what lies just outside is refused, in one wording."""

import argparse
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from places import PLACES

import tltoolkit as tl
from tltoolkit import _checks
from tltoolkit._checks import Constraint, Instance, Integer, Number, OneOf, Row
from tltoolkit.augment.presets import STRENGTHS
from tltoolkit.cli import main, options, program
from tltoolkit.runs.terms import FINE_TUNE

SIMPLE = {str, int, float, bool, type(None)}
CALLED_BY_KERAS = (
    keras.callbacks.Callback, keras.layers.Layer, keras.losses.Loss, keras.metrics.Metric,
    keras.optimizers.schedules.LearningRateSchedule,
)  # fmt: skip
# Names that modules import for type checkers alone.
FOR_TYPES = {"pd": pd, "Axes": object, "Figure": object}
# Why public callables with settings of simple types have no table -> those.
WITHOUT_TABLE = {
    "the toolkit makes it, and a user reads it": {
        "backbones.Backbone", "data.Audit", "data.ImageError", "data.Problem", "data.Split",
        "evaluation.Comparison", "evaluation.ConfusedPair", "evaluation.Counts",
        "evaluation.RowResult", "imbalance.Correction", "tl.Report",
    },
    "its settings are anything true or false": {
        "data.ImageData.audit", "data.ImageData.check", "data.Split.in_classes",
        "evaluation.Decision",
        "evaluation.Thresholds", "imbalance.Correction.solver_weights", "imbalance.choose",
        "imbalance.correct", "imbalance.shift_prior", "plans.first", "tl.Imbalance.check_labels",
        "tl.Report.from_predictions", "tl.Report.save",
    },
    "what it looks up says what there is": {
        "backbones.Backbone.block_of", "backbones.blocks_of", "backbones.check_weights",
        "backbones.get", "backbones.taps_of", "backbones.weights_here", "data.Split.image",
        "data.Split.label_text", "data.Split.name",
        "tl.Imbalance.named", "tl.Report.average", "tl.Report.class_index", "tl.Report.is_class",
        "tl.Report.of_present", "tl.Report.pr_curve", "tl.Report.roc_curve", "tl.Report.row",
        "tl.Report.top_k_accuracy",
    },
    "the data beside it bound it": {
        "evaluation.Decision.check", "evaluation.class_metrics", "evaluation.label_report",
        "imbalance.check_prior", "imbalance.class_counts", "imbalance.class_prior",
    },
    "it is text to be read, or a name to be said": {
        "augment.Pipeline.from_yaml", "augment.Preparation.to_dict", "losses.MeanLoss",
        "tl.Plan.from_yaml",
    },
    "a run calls it with what it has checked": {
        "augment.Batches.order", "imbalance.Correction.assumed_prior",
        "imbalance.Correction.sample", "imbalance.deferred_from", "plans.after_head",
        "plans.after_solved", "stopping.training_progress",
    },
}  # fmt: skip
OUTSIDE = [
    pytest.param(where, name, value, id=f"{where}-{name}-{value!r}".split(" at ")[0])
    for where, place in PLACES.items()
    for name, constraint in place.table.items()
    for value in constraint.invalid()
]


@pytest.mark.parametrize(("where", "name", "value"), OUTSIDE)
def test_what_lies_outside_is_refused(where: str, name: str, value: Any) -> None:
    place = PLACES[where]
    with pytest.raises((ValueError, TypeError)) as error:
        place.call(**{name: value})
    said = str(_checks.fail(name, str(place.table[name]), value))
    assert str(error.value) == said
    assert f"`{name}`" in said


def simple(annotation: Any) -> bool:
    """Whether a parameter is a number, a text or a flag, or a union of such."""
    united = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return set(typing.get_args(annotation) if united else [annotation]) <= SIMPLE


def settings_of(owner: Callable[..., Any]) -> set[str]:
    """The parameters of a simple type."""
    function = owner.__init__ if inspect.isclass(owner) else owner
    hints = typing.get_type_hints(inspect.unwrap(function), localns=FOR_TYPES)
    return {name for name in inspect.signature(owner).parameters if simple(hints.get(name))}


@pytest.mark.parametrize("where", PLACES)
def test_every_simple_setting_has_a_row(where: str) -> None:
    place = PLACES[where]
    assert settings_of(place.owner) - set(place.table) == set(place.without)
    assert set(place.table) <= set(inspect.signature(place.owner).parameters)


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Name and function of all that users call: functions, constructors and their methods."""
    modules = [("tl", tl)]
    for where, module in modules:
        own = [n for n, item in vars(module).items() if item_of(item, module.__name__)]
        for name in getattr(module, "__all__", own):
            item = getattr(module, name)
            if inspect.ismodule(item):
                modules.append((name, item))
            elif inspect.isclass(item):
                yield f"{where}.{name}", item
                # Those of a Keras class are for Keras to call.
                if not issubclass(item, CALLED_BY_KERAS):
                    yield from methods(f"{where}.{name}", item)
            elif callable(item):
                yield f"{where}.{name}", item


def item_of(item: Any, module: str) -> bool:
    return getattr(item, "__module__", "") == module and not item.__name__.startswith("_")


def methods(name: str, owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for method in dir(owner):
        found = getattr(owner, method)
        own = getattr(found, "__module__", None) or ""
        if inspect.isroutine(found) and own.startswith("tltoolkit") and method[0] != "_":
            yield f"{name}.{method}", found


def test_every_public_callable_with_a_simple_setting_has_a_table() -> None:
    owners = [place.owner for place in PLACES.values()]
    # Some stand in a room as well as at the top, which comes first.
    found = {item: name for name, item in reversed([*public()])}
    without = {found[item] for item in found if item not in owners and settings_of(item)}
    said = {name for names in WITHOUT_TABLE.values() for name in names}
    assert without == said


@pytest.mark.parametrize("where", PLACES)
def test_defaults_are_allowed(where: str) -> None:
    place = PLACES[where]
    for name, parameter in inspect.signature(place.owner).parameters.items():
        if name in place.table and parameter.default is not inspect.Parameter.empty:
            assert place.table[name].holds(parameter.default), name


# What a constraint says of itself, against counting by hand


@pytest.mark.parametrize(
    ("constraint", "inside", "outside", "words"),
    [
        (Integer(1, 3), [1, 2, 3, np.int64(2)], [0, 4, 2.0, True, "2"], "an integer >= 1 and <= 3"),
        (Integer(), [-5, 0, 10**30], [0.5, None], "an integer"),
        (Number(0, below=1), [0, 0.5, np.float32(0.9)], [1, -1e-9, math.nan, True, 1j], ""),
        (Number(above=0, high=1), [1, 5e-324], [0, 1.0000001, math.inf], ""),
        (OneOf("a", None), ["a", None], ["b", 0, []], "one of 'a', None"),
        (Integer(1) | None, [1, None], [0, "None"], "an integer >= 1 or None"),
        (Number(above=0) | "auto" | None, [0.1, "auto", None], [0, "Auto"], ""),
        (Instance(str, "text") | None, ["", None], [3, b""], "text or None"),
        (Row(Integer(1)), [(), [1], (1, 2)], [3, "12", (0,), (1, None)], "a tuple, each an int"),
    ],
)  # fmt: skip
def test_a_constraint_holds_for_what_it_says(
    constraint: Constraint, inside: list[Any], outside: list[Any], words: str
) -> None:
    assert all(constraint.holds(value) for value in inside)
    assert not any(constraint.holds(value) for value in [*outside, *constraint.invalid()])
    assert str(constraint).startswith(words)
    for value in inside:
        constraint.check("x", value)


def test_what_is_just_outside_is_next_to_what_is_inside() -> None:
    assert Integer(2, 5).invalid()[:2] == [1, 6]
    below, above = Number(0.5, 2.0).invalid()[:2]
    assert (math.nextafter(below, 1), math.nextafter(above, 1)) == (0.5, 2.0)
    assert Number(above=0, below=1).invalid()[:2] == [0, 1]


@pytest.mark.parametrize(
    ("constraint", "kind"),
    [
        (Integer(1), ValueError), (Instance(str, "text"), TypeError), (OneOf("a"), ValueError),
        (Instance(str, "text") | None, TypeError), (Instance(str, "text") | "a", ValueError),
    ],
)  # fmt: skip
def test_types_alone_are_a_type_error(constraint: Constraint, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^`x` must be .*\. Received: x=3\.5$"):
        constraint.check("x", 3.5)


def test_presets_and_their_strengths_have_the_same_names() -> None:
    assert set(tl.augment.PRESETS) == {"none", "trivial", *STRENGTHS}


# The command line


def actions() -> list[Any]:
    _, commands = program.parsers()
    return [
        pytest.param(command, action, id=f"{command} {action.option_strings[-1]}")
        for command, parser in commands.items()
        for action in parser._actions
        if action.option_strings and (action.type is not None or action.choices is not None)
    ]


# Name -> why its option is read in another way.
READ_OTHERWISE = {
    "val": "looked at where the data is read",
    "test": "looked at where the data is read",
    "sizes": "several numbers",
    "split": "names of the command line alone",
}


@pytest.mark.parametrize(("command", "action"), actions())
def test_the_help_of_an_option_is_what_its_constraint_says(
    command: str, action: argparse.Action
) -> None:
    if action.dest in READ_OTHERWISE:
        return
    constraint = OneOf(*action.choices) if action.choices else action.type.constraint
    assert options.in_words(constraint) in str(action.help)
    tables = [place.table for place in PLACES.values()]
    rows = [table[action.dest] for table in tables if action.dest in table]
    named = {"normalise", "imbalance"}  # names that stand for several settings
    words = {options.in_words(row) for row in rows}
    assert options.in_words(constraint) in words or action.dest in named, words


@pytest.mark.parametrize(("command", "action"), actions())
def test_a_command_refuses_what_its_option_says_it_would(
    command: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    if action.dest in READ_OTHERWISE:
        return
    constraint = OneOf(*action.choices) if action.choices else action.type.constraint
    outside = [v for v in constraint.invalid() if isinstance(v, (int, float)) and v is not True]
    for value in [*outside, "nonsense"]:
        assert main([command, f"{action.option_strings[-1]}={value}"]) == 2
        said = capsys.readouterr().err
        assert f"argument {action.option_strings[-1]}: " in said
        assert "invalid" in said or f"must be {options.in_words(constraint)}, not" in said
        assert repr(str(value)) in said


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ("epoch", "epoch"), ("0", None), ("x", None), ("1.5", None)]
)
def test_an_option_of_several_kinds_is_read_as_the_one_that_fits(text: str, value: Any) -> None:
    read = options.allowing(FINE_TUNE["save_freq"], "checkpoints")["type"]
    if value is not None:
        assert read(text) == value
        return
    with pytest.raises(argparse.ArgumentTypeError, match="must be an integer >= 1 or epoch, not"):
        read(text)


def test_a_number_that_is_none_is_said_by_argparse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--batch-size", "many"]) == 2
    assert "argument --batch-size: invalid int value: 'many'" in capsys.readouterr().err


def test_a_source_names_what_is_wrong_before_it_looks_for_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`on_bad` must be one of 'error', 'skip'"):
        tl.data.from_directory(tmp_path / "nowhere", on_bad="ignore")
