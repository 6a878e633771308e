"""Pipelines as YAML text: plain data only, image transforms only."""

from typing import Any

import yaml

from tltoolkit import _checks
from tltoolkit.augment import _albumentations
from tltoolkit.augment.pipeline import Pipeline

_FIELDS = {"image_size", "seed", "fit", "transforms"}
_DEEPEST = 40  # levels of YAML; a composition within a composition takes four


def dump(pipeline: Pipeline) -> str:
    """The pipeline as YAML text; see `Pipeline.to_yaml`."""
    transforms = pipeline.transforms
    content = {
        "image_size": pipeline.image_size,
        "seed": pipeline.seed,
        "fit": pipeline.fit,
        "transforms": None if transforms is None else _albumentations.to_node(transforms),
    }
    text: str = yaml.safe_dump(content, sort_keys=False)
    return text


def parse(text: str) -> Pipeline:
    """The pipeline of a YAML text; see `Pipeline.from_yaml`."""
    _checks.instance("text", text, str, "the YAML text of a pipeline")
    content = _load(text)
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise _checks.fail("text", f"YAML with the keys {', '.join(sorted(_FIELDS))}", content)
    node = content.pop("transforms")
    return Pipeline(None if node is None else _albumentations.from_node(node), **content)


def _load(text: str) -> Any:
    try:
        _refuse_bombs(text)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"`text` must be plain YAML: {error}") from error


def _refuse_bombs(text: str) -> None:
    """Refuse what grows when it is read: references, and nesting without end."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise ValueError(
                f"`text` must be YAML without references and at most {_DEEPEST} levels deep"
            )
