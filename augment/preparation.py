"""Preparation: what every image gets, in training, validation, evaluation and prediction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from tltoolkit import _checks
from tltoolkit.augment import parts
from tltoolkit.augment.terms import NAMED, PREPARATION, SQUASH
from tltoolkit.files import reading

Normalise = str | Callable[..., Any] | Sequence[Any] | None


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How an image becomes what the model takes, the same for every image and every time.

    It belongs to a classifier and is stored with it; what is random belongs to training, in an
    `augment.Pipeline`. None leaves a part unsaid: the classifier or the pipeline may say it, and
    where neither does it is "squash" and no transform.

    Attributes:
        fit: how the image becomes square: "squash", "crop" or "pad", see `augment.resize`.
        normalise: what happens to its pixels before that: a list of transforms of albumentations
            or this package, which draw nothing at random; or one of them, "global_contrast" or
            "local_contrast". Each is kept as {class name: parameters} where it can be.

    Raises:
        TypeError: for transforms of another kind.
        ValueError: for another name or fit, and for a transform that is random.
    """

    fit: str | None = None
    normalise: Any = None

    def __post_init__(self) -> None:
        _checks.fields(PREPARATION, self)
        if self.normalise is not None:
            listed = isinstance(self.normalise, Sequence) and not isinstance(self.normalise, str)
            given = self.normalise if listed else [self.normalise]
            # Plain data where it can be, so that two of them compare by what they do.
            object.__setattr__(self, "normalise", tuple(n for one in given for n in _normal(one)))

    @property
    def transforms(self) -> list[Any]:
        """The transforms of `normalise`, built."""
        if not self.normalise:
            return []
        # Here: albumentations takes a second to load.
        from tltoolkit.augment import nodes

        return [nodes.from_node(one) if isinstance(one, dict) else one for one in self.normalise]

    def to_dict(self, name: str = "normalise") -> dict[str, Any] | None:
        """Plain data, for JSON; None where nothing is said.

        Args:
            name: the argument that the transforms came by, for the message.

        Raises:
            ValueError: for a transform that cannot be written.
        """
        # Nothing said writes nothing: files of earlier versions have no such entry.
        if self == Preparation():
            return None
        for one in self.normalise or ():
            _check_storable(name, one)
        return {"fit": self.fit, "normalise": self.normalise and list(self.normalise)}

    @classmethod
    def from_dict(cls, values: Any) -> "Preparation":
        """The preparation of `to_dict`'s data; only transforms that are known are built.

        Raises:
            ValueError: for anything else.
        """
        if values is None:
            return cls()
        values = reading.fields(cls, values, "preparation")
        normalise = values.get("normalise")
        if normalise is not None and not isinstance(normalise, (list, tuple)):
            raise _checks.fail("normalise", "a list of transforms", normalise)
        for one in normalise or ():
            # Before anything is built: a file may name other classes.
            _check_storable("normalise", one)
        return cls(**values)

    def __str__(self) -> str:
        names = [next(iter(n)) if isinstance(n, dict) else repr(n) for n in self.normalise or ()]
        return ", ".join([f"fit={self.fit or SQUASH!r}", *names])


def agreed(own: Preparation, said: Preparation, name: str, rule: str) -> Preparation:
    """What two say together of every image.

    Args:
        own: what the classifier says.
        said: what an argument says.
        name: the argument's name.
        rule: what it must be, with room for the name and the value of what differs.

    Raises:
        ValueError: if they say different things.
    """
    both = {}
    for part in ("fit", "normalise"):
        ours, theirs = getattr(own, part), getattr(said, part)
        # What only one of them says holds: None leaves it open.
        if ours is not None and theirs is not None and ours != theirs:
            raise _checks.fail(name, rule.format(part, ours), theirs)
        both[part] = theirs if ours is None else ours
    return Preparation(**both)


class _Prepares(Protocol):
    """What `settle` needs of an `augment.Pipeline`, which is made of this file."""

    image_size: int

    @property
    def preparation(self) -> Preparation: ...

    def prepared(self, preparation: Preparation) -> Self: ...


_P = TypeVar("_P", bound=_Prepares)


def settle(name: str, own: Preparation, pipeline: _P) -> tuple[Preparation, _P]:
    """Preparation and pipeline of a classifier whose images come through a pipeline.

    What one of the two says holds for both. A pipeline with transforms of its own that are the
    same for every image runs as it is written; of any other, all transforms come after the
    preparation, which then works on the whole picture.

    Args:
        name: the argument that gave the pipeline, for the message.
        own: what the classifier says.
        pipeline: the pipeline.

    Raises:
        ValueError: if the two say different things.
    """
    rule = "a pipeline with {}={!r}, as the classifier, or that leaves it out"
    settled = agreed(own, pipeline.preparation, name, rule)
    return settled, pipeline.prepared(settled)


def shown(name: str, image_size: int, own: Preparation, pipeline: _P) -> tuple[Preparation, _P]:
    """`settle`, for images of the classifier's size."""
    if pipeline.image_size != image_size:
        rule = f"a pipeline with the model's image_size {image_size}"
        raise _checks.fail(name, rule, pipeline.image_size)
    return settle(name, own, pipeline)


def _normal(transform: Any) -> list[Any]:
    """A transform as a list of plain data where that can be, else of itself."""
    from tltoolkit.augment import nodes

    if isinstance(transform, str):
        _checks.one_of("normalise", transform, NAMED)
        transform = {NAMED[transform]: {}}
    if isinstance(transform, dict):
        # Built once, so that what is left out is filled in and what is wrong is found.
        built = nodes.from_node(transform)
        if getattr(built, "p", 1) < 1:
            raise _checks.fail("normalise", "made of transforms with p=1", transform)
        return [nodes.to_node(built)]
    if not callable(transform):
        rule = "made of transforms of albumentations or tltoolkit.augment"
        raise TypeError(str(_checks.fail("normalise", rule, transform)))
    found = parts.parts(transform)
    for part in found:
        # Seen by trying, since a transform's own word is its `p` alone.
        if not part.fixed:
            rule = "made of transforms that draw nothing at random; give others to `augment`"
            raise _checks.fail("normalise", rule, part.transform)
    return [nodes.as_node(part.transform) for part in found]


def _check_storable(name: str, one: Any) -> None:
    from tltoolkit.augment import nodes

    if not nodes.is_plain(one):
        known = ", ".join(nodes.PLAIN)
        rule = (
            f"such that what it does to every image alike can be written into a file, by {known}; "
            "or give a new function a parameter `rng` and it is for training alone"
        )
        raise _checks.fail(name, rule, one)
