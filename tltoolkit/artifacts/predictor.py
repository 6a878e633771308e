"""Asking a trained classifier about image files and arrays."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.artifacts.engine import Engine
from tltoolkit.artifacts.inference import versions_of
from tltoolkit.artifacts.priors import Prior, shifted
from tltoolkit.artifacts.seeing import BadImage, Image, check_several, decoded, good, seen
from tltoolkit.artifacts.terms import MIN_FAMILIARITY, STREAM
from tltoolkit.evaluation import Decision
from tltoolkit.runtimes.exported import Exported

Decide = Callable[[np.ndarray], Any]
# What an answer takes at least: confidence, and familiarity or None.
Least = tuple[float, float | None]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        label: The most probable class, or the one that the stored thresholds choose; for a
            multi-label classifier a tuple of all classes of at least 0.5 or their threshold.
        probability: That of the label; for multi-label how sure all its yes and no are.
        probabilities: Probability by class name, after the stored temperature.
        abstained: Whether `probability` is too low to answer: below the stored abstention
            threshold or the `min_confidence` asked for; or `familiarity`, below the
            `min_familiarity` asked for.
        familiarity: The share of known images that are at least as far from those of training,
            in 0..1, as held-out images tell it: a share p of images like those is at most p, and
            those of strangers are near 0. None where the classifier does not know it.
    """

    label: str | tuple[str, ...]
    probability: float
    probabilities: dict[str, float]
    abstained: bool = False
    familiarity: float | None = None


