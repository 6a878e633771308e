"""Functions of the user's that make models, looked at while they do."""

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tltoolkit import _checks


def fresh(build: Any) -> Callable[[], Any]:
    """`build`, with a look at what it makes: a model that has learned already spoils a score.

    Raises:
        ValueError: `build` is no function; and when called, one that gives weights again that
            have changed since it gave them.
    """
    # A model can be called too, but only makes scores.
    if not callable(build) or isinstance(build, keras.Model):
        rule = "a function that makes a new model, such as lambda: tl.build_classifier(...)"
        raise _checks.fail("build", rule, build)
    before: dict[int, tuple[Any, bytes]] = {}

    def made() -> Any:
        model = build()
        # The variables are held, as the place of one that is gone may be taken by another.
        now = {id(v): (v, _content(v)) for v in getattr(model, "variables", ())}
        if any(now[key][1] != before[key][1] for key in now.keys() & before.keys()):
            rule = "a function that makes a new model each time, not one that has learned already"
            raise _checks.fail("build", rule, build)
        # Only the last model is held: all of them would fill the memory.
        before.clear()
        before.update(now)
        return model

    return made


def _content(variable: Any) -> bytes:
    # Random states go on from one training to the next.
    if variable.name == "seed_generator_state":
        return b""
    # A hash: a copy of the weights would double the room of a model.
    return hashlib.sha256(np.ascontiguousarray(variable.numpy()).data).digest()
