"""All that a classifier of ours is built from again, but for its weights."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tltoolkit import _checks, backbones, imbalance
from tltoolkit.augment import Preparation
from tltoolkit.files import reading
from tltoolkit.model import head as heads
from tltoolkit.model.head import Head
from tltoolkit.model.terms import LARGEST, SETTINGS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that is needed to build a classifier again, but for its weights."""

    backbone: str
    class_names: tuple[str, ...]
    image_size: int
    head: Head = field(default_factory=Head)
    spatial_dropout: Mapping[str, float] = field(default_factory=dict)
    trunk: str | None = None
    multi_label: bool = False
    seed: int = 0
    # What is left unsaid is said by the pipeline that it is trained with.
    preparation: Preparation = field(default_factory=Preparation)
    # The share of each class in training, and the one that the outputs assume; noted by training.
    train_prior: tuple[float, ...] | None = None
    output_prior: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _checks.fields(SETTINGS, self)
        found = backbones.get(self.backbone)
        if self.trunk is not None:
            _checks.one_of("trunk", self.trunk, found.blocks)
        _checks.instance("head", self.head, Head, "a tl.Head")
        kept = self.blocks
        # Blocks above the last tap are not built, so that such a trunk would be ignored.
        if self.trunk not in (None, kept[-1]):
            rule = f"left out or {kept[-1]!r}, the last of `taps`, above which nothing is computed"
            raise _checks.fail("trunk", rule, self.trunk)
        rule = "a mapping from block name to rate, such as {'block4': 0.2}"
        _checks.instance("spatial_dropout", self.spatial_dropout, Mapping, rule)
        # A copy, since the caller's mapping may change later.
        object.__setattr__(self, "spatial_dropout", dict(self.spatial_dropout))
        for block, rate in self.spatial_dropout.items():
            _checks.one_of("spatial_dropout", block, kept)
            _checks.number(f"spatial_dropout[{block!r}]", rate, 0, below=1)
        object.__setattr__(self, "class_names", checked_names(self.class_names, self.multi_label))
        _checks.integer("image_size", self.image_size, found.min_size, LARGEST)
        _checks.instance("preparation", self.preparation, Preparation, "an augment.Preparation")
        for name in ("train_prior", "output_prior"):
            if (prior := getattr(self, name)) is not None:
                imbalance.check_prior(name, prior, len(self.class_names), self.multi_label)
                object.__setattr__(self, name, tuple(map(float, prior)))

    @property
    def tapped(self) -> tuple[str, ...]:
        """The blocks that the head reads, from the input up."""
        found = backbones.get(self.backbone).blocks
        return heads.tapped(self.head, found if self.trunk is None else _up_to(found, self.trunk))

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks that there are: those up to the last that the head reads."""
        return _up_to(backbones.get(self.backbone).blocks, self.tapped[-1])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON.

        Raises:
            ValueError: The preparation has a transform that cannot be written.
        """
        # Without it: `asdict` would copy transforms, which have a form of their own below.
        plain = dataclasses.asdict(dataclasses.replace(self, preparation=Preparation()))
        if self.head.taps is None:
            # As before there were any: readers of that day know the rest, and a run that began
            # then is told by its record to be the same.
            plain["head"] = {n: v for n, v in plain["head"].items() if n not in heads.TAPPED}
        return {**plain, "preparation": self.preparation.to_dict()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Settings":
        """The settings of `to_dict`'s data; a name or value that does not fit is an error."""
        values = reading.fields(cls, settings, "settings")
        parts = {
            "head": Head(**reading.fields(Head, values.get("head", {}), "head")),
            "preparation": Preparation.from_dict(values.get("preparation")),
        }
        return cls(**{**values, **parts})


def checked_names(names: Any, multi_label: bool, argument: str = "class_names") -> tuple[str, ...]:
    """Names of classes as a tuple.

    Raises:
        ValueError: No sequence of enough different, non-empty strings.
    """
    least = 1 if multi_label else 2
    rule = f"a sequence of {least} or more different, non-empty strings"
    # A set has no order, and a text is a sequence of letters.
    if isinstance(names, (str, bytes, set, frozenset)) or not isinstance(names, Iterable):
        raise _checks.fail(argument, rule, names)
    names = tuple(names)
    good = all(isinstance(name, str) and name for name in names)
    if not good or len(names) < least or len(set(names)) < len(names):
        raise _checks.fail(argument, rule, names)
    # A NumPy string would show itself as np.str_('a').
    return tuple(str(name) for name in names)


def _up_to(names: tuple[str, ...], last: str) -> tuple[str, ...]:
    return names[: names.index(last) + 1]
