"""Transforms as plain data, in YAML and in stored classifiers, and back; and as text."""

import inspect
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, cast

import numpy as np

from tltoolkit import _checks
from tltoolkit.augment import transforms
from tltoolkit.augment._albumentations import KINDS, A

_OURS = ("GlobalContrast", "LocalContrast")
# Transforms that a stored classifier may name: they read no file, run no code, and do the same
# to every image where their parameters leave them no choice.
PLAIN = (
    *_OURS,
    "AutoContrast",
    "CLAHE",
    "CenterCrop",
    "Crop",
    "Downscale",
    "Equalize",
    "HorizontalFlip",
    "InvertImg",
    "LongestMaxSize",
    "PadIfNeeded",
    "Posterize",
    "RandomBrightnessContrast",
    "RandomGamma",
    "Resize",
    "SmallestMaxSize",
    "Solarize",
    "ToGray",
    "ToRGB",
    "ToSepia",
    "Transpose",
    "UnsharpMask",
    "VerticalFlip",
)
# Largest number in their parameters, in pixels or grey levels: more would take all memory.
_LARGEST = 4096
# What albumentations puts where a Lambda was given no function; each is one object for all.
NO_FUNCTIONS = A.Lambda().custom_apply_fns


def to_node(transform: Any) -> dict[str, dict[str, Any]]:
    """A transform as plain data: {class name: {parameter: value}}, children included."""
    name = type(transform).__name__
    # A class of the user's may bear the name of another one.
    if _find(name) is not type(transform):
        raise ValueError(
            f"only transforms of albumentations and of tltoolkit.augment can be written as YAML. "
            f"Received: {text(transform)}"
        )
    args = {key: _plain(name, key, value) for key, value in _parameters(transform).items()}
    if isinstance(transform, A.BaseCompose):
        args["transforms"] = [to_node(child) for child in transform.transforms]
    return {name: args}


def as_node(transform: Any) -> Any:
    """`to_node`, or the transform itself where it cannot be plain data."""
    try:
        return to_node(transform)
    except (ValueError, AttributeError, TypeError):
        return transform


def is_plain(node: Any) -> bool:
    """Whether a node is one of `PLAIN`, always runs, and has no absurd number in it."""
    if not isinstance(node, dict) or len(node) != 1:
        return False
    ((name, args),) = node.items()
    # With p below 1 it would be random, and not the same for every image.
    if name not in PLAIN or not isinstance(args, dict) or args.get("p", 1) != 1:
        return False
    return all(abs(number) <= _LARGEST for number in _numbers(args))


def _numbers(value: Any) -> list[float]:
    """Every number in plain data."""
    if isinstance(value, int | float):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for one in inner for number in _numbers(one)]


def from_node(node: Any) -> Any:
    """The transform that `to_node` described; anything else is refused."""
    if not isinstance(node, dict) or len(node) != 1:
        raise _checks.fail("transforms", "a mapping of one class name to its parameters", node)
    ((name, args),) = node.items()
    # From a list of known classes: the text names nothing that is imported.
    kind = _find(name)
    if kind is None:
        raise _checks.fail("transforms", "made of albumentations' transforms", name)
    if not isinstance(args, dict):
        raise _checks.fail(f"transforms.{name}", "a mapping of parameters", args)
    # albumentations would only warn of a parameter that it does not know.
    for key in args:
        _checks.one_of(f"a parameter of {name}", key, inspect.signature(kind).parameters)
    if issubclass(kind, A.BaseCompose):
        args = args | {"transforms": [from_node(child) for child in _children(name, args)]}
    try:
        return kind(**args)
    except (TypeError, ValueError) as error:
        raise ValueError(f"transforms.{name}: {error}") from error


def text(transform: Any, indent: str = "") -> str:
    """A transform as a person would write it, with the parameters that differ from defaults.

    Anything else that can be called is shown by its `repr`. It is the same in every process,
    because runs are compared by it.
    """
    if not isinstance(transform, KINDS):
        return anywhere(transform)
    known = inspect.signature(type(transform)).parameters
    shown = [
        f"{key}={anywhere(value)}"
        for key, value in {**_parameters(transform), **_functions(transform)}.items()
        if _differs(value, known[key].default)
    ]
    if isinstance(transform, A.BaseCompose):
        inner = indent + "    "
        lines = "".join(f"\n{inner}{text(child, inner)}," for child in transform.transforms)
        shown.insert(0, f"[{lines}\n{indent}]")
    return f"{type(transform).__name__}({', '.join(shown)})"


def anywhere(value: Any) -> str:
    """`repr` of a value without the places in memory that functions and objects have in it."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _differs(value: Any, default: Any) -> bool:
    # A list where it came from YAML; defaults are tuples.
    value = tuple(value) if isinstance(value, list) else value
    if isinstance(value, Mapping) and not value:
        return False
    try:
        return bool(value != default)
    except ValueError:  # arrays compare one by one
        return True


def _parameters(transform: Any) -> dict[str, Any]:
    """The arguments that build the transform again, but for its children and its seed."""
    stored = _stored(transform)
    return {
        name: stored[name] if name in stored else getattr(transform, name)
        for name in inspect.signature(type(transform)).parameters
        if name not in ("transforms", "seed") and (name in stored or hasattr(transform, name))
    }


def _stored(transform: Any) -> dict[str, Any]:
    """What albumentations notes of a transform: arguments of parent classes too, but not all of
    a composition's."""
    try:
        return dict(transform.to_dict_private())
    except (NotImplementedError, ValueError):
        # A Lambda without a name, data from elsewhere, or a composition that has one of them.
        return {}


def _functions(transform: Any) -> dict[str, Any]:
    """The functions that a Lambda was given; it notes but its name."""
    given = getattr(transform, "custom_apply_fns", {})
    return {name: f for name, f in given.items() if f is not NO_FUNCTIONS[name]}


def _plain(where: str, key: str, value: Any) -> Any:
    """A parameter as YAML can hold it."""
    if isinstance(value, Enum):
        return _plain(where, key, value.value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(where, key, entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(where, key, entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"the parameter {key}={value!r} of {where} cannot be written as YAML")


def _children(name: str, args: dict[str, Any]) -> list[Any]:
    children = args.get("transforms")
    if not isinstance(children, list):
        raise _checks.fail(f"transforms.{name}.transforms", "a list", children)
    return children


def _find(name: Any) -> Any:
    """The class that a name may stand for, or None."""
    if name in _OURS:
        return getattr(transforms, name)
    kind = getattr(A, name, None) if isinstance(name, str) else None
    # `A` has functions and modules under other names, too.
    known = inspect.isclass(kind) and issubclass(kind, KINDS)
    return kind if known and cast(Any, kind).is_serializable() else None
