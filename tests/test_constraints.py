"""Every row of every table of settings: what lies just outside is refused, in one wording."""

import argparse
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import pytest

import tltoolkit as tl
from tltoolkit import _checks
from tltoolkit._checks import Constraint, Instance, Integer, Number, OneOf, Row, Table
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.terms import STREAM
from tltoolkit.augment import terms as augmenting
from tltoolkit.augment.presets import STRENGTHS
from tltoolkit.check.terms import CAPACITY
from tltoolkit.cli import main, options, program
from tltoolkit.data import terms as sources
from tltoolkit.imbalance.terms import IMBALANCE
from tltoolkit.model.classifier import Settings
from tltoolkit.model.head import HEAD
from tltoolkit.model.terms import SETTINGS
from tltoolkit.plans.stages import STAGE
from tltoolkit.runs.terms import FINE_TUNE
from tltoolkit.training.features import Storage
from tltoolkit.training.terms import STORAGE
from tltoolkit.tune import terms as tuning
from tltoolkit.tune.batch_size import BatchSizes

PIXELS, LABELS = np.zeros((8, 4, 4, 3), np.uint8), np.arange(8) % 2
SIMPLE = {str, int, float, bool, type(None)}


@functools.cache
def images() -> tl.data.ImageData:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3)).astype(np.uint8)
    train = tl.data.from_arrays(pixels, np.arange(12) % 2, val=0.0).train
    return tl.data.ImageData(train=train.subset(np.arange(8)), val=train.subset(np.arange(8, 12)))


@functools.cache
def network() -> keras.Model:
    pixels = keras.Input((4, 4, 3))
    return keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(pixels)))


@functools.cache
def predictor() -> Predictor:
    return Predictor(model=network(), class_names=("a", "b"))


class Place(NamedTuple):
    """A table, what it is the table of, and how that is called with one value of one row."""

    table: Table
    owner: Callable[..., Any]
    call: Callable[..., Any]
    # Name -> why a setting of a simple type has no row.
    without: Mapping[str, str] = MappingProxyType({})


SIZES = BatchSizes(batch_size=16, images_per_second={}, memory_gb={}, optimizer="sgd", advice="")
BUILT = {"backbone": "vgg16", "class_names": ("a", "b"), "image_size": 64}
COLUMN = "a column is looked for in the table, once that is read"
KEY = "a key is looked for in the examples"
PLACES = {
    "Stage": Place(STAGE, tl.Stage, lambda **k: tl.Stage(**{"name": "a", **k})),
    "Head": Place(HEAD, tl.Head, tl.Head),
    "Settings": Place(
        SETTINGS, Settings,
        lambda **k: Settings(**{**BUILT, **k}),
        {"backbone": "the table of backbones", "trunk": "the blocks of the backbone"},
    ),
    "build_classifier": Place(
        {
            "multi_label": SETTINGS["multi_label"], "seed": SETTINGS["seed"],
            **augmenting.PREPARATION,
        },
        tl.build_classifier,
        lambda **k: tl.build_classifier(class_names=("a", "b"), weights=None, **k),
        {
            "backbone": "the table of backbones", "trunk": "the blocks of the backbone",
            "image_size": "that of Settings, or None",
        },
    ),
    "Imbalance": Place(IMBALANCE, tl.Imbalance, tl.Imbalance),
    "Storage": Place(STORAGE, Storage, Storage),
    "Preparation": Place(augmenting.PREPARATION, tl.augment.Preparation, tl.augment.Preparation),
    "Pipeline": Place(
        augmenting.PIPELINE, tl.augment.Pipeline,
        lambda **k: tl.augment.Pipeline(None, **{"image_size": 8, **k}),
    ),
    "preset": Place(
        augmenting.PRESET, tl.augment.preset,
        lambda **k: tl.augment.preset(**{"name": "light", "image_size": 8, **k}),
        {"horizontal_flip": "anything true or false", "vertical_flip": "anything true or false"},
    ),
    "from_directory": Place(
        sources.FROM_DIRECTORY, tl.data.from_directory,
        lambda **k: tl.data.from_directory(**{"root": "nowhere", **k}),
    ),
    "from_table": Place(
        sources.FROM_TABLE, tl.data.from_table, lambda **k: tl.data.from_table("nowhere.csv", **k),
        {"image": COLUMN, "split": COLUMN, "separator": "text that is not empty, by hand"},
    ),
    "from_arrays": Place(
        sources.FROM_ARRAYS, tl.data.from_arrays,
        lambda **k: tl.data.from_arrays(PIXELS, LABELS, **k),
    ),
    "from_stream": Place(
        sources.FROM_STREAM, tl.data.from_stream, lambda **k: tl.data.from_stream([], **k),
        {"image": KEY, "label": KEY, "groups": KEY},
    ),
    "from_tfds": Place(
        sources.FROM_TFDS, tl.data.from_tfds, lambda **k: tl.data.from_tfds("nothing", **k),
        {"image": KEY, "label": KEY},
    ),
    "ImageData": Place(
        sources.POLICIES, tl.data.ImageData,
        lambda **k: tl.data.ImageData(train=images().train, **k),
    ),
    "kfold": Place(sources.KFOLD, tl.data.ImageData.kfold, lambda **k: images().kfold(**k)),
    "fine_tune": Place(
        FINE_TUNE, tl.fine_tune,
        lambda **k: tl.fine_tune(network(), images(), **k),
        {"budget": "a number or a text with a unit, and the plan has to go by it"},
    ),
    "search": Place(
        tuning.SEARCH, tl.tune.search,
        lambda **k: tl.tune.search(images(), {"dropout": [0.0, 0.1]}, **k),
    ),
    "find_lr": Place(
        tuning.FIND_LR, tl.tune.find_lr, lambda **k: tl.tune.find_lr(network(), images(), **k)
    ),
    "find_batch_size": Place(
        tuning.FIND_BATCH_SIZE, tl.tune.find_batch_size,
        lambda **k: tl.tune.find_batch_size(network(), images(), **k),
    ),
    "scaled_rate": Place(
        tuning.SCALED_RATE, BatchSizes.scaled_rate,
        lambda **k: SIZES.scaled_rate(**{"learning_rate": 0.1, "batch_size": 8, **k}),
        {"to": "the size that was found, unless it is given"},
    ),
    "learning_curve": Place(
        tuning.LEARNING_CURVE, tl.tune.learning_curve,
        lambda **k: tl.tune.learning_curve(network, images(), **k),
    ),
    "climb": Place(
        tuning.CLIMB, tl.tune.climb, lambda **k: tl.tune.climb(images(), **k),
        {"family": "the families of the table of backbones"},
    ),
    "capacity": Place(
        CAPACITY, tl.check.capacity, lambda **k: tl.check.capacity(network(), images(), **k),
        {"from_logits": "that of the network"},
    ),
    "stream": Place(
        STREAM, Predictor.stream,
        lambda **k: predictor().stream([], **k),
    ),
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


@pytest.mark.parametrize("where", PLACES)
def test_every_simple_setting_has_a_row(where: str) -> None:
    place = PLACES[where]
    signature = inspect.signature(place.owner)
    function = place.owner.__init__ if inspect.isclass(place.owner) else place.owner
    hints = typing.get_type_hints(inspect.unwrap(function), localns={"pd": pd})
    wanted = {name for name in signature.parameters if simple(hints.get(name))}
    assert wanted - set(place.table) == set(place.without)
    assert set(place.table) <= set(signature.parameters)


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
