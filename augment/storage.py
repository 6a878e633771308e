"""Pipelines as YAML text: plain data only, image transforms only."""

from tltoolkit import _checks
from tltoolkit.augment import _albumentations
from tltoolkit.augment.pipeline import Pipeline
from tltoolkit.augment.preparation import Preparation
from tltoolkit.files import reading

_FIELDS = {"image_size", "seed", "fit", "transforms"}
_FIRST = "first"  # only where it is given


def dump(pipeline: Pipeline) -> str:
    """The pipeline as YAML text; see `Pipeline.to_yaml`."""
    transforms = pipeline.transforms
    content = {
        "image_size": pipeline.image_size,
        "seed": pipeline.seed,
        "fit": pipeline.fit if pipeline.first is None else None,
        "transforms": None if transforms is None else _albumentations.to_node(transforms),
    }
    if pipeline.first is not None:
        content[_FIRST] = pipeline.first.to_dict()
    return reading.yaml_text(content)


def parse(text: str) -> Pipeline:
    """The pipeline of a YAML text; see `Pipeline.from_yaml`."""
    _checks.instance("text", text, str, "the YAML text of a pipeline")
    content = reading.plain_yaml(text)
    if not isinstance(content, dict) or set(content) - {_FIRST} != _FIELDS:
        raise _checks.fail("text", f"YAML with the keys {', '.join(sorted(_FIELDS))}", content)
    node = content.pop("transforms")
    if _FIRST in content:
        content[_FIRST] = Preparation.from_dict(content[_FIRST])
    return Pipeline(None if node is None else _albumentations.from_node(node), **content)
