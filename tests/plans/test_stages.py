import dataclasses
import json

import pytest

from tltoolkit.plans import ready
from tltoolkit.plans.stages import Plan, Stage


def test_a_plan_prints_as_a_table() -> None:
    lines = str(ready.fine_tune()).splitlines()
    assert lines[0].split() == [
        "name", "unfreeze", "epochs", "learning_rate", "optimizer", "batch_norm",
    ]  # fmt: skip
    assert lines[1].split() == ["head", "head", "20", "0.003", "adamw", "frozen"]
    assert lines[2].split() == ["fine_tune", "all", "12", "0.0003", "adamw", "frozen"]


@pytest.mark.parametrize("make", ready.PLANS.values())
def test_plans_survive_json(make: object) -> None:
    plan = make()
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("make", ready.PLANS.values())
def test_plans_survive_yaml(make: object) -> None:
    plan = make()
    assert Plan.from_yaml(plan.to_yaml()) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "`text` must be plain YAML"),
        ("- 1", "`settings` must be a mapping with a list of stages"),
        ("stages: {name: a}", "`settings` must be a mapping with a list of stages"),
        ("stages: [{epochs: 3}]", "`settings` must be stages that have a name"),
        ("stages: [{name: a, epochs: many}]", "`epochs` must be an integer"),
        ("stages: [!!python/object/apply:os.getcwd []]", "`text` must be plain YAML"),
    ],
)
def test_text_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_yaml(text)


def test_a_misspelt_setting_in_a_file_is_named() -> None:
    with pytest.raises(ValueError, match="Received: setting of a stage='learning_rat'"):
        Plan.from_dict({"stages": [{"name": "a", "learning_rat": 1e-3}]})


def test_the_fine_tuning_rate_is_10_to_100_times_below_the_heads() -> None:
    head, upper = ready.fine_tune()
    assert head.learning_rate / upper.learning_rate * (1 + 1e-9) >= 10
    assert head.learning_rate / upper.learning_rate <= 100
    with pytest.raises(ValueError, match=r"`head_learning_rate` must be 0\.01 to 0\.1"):
        ready.fine_tune(learning_rate=1e-3, head_learning_rate=1e-3)


def test_stages_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Stage("a").epochs = 3


@pytest.mark.parametrize("stages", [(), (Stage("a"), Stage("a"))])
def test_a_plan_needs_stages_of_different_names(stages: tuple[Stage, ...]) -> None:
    with pytest.raises(ValueError, match="at least one stage, with names that differ"):
        Plan(stages)


def test_a_plan_holds_only_stages() -> None:
    with pytest.raises(TypeError, match=r"a sequence of tl\.Stage"):
        Plan(("head",))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "`epochs` must be an integer >= 1"),
        ({"learning_rate": 0}, "`learning_rate` must be a finite number > 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a finite number"),
        ({"layer_decay": 1.1}, "`layer_decay` must be a finite number <= 1 and > 0|> 0 and <= 1"),
        ({"schedule": "linear"}, "`schedule` must be one of 'cosine', 'constant'"),
        ({"warmup": 6}, "`warmup` must be a finite number >= 0 and <= 5"),
        ({"optimizer": "adamax"}, "`optimizer` must be one of 'adamw', 'adam', 'sgd'"),
        ({"momentum": 1}, "`momentum` must be a finite number >= 0 and < 1"),
        ({"weight_decay": -1}, "`weight_decay` must be"),
        ({"clip_norm": 0}, "`clip_norm` must be a finite number > 0"),
        ({"label_smoothing": 1}, "`label_smoothing` must be"),
        ({"batch_norm": "free"}, "`batch_norm` must be one of"),
        ({"early_stopping": 0}, "`early_stopping` must be an integer >= 1"),
        ({"unfreeze": None}, "`unfreeze` must be a string or a number"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        Stage("a", **setting)
