"""An explainer: one classifier and one method, ready for batches of images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts import seeing
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.seeing import BadImage
from tltoolkit.explaining.explanation import Explanation
from tltoolkit.explaining.found import Finder
from tltoolkit.explaining.looking import seer
from tltoolkit.explaining.occlusion import Occlusion
from tltoolkit.explaining.targets import Target, Targets
from tltoolkit.explaining.terms import OCCLUSION
from tltoolkit.runtimes.exported import Exported


@dataclass(frozen=True, kw_only=True, eq=False)
class Explainer:
    """What explains the answers of a classifier.

    Attributes:
        predictor: The classifier.
        find: The method.
        batch_size: Images per forward pass.
    """

    predictor: Predictor
    find: Finder
    batch_size: int

    @classmethod
    def of(cls, predictor: Predictor, method: str, by_block: bool, batch_size: int) -> "Explainer":
        """One for a classifier; arguments and errors are those of `explain`."""
        find = _finder(predictor, method, by_block, batch_size)
        return cls(predictor=predictor, find=find, batch_size=batch_size)

    def stream(
        self,
        images: Iterable[Any],
        target: Target = None,
        count: int | None = None,
        read: Callable[[Any], seeing.Image] = lambda image: image,
    ) -> Iterator[tuple[list[np.ndarray | BadImage], Explanation | None]]:
        """For each batch of images what was read, and the explanation of all that could be.

        Args:
            images: What `read` makes images of, in as many threads as there are cores.
            target: As in `explain`.
            count: How many images there are, if that is known.
            read: Of one item.
        """
        targets = Targets.of(self.predictor, target, count)
        see = seer(self.predictor.engine, read)
        # Not by `yield` here: wrong arguments shall be found at the call.
        return self._explained(seeing.decoded(images, see, self.batch_size), targets)

    def _explained(
        self, batches: Iterable[list[np.ndarray | BadImage]], targets: Targets
    ) -> Iterator[tuple[list[np.ndarray | BadImage], Explanation | None]]:
        start = 0
        for batch in batches:
            good = [i for i, item in enumerate(batch) if not isinstance(item, BadImage)]
            # The plain version, which is the only one.
            pixels = [batch[i][0] for i in good]  # type: ignore[index]
            numbers = [start + i for i in good]
            yield batch, self._explanation(np.stack(pixels), targets, numbers) if good else None
            start += len(batch)

    def _explanation(
        self, images: np.ndarray, targets: Targets, numbers: Sequence[int]
    ) -> Explanation:
        found = self.find(images, lambda probabilities: targets.choose(probabilities, numbers))
        return Explanation(
            targets=tuple(self.predictor.class_names[i] for i in found.targets),
            probabilities=np.asarray(found.probabilities, np.float32),
            evidence=found.evidence,
            images=images,
            by_block=found.by_block,
            bias=found.bias,
        )


def _finder(predictor: Predictor, method: str, by_block: bool, batch_size: int) -> Finder:
    if method == OCCLUSION:
        if by_block:
            rule = f"False with method={OCCLUSION!r}, which looks into no block"
            raise _checks.fail("by_block", rule, by_block)
        return Occlusion(predictor.engine, batch_size)
    if isinstance(predictor.model, Exported):
        name = predictor.model.path.name
        rule = f"{OCCLUSION!r} for the exported file {name}, which gives probabilities alone"
        raise _checks.fail("method", rule, method)
    # Here: an exported file needs neither Keras nor TensorFlow.
    from tltoolkit.explaining import inside

    engine: Any = predictor.engine  # of Keras, as nothing else is left
    return inside.finder(engine.network, method, by_block, predictor.decision.multi_label)
