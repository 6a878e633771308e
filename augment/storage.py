"""Pipelines as YAML text: plain data only, image transforms only."""

from typing import Any

from tltoolkit import _checks
from tltoolkit.augment import nodes
from tltoolkit.augment.preparation import Preparation
from tltoolkit.files import reading

_FIELDS = {"image_size", "seed", "fit", "transforms"}
_FIRST = "first"  # only where it is given


def dump(transforms: Any, first: Preparation | None, **others: Any) -> str:
    """The arguments of a pipeline as YAML text; see `Pipeline.to_yaml`."""
    content = {**others, "transforms": None if transforms is None else nodes.to_node(transforms)}
    if first is not None:
        # Its `fit` is the pipeline's too, which takes only one of them.
        content |= {"fit": None, _FIRST: first.to_dict()}
    return reading.yaml_text(content)


def parse(text: str) -> dict[str, Any]:
    """The arguments of the pipeline of a YAML text; see `Pipeline.from_yaml`."""
    _checks.instance("text", text, str, "the YAML text of a pipeline")
    content = reading.plain_yaml(text)
    # All of them, since `to_yaml` writes all: a missing one is a misspelt one.
    if not isinstance(content, dict) or set(content) - {_FIRST} != _FIELDS:
        raise _checks.fail("text", f"YAML with the keys {', '.join(sorted(_FIELDS))}", content)
    node = content["transforms"]
    if _FIRST in content:
        content[_FIRST] = Preparation.from_dict(content[_FIRST])
    # Built from an allowed class and its parameters alone: the text may be anybody's.
    return content | {"transforms": None if node is None else nodes.from_node(node)}
