"""Argument checks with one wording: the name, what is allowed, the value that came.

A setting has a constraint in the table of its place, which its check, its messages, the help of
its option and its tests are made from. The functions are for what no table can say: a bound that
another value gives, or an argument of a single function.
"""

import contextlib
import inspect
import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

_Limit = float | None
_NOTHING = object()


@dataclass(frozen=True)
class Constraint(ABC):
    """What a setting may be. Prints as the allowed values in words."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Whether the value is allowed."""

    @abstractmethod
    def invalid(self) -> list[Any]:
        """Values just outside, to test with."""

    @property
    def error(self) -> type[ValueError] | type[TypeError]:
        """What a value that is not allowed raises."""
        return ValueError

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError, or TypeError where it is a matter of types alone."""
        if not self.holds(value):
            # `fail` makes a ValueError; where types are wrong its text is what is wanted.
            raise self.error(str(fail(name, str(self), value)))

    def __or__(self, other: "Constraint | str | None") -> "Union":
        given = other if isinstance(other, Constraint) else OneOf(other)
        return Union((*self.parts, *given.parts))

    @property
    def parts(self) -> "tuple[Constraint, ...]":
        """The constraints of which any may hold."""
        return (self,)


@dataclass(frozen=True)
class Integer(Constraint):
    """A whole number in [low, high]; bool is not one."""

    low: int | None = None
    high: int | None = None

    def holds(self, value: Any) -> bool:
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return whole and _within(value, self.low, self.high)

    def invalid(self) -> list[Any]:
        below = [] if self.low is None else [self.low - 1]
        above = [] if self.high is None else [self.high + 1]
        # The kinds that a check which converts or only compares would let through.
        return [*below, *above, True, 1.5, "1", math.nan, None]

    def __str__(self) -> str:
        return "an integer" + _bounds(self.low, self.high)


@dataclass(frozen=True)
class Number(Constraint):
    """A finite number in [low, high], > above and < below; bool is not one."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: Any) -> bool:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return (
            real
            and math.isfinite(value)
            and _within(value, self.low, self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def invalid(self) -> list[Any]:
        under = [] if self.low is None else [math.nextafter(self.low, -math.inf)]
        over = [] if self.high is None else [math.nextafter(self.high, math.inf)]
        ends = [end for end in (self.above, self.below) if end is not None]
        return [*under, *over, *ends, True, "1", math.nan, math.inf, -math.inf, None]

    def __str__(self) -> str:
        return "a finite number" + _bounds(self.low, self.high, self.above, self.below)


@dataclass(frozen=True, init=False)
class OneOf(Constraint):
    """One of a few values."""

    choices: tuple[Any, ...]

    def __init__(self, *choices: Any) -> None:
        # Frozen, and of any number of values: the constructor is our own.
        object.__setattr__(self, "choices", choices)

    def holds(self, value: Any) -> bool:
        # By equality, so that 0 and 1 pass where False and True do.
        return value in self.choices

    def invalid(self) -> list[Any]:
        words = [f"{choice} " for choice in self.choices if isinstance(choice, str)]
        return [value for value in (*words, "", -1, _NOTHING, None) if not self.holds(value)]

    def __str__(self) -> str:
        several = "one of " if len(self.choices) > 1 else ""
        return several + ", ".join(map(repr, self.choices))


@dataclass(frozen=True)
class Instance(Constraint):
    """Something of a type; `rule` says it in words."""

    types: type | tuple[type, ...]
    rule: str

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.types)

    def invalid(self) -> list[Any]:
        return [_NOTHING, None]

    @property
    def error(self) -> type[ValueError] | type[TypeError]:
        return TypeError

    def __str__(self) -> str:
        return self.rule


@dataclass(frozen=True)
class Row(Constraint):
    """A tuple or list of which each value is allowed; `rule` says of what."""

    each: Constraint
    rule: str = "a tuple"

    def holds(self, value: Any) -> bool:
        return isinstance(value, (tuple, list)) and all(map(self.each.holds, value))

    def invalid(self) -> list[Any]:
        return [_NOTHING, None, *((one,) for one in self.each.invalid())]

    def __str__(self) -> str:
        return f"{self.rule}, each {self.each}"


