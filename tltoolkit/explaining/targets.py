"""Which class of each image is explained: the predicted one, or one that was named."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts.predictor import Predictor

Target = str | int | Sequence[str | int] | None


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The classes to explain.

    Attributes:
        predictor: Whose classes they are.
        given: Their numbers, or the one of all; None for the predicted ones.
        each: Whether each image has its own.
    """

    predictor: Predictor
    given: tuple[int, ...] | None
    each: bool = False

    @classmethod
    def of(cls, predictor: Predictor, target: Target, count: int | None) -> "Targets":
        """Those that a `target` of `explain` means for `count` images, if that is known.

        Raises:
            ValueError: No class, or another number of them than images.
        """
        if target is None:
            return cls(predictor=predictor, given=None)
        if isinstance(target, (str, int, np.integer)):
            return cls(predictor=predictor, given=(_number(predictor, target),))
        names = list(target)
        if len(names) != count:
            raise _checks.fail("target", f"one class, or one for each of {count} images", names)
        given = tuple(_number(predictor, name) for name in names)
        return cls(predictor=predictor, given=given, each=True)

    def choose(self, probabilities: np.ndarray, images: Sequence[int]) -> np.ndarray:
        """Numbers of the classes of some images, given by their own numbers."""
        if self.given is not None:
            return np.array([self.given[i if self.each else 0] for i in images])
        decision = self.predictor.decision
        # Of several labels the surest, as there is one map.
        if decision.multi_label:
            return np.asarray(probabilities.argmax(axis=1))
        # What the classifier answers, which thresholds may have made another class.
        return np.asarray(decision.decide(probabilities).labels)


def _number(predictor: Predictor, name: str | int) -> int:
    names = predictor.class_names
    if isinstance(name, (int, np.integer)) and not isinstance(name, bool):
        _checks.integer("target", name, 0, len(names) - 1)
        return int(name)
    _checks.one_of("target", name, names)
    return names.index(str(name))
