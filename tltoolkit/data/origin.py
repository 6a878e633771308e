"""How an ImageData was made, as plain data, so that a run can note it."""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec

from tltoolkit.data.images import ImageData

Arguments = ParamSpec("Arguments")


def remembered(make: Callable[Arguments, ImageData]) -> Callable[Arguments, ImageData]:
    """A function that makes an ImageData, made to note its name and arguments in it.

    The first argument, which is the images themselves or where they lie, is not noted; of others
    that are no plain data, such as a function, only the name.
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> ImageData:
        data = make(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        # Defaults may change in a later version; this run had these.
        bound.apply_defaults()
        given = dict(list(bound.arguments.items())[1:])
        plain = {name: _plain(value) for name, value in given.items() if _is_plain(value)}
        others = sorted(given.keys() - plain.keys())
        origin = {"kind": make.__name__, "settings": plain, "not_kept": others}
        return replace(data, origin=origin)

    return call


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, (str, int)) for item in value)
    return value is None or isinstance(value, (str, bool, int, float, os.PathLike))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        # A run may be read from another working folder.
        return os.path.abspath(value)
    # As JSON will give it back.
    return list(value) if isinstance(value, tuple) else value