@dataclass(frozen=True)
class Union(Constraint):
    """What any of several constraints allows."""

    several: tuple[Constraint, ...]

    def holds(self, value: Any) -> bool:
        return any(part.holds(value) for part in self.several)

    def invalid(self) -> list[Any]:
        values = [value for part in self.several for value in part.invalid()]
        return [value for value in values if not self.holds(value)]

    @property
    def error(self) -> type[ValueError] | type[TypeError]:
        # "or None" is a matter of types, too.
        typed = all(isinstance(part, Instance) or part == OneOf(None) for part in self.several)
        return TypeError if typed else ValueError

    @property
    def parts(self) -> tuple[Constraint, ...]:
        return self.several

    def __str__(self) -> str:
        return " or ".join(map(str, self.several))


Table = Mapping[str, Constraint]
# What NumPy, TensorFlow and Keras all take.
SEED = Integer(0, 2**31 - 1)
FLAG = Instance(bool, "True or False")
# 0 and 1 do as well, and NumPy's own.
SWITCH = OneOf(True, False)


class Checked:
    """A dataclass of which each setting is checked at birth by the `table` of its class."""

    table: ClassVar[Table]

    def __post_init__(self) -> None:
        fields(self.table, self)


def fields(table: Table, settings: Any) -> None:
    """Raise ValueError or TypeError for an attribute that its constraint does not allow."""
    arguments(table, {name: getattr(settings, name) for name in table})


def arguments(table: Table, given: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for the first value that its constraint does not allow.

    Args:
        table: Name -> constraint.
        given: Name -> value for each of them, and maybe others: `locals()` where a function begins.
    """
    for name, constraint in table.items():
        constraint.check(name, given[name])


def fail(name: str, rule: str, value: Any) -> ValueError:
    """The error for a value that breaks a rule; the caller raises it."""
    shown = repr(value)
    if "\n" in shown:  # an array's rows
        shown = " ".join(shown.split())
    # An array or a frame would fill the terminal.
    if len(shown) > 200:
        shown = shown[:197] + "..."
    return ValueError(f"`{name}` must be {rule}. Received: {name}={shown}")


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    OneOf(*allowed).check(name, value)


def instance(name: str, value: Any, types: type | tuple[type, ...], rule: str) -> None:
    """Raise TypeError unless `value` is of one of `types`; `rule` says it in words."""
    Instance(types, rule).check(name, value)


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> None:
    """Raise ValueError unless `value` is a whole number in [low, high]; bool is not one."""
    Integer(low, high).check(name, value)


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
    Number(low, high, above, below).check(name, value)


@contextlib.contextmanager
def extra(what: str, name: str) -> Iterator[None]:
    """Where an import fails, say what needs which package, and the extra that installs it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{what}: pip install 'tltoolkit[{name}]'") from error


def listed(items: Sequence[object], most: int = 20) -> str:
    """The first items in one line, no more than are read in running text."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a callable has a parameter of this name; one whose parameters are hidden has none."""
    try:
        return name in inspect.signature(function).parameters
    # A TypeError is let through: something that cannot be called is a fault of ours.
    except ValueError:  # a callable of C code has no signature to read
        return False


def _within(value: Any, low: _Limit, high: _Limit) -> bool:
    return bool((low is None or value >= low) and (high is None or value <= high))


def _bounds(low: _Limit, high: _Limit, above: _Limit = None, below: _Limit = None) -> str:
    pairs = ((">=", low), (">", above), ("<=", high), ("<", below))
    limits = [
        # `:g` would write 2147483647 as 2.14748e+09.
        f"{sign} {limit}" if isinstance(limit, int) else f"{sign} {limit:g}"
        for sign, limit in pairs
        if limit is not None
    ]
    return " " + " and ".join(limits) if limits else ""
