"""Argument checks with one wording: the name, what is allowed, the value that came."""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any


def fail(name: str, rule: str, value: Any) -> ValueError:
    """The error for a value that breaks a rule; the caller raises it."""
    shown = repr(value)
    if "\n" in shown:  # an array's rows
        shown = " ".join(shown.split())
    if len(shown) > 200:
        shown = shown[:197] + "..."
    return ValueError(f"`{name}` must be {rule}. Received: {name}={shown}")


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    choices = list(allowed)
    if value not in choices:
        raise fail(name, "one of " + ", ".join(map(repr, choices)), value)


def instance(name: str, value: Any, types: type | tuple[type, ...], rule: str) -> None:
    """Raise TypeError unless `value` is of one of `types`; `rule` says it in words."""
    if not isinstance(value, types):
        raise TypeError(str(fail(name, rule, value)))


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> None:
    """Raise ValueError unless `value` is a whole number in [low, high]; bool is not one."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or (low is not None and value < low) or (high is not None and value > high):
        raise fail(name, "an integer" + _bounds(low, high), value)


def number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> None:
    """Raise ValueError unless `value` is a finite number in [low, high], > above and < below."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if (
        not real
        or not math.isfinite(value)
        or (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise fail(name, "a finite number" + _bounds(low, high, above, below), value)


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a callable has a parameter of this name; one whose parameters are hidden has none."""
    try:
        return name in inspect.signature(function).parameters
    except ValueError:  # a callable of C code has no signature to read
        return False


def _bounds(
    low: float | None,
    high: float | None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    pairs = ((">=", low), (">", above), ("<=", high), ("<", below))
    limits = [
        f"{sign} {limit}" if isinstance(limit, int) else f"{sign} {limit:g}"
        for sign, limit in pairs
        if limit is not None
    ]
    return " " + " and ".join(limits) if limits else ""