Answer = Prediction | BadImage


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A loaded classifier.

    Attributes:
        model: The `keras.Model`: pixels 0..255 in, probabilities out; or the `Exported` file.
        class_names: Names of the classes in the order of the probabilities.
        decision: How probabilities become answers.
        from_logits: Whether the outputs of somebody else's model are logits; `"auto"` looks, as
            in `tl.evaluate`.
    """

    model: Any
    class_names: tuple[str, ...]
    decision: Decision = field(default_factory=Decision)
    from_logits: bool | str = "auto"

    @cached_property
    def engine(self) -> Engine:
        """What computes the probabilities.

        Raises:
            ValueError: A model of another number of outputs than the class names, or of a form
                that is not understood.
        """
        if isinstance(self.model, Exported):
            return self.model
        # Here: an exported file needs no Keras.
        from tltoolkit.artifacts.keras_engine import KerasEngine

        several = self.decision.multi_label
        made = KerasEngine.of(self.model, self.from_logits, several)
        made.network.check_classes("class_names", tuple(self.class_names), several)
        return made

    def predict(
        self,
        images: Sequence[Image],
        *,
        min_confidence: float = 0.0,
        min_familiarity: float | None = None,
        batch_size: int = 32,
        pipeline: Any = None,
        views: int = 1,
        prior: Prior | None = None,
    ) -> list[Prediction]:
        """Classify images.

        Args:
            images: Paths of image files, the bytes of such files, Pillow images, or arrays uint8
                of 0..255, of any size: (H, W, 3) RGB, (H, W) or (H, W, 1) grey.
            min_confidence: Predictions below it, in [0, 1], come back with `abstained=True`.
            min_familiarity: Predictions for images that are less familiar, in [0, 1], come back
                with `abstained=True`: 0.01 refuses 1 % of images like those of training, and most
                of those that are like none of them. None refuses none.
            batch_size: Images per forward pass.
            pipeline: As in `tl.evaluate`: what it does to every image alike is done, and for
                what is random see `views`.
            views: Versions of each image, the plain one and those of `pipeline`, whose
                probabilities are averaged, as in `tl.evaluate`.
            prior: The share of each class among these images, where it is known to differ from
                training: a share for each class, by name or in their order, which sum to 1
                (but not for multi-label), `"train"` or `"uniform"`. None takes the probabilities
                as they are: of a model that was adjusted, weighted or resampled for imbalance
                they assume classes of one size. Thresholds stay those that were chosen.

        Raises:
            ValueError: A file that cannot be read, named; an array of another type or shape;
                `min_familiarity` of a classifier that does not know it.
        """
        check_several(images, " (`stream` takes what has no random access)")
        said = self.stream(
            images,
            min_confidence=min_confidence,
            min_familiarity=min_familiarity,
            batch_size=batch_size,
            pipeline=pipeline,
            views=views,
            prior=prior,
        )
        return [good(answer) for answer in said]

    def stream(
        self,
        images: Iterable[Image],
        *,
        min_confidence: float = 0.0,
        min_familiarity: float | None = None,
        batch_size: int = 32,
        pipeline: Any = None,
        views: int = 1,
        prior: Prior | None = None,
    ) -> Iterator[Answer]:
        """Classify images one after the other, in their order, going on after a bad one.

        Images are decoded on all cores a few batches ahead of the model and never kept, so the
        memory does not grow with their number; `images` may be endless.

        Args:
            images: As in `predict`, from any iterable.
            min_confidence: As in `predict`.
            min_familiarity: As in `predict`.
            batch_size: As in `predict`.
            pipeline: As in `predict`.
            views: As in `predict`.
            prior: As in `predict`.

        Returns:
            One `Prediction` for each image, or a `BadImage` for one that cannot be read.

        Raises:
            ValueError: An argument out of range.
        """
        _checks.arguments(STREAM, locals())
        engine = self.engine
        self.check_familiarity(min_familiarity)
        least = (min_confidence, min_familiarity)
        makers = versions_of(engine, pipeline, views)
        decide = self.decision.decide
        if prior is not None:
            decide = shifted(self.decision, engine.settings, prior).decide
        # Versions are made in the threads too, beside decoding.
        batches = decoded(images, lambda image, i: seen(image, i, makers), batch_size)
        # Not by `yield` here: wrong arguments shall be found at the call, not at the first answer.
        return (
            answer for batch in batches for answer in self._answers(engine, decide, batch, least)
        )

    def check_familiarity(self, min_familiarity: float | None) -> None:
        """Raise ValueError where a familiarity is asked for that is not known, or out of range."""
        MIN_FAMILIARITY.check("min_familiarity", min_familiarity)
        if min_familiarity is not None and not self.engine.familiar:
            rule = (
                "None for a classifier that does not know how familiar images are: tl.fine_tune "
                "finds it out on validation images, see its `familiarity`"
            )
            raise _checks.fail("min_familiarity", rule, min_familiarity)

    def answers(
        self, prepared: Sequence[np.ndarray], min_familiarity: float | None = None
    ) -> list[Prediction]:
        """Answers to images that `seen` has prepared, in one forward pass.

        Args:
            prepared: The versions (V, S, S, 3) of each.
            min_familiarity: As in `predict`, and checked.
        """
        images, least = np.stack(prepared), (0.0, min_familiarity)
        return list(self._said(self.engine, self.decision.decide, images, least))

    def _answers(
        self,
        engine: Engine,
        decide: Decide,
        batch: "list[np.ndarray | BadImage]",
        least: Least,
    ) -> Iterator[Answer]:
        good = [item for item in batch if not isinstance(item, BadImage)]
        said = iter(self._said(engine, decide, np.stack(good), least) if good else ())
        return (item if isinstance(item, BadImage) else next(said) for item in batch)

    def _said(
        self, engine: Engine, decide: Decide, images: np.ndarray, least: Least
    ) -> Iterator[Prediction]:
        """Predictions for images (B, V, S, S, 3) of which each has V versions."""
        # By version, so that each forward pass is a batch of the size asked for. The mean is of
        # probabilities, as `tl.evaluate` averages them; known is how familiar plain ones are.
        plain, *others = images.swapaxes(0, 1)
        first, familiarity = engine.told(plain)
        answers = decide(np.mean([first, *map(engine.said, others)], axis=0))
        known = [None] * len(plain) if familiarity is None else familiarity.tolist()
        low, strange = least[0], least[1] or 0.0
        for label, row, confidence, abstained, near in zip(*answers, known, strict=True):
            yield Prediction(
                label=self._label(label),
                probability=float(confidence),
                probabilities=dict(zip(self.class_names, map(float, row), strict=True)),
                abstained=bool(abstained or confidence < low or (near or 0.0) < strange),
                familiarity=near,
            )

    def _label(self, label: Any) -> str | tuple[str, ...]:
        if self.decision.multi_label:
            return tuple(n for n, given in zip(self.class_names, label, strict=True) if given)
        return self.class_names[label]
