"""What an exported file says of its classifier, beside what it computes."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tltoolkit import _checks
from tltoolkit.augment import Preparation
from tltoolkit.evaluation import Decision
from tltoolkit.files import reading
from tltoolkit.imbalance import check_prior
from tltoolkit.runtimes import seal
from tltoolkit.solving.ranks import Ranks

# So that a later version can tell a file of another form.
FORMAT = 1
# The name of the entry in the metadata of each format.
KEY = "tltoolkit"
# What plain data can raise where a value is of another type than it should be.
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, OverflowError)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What goes with an exported classifier.

    Attributes:
        class_names: In the order of the probabilities, C of them.
        decision: How probabilities become answers.
        image_size: Side of the square images in pixels.
        preparation: What every image goes through before.
        train_prior: The share of each class in training, (C,), or None.
        output_prior: The share of each class that the probabilities assume, (C,), or None.
        quantize: How numbers were made smaller, or None.
        familiarity: What the distances say that are the second output, or None without one.
    """

    class_names: tuple[str, ...]
    decision: Decision
    image_size: int
    preparation: Preparation = field(default_factory=Preparation)
    train_prior: tuple[float, ...] | None = None
    output_prior: tuple[float, ...] | None = None
    quantize: str | None = None
    familiarity: Ranks | None = None

    def __post_init__(self) -> None:
        names = tuple(self.class_names)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise _checks.fail("class_names", "a row of non-empty strings", self.class_names)
        object.__setattr__(self, "class_names", names)
        _checks.integer("image_size", self.image_size, 1)
        self.decision.check(len(names), self.multi_label)
        for name in ("train_prior", "output_prior"):
            if (prior := getattr(self, name)) is not None:
                check_prior(name, prior, len(names), self.multi_label)
                object.__setattr__(self, name, tuple(map(float, prior)))

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.decision.multi_label

    def to_text(self) -> str:
        """JSON of ASCII letters, with room for the digest of the file that it comes into."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["decision"] = self.decision.to_dict()
        plain["preparation"] = self.preparation.to_dict()
        if self.familiarity is None:
            # As before there was any, so that earlier versions read such a file.
            del plain["familiarity"]
        else:
            plain["familiarity"] = self.familiarity.to_dict()
        return json.dumps({"format": FORMAT, "seal": seal.EMPTY, **plain})

    @classmethod
    def from_text(cls, text: str | bytes) -> "Card":
        """The card of `to_text`'s JSON.

        Raises:
            ValueError: Anything else; it says what.
        """
        values = reading.parse_json(text if isinstance(text, bytes) else text.encode(), KEY)
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"its `format` must be {FORMAT}: it is of another version")
        values.pop("seal", None)
        try:
            return cls._of(reading.fields(cls, values, "card"))
        except _MISFITS as error:
            raise ValueError(f"{KEY}: {error}") from error

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> "Card":
        parts: dict[str, Any] = {
            "decision": Decision.from_dict(values["decision"]),
            "preparation": Preparation.from_dict(values.get("preparation")),
        }
        if (ranks := values.get("familiarity")) is not None:
            parts["familiarity"] = Ranks.from_dict(ranks)
        return cls(**{**values, **parts})
