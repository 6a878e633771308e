"""Settings from a YAML file, in place of flags."""

import argparse
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.cli.wording import FileError
from tltoolkit.files import reading

# They say what to do now, not with which settings.
_NO_SETTINGS = {
    *("help", "json", "debug", "quiet", "verbose"),
    *("settings", "from_run", "dry_run", "changed_data", "force"),
}


def read(path: str) -> dict[str, Any]:
    """The mapping in a YAML file of plain data.

    Raises:
        FileNotFoundError, ValueError: No such file, or other content.
    """
    source = reading.local(path)
    values = reading.plain_yaml(_decoded(source), source)
    if not isinstance(values, dict):
        raise ValueError(f"{source} must hold settings, one `name: value` a line")
    return values


def names(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Name -> option of every setting of a command; names are those of the flags, with "_"."""
    # argparse lists its options nowhere in public.
    return {a.dest: a for a in parser._actions if a.dest not in _NO_SETTINGS}


def as_defaults(
    values: Mapping[str, Any], parser: argparse.ArgumentParser, source: str
) -> dict[str, Any]:
    """Settings as defaults of a parser, which converts text as it does that of a flag.

    Raises:
        FileError: An unknown name, or a value of another kind, in the file `source`.
    """
    known = names(parser)
    unknown = sorted(str(name) for name in set(values) - set(known))
    if unknown:
        listed = ", ".join(known)
        raise FileError(f"{source}: unknown settings: {', '.join(unknown)}; known: {listed}")
    return {name: _as_default(name, value, known[name], source) for name, value in values.items()}


def _as_default(name: str, value: Any, action: argparse.Action, source: str) -> Any:
    flag = isinstance(action, argparse.BooleanOptionalAction)
    # null means left out, where that is what left out is.
    if value is None and action.default is None:
        return None
    if flag and isinstance(value, bool):
        return value
    if flag or isinstance(value, bool) or not isinstance(value, (str, int, float)):
        rule = "true or false" if flag else "one text or number"
        found = "null" if value is None else f"a {type(value).__name__}"
        left = f"; left out it is {action.default}" if value is None else ""
        raise FileError(f"{source}: `{name}` must be {rule}, not {found}{left}")
    # argparse takes a default without a look at the choices.
    if action.choices is not None and str(value) not in action.choices:
        listed = ", ".join(map(str, action.choices))
        raise FileError(f"{source}: `{name}` must be one of {listed}, not {value!r}")
    # As text, which the parser converts and checks as that of a flag.
    return str(value)


def of(args: argparse.Namespace, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The settings that a command was parsed to, as `as_defaults` takes them."""
    return {name: getattr(args, name) for name in names(parser)}


def text_of(value: str | None) -> str | None:
    """The YAML text that a setting gives or, by its suffix, names as a file; None for a name."""
    # A text of more than one line is the file's content, as command.json holds it.
    if value is None or "\n" in value:
        return value
    if Path(value).suffix in (".yaml", ".yml"):
        return _decoded(reading.local(value))
    return None


def plan_of(value: str, **wanted: Any) -> Any:
    """The plan that a name, a file or a YAML text gives: a `Plan`, or a name that says more.

    Args:
        value: As --plan has it.
        **wanted: Settings of a ready-made plan.

    Raises:
        ValueError: No such plan, or one that has no such setting.
    """
    from tltoolkit.plans import ready
    from tltoolkit.plans.stages import Plan

    text = text_of(value)
    if text is None and value not in ("auto", *ready.PLANS):
        named = ", ".join(map(repr, ["auto", *ready.PLANS]))
        raise _checks.fail("plan", f"one of {named}, or a .yaml file", value)
    make = ready.PLANS.get(value)
    known = inspect.signature(make).parameters if make else {}
    for name in wanted:
        # Said here, as the plan's function would raise a TypeError in words of Python.
        if name not in known:
            shown = "of a file" if text else repr(value)
            raise ValueError(f"--{name.replace('_', '-')} says nothing to the plan {shown}")
    if make is None:
        return "auto" if text is None else of_file(value, lambda: Plan.from_yaml(str(text)))
    head = known.get("head_learning_rate")
    rate = wanted.get("learning_rate")
    # As the plan would say it, but of the rate that was given.
    if head and rate and not 10 <= round(head.default / rate, 6) <= 100:
        rule = f"{head.default / 100:g} to {head.default / 10:g} for the plan {value!r}"
        raise _checks.fail("learning_rate", rule, rate)
    # By its name alone it puts the head on all blocks.
    return value if value in ready.WIDENED else make(**wanted)


def of_file(value: str, parse: Callable[[], Any]) -> Any:
    """What `parse` makes of a file's text; its errors name the file, where `value` is one."""
    try:
        return parse()
    except (ValueError, TypeError) as error:
        where = "the YAML text" if "\n" in value else value
        raise FileError(f"{where}: {error}") from error


def _decoded(source: Path) -> str:
    try:
        return reading.read(source).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not text in UTF-8") from error
