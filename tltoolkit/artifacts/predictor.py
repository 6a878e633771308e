"""Asking a trained classifier about image files and arrays."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tltoolkit import _checks
from tltoolkit.artifacts.engine import Engine
from tltoolkit.artifacts.inference import versions_of
from tltoolkit.artifacts.priors import Prior, shifted
from tltoolkit.artifacts.terms import STREAM
from tltoolkit.augment import threads
from tltoolkit.data import ImageError, decode
from tltoolkit.data.decoding import MAX_PIXELS, from_pillow
from tltoolkit.evaluation import Decision
from tltoolkit.runtimes.exported import Exported

Image = str | Path | bytes | PIL.Image.Image | np.ndarray
# Batches being decoded beyond the one in the model: enough for a slow file, little to hold.
AHEAD = 2

Decide = Callable[[np.ndarray], Any]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        label: The most probable class, or the one that the stored thresholds choose; for a
            multi-label classifier a tuple of all classes of at least 0.5 or their threshold.
        probability: That of the label; for multi-label how sure all its yes and no are.
        probabilities: Probability by class name, after the stored temperature.
        abstained: Whether `probability` is too low to answer: below the stored abstention
            threshold or the `min_confidence` asked for.
    """

    label: str | tuple[str, ...]
    probability: float
    probabilities: dict[str, float]
    abstained: bool = False


@dataclass(frozen=True, kw_only=True)
class BadImage:
    """In the place of a prediction: an image that could not be read.

    Attributes:
        name: Its path, or its place in the images, such as `images[3]`.
        reason: Why it could not be read.
    """

    name: str
    reason: str


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
            ValueError: A file that cannot be read, named; an array of another type or shape.
        """
        if _is_one(images) or not hasattr(images, "__getitem__"):
            rule = "a sequence of paths, arrays or other images; of one image, [image]"
            how = f"{rule} (`stream` takes what has no random access)"
            raise _checks.fail("images", how, images)
        said = self.stream(
            images,
            min_confidence=min_confidence,
            batch_size=batch_size,
            pipeline=pipeline,
            views=views,
            prior=prior,
        )
        return [_good(answer) for answer in said]

    def stream(
        self,
        images: Iterable[Image],
        *,
        min_confidence: float = 0.0,
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
        makers = versions_of(engine, pipeline, views)
        decide = self.decision.decide
        if prior is not None:
            decide = shifted(self.decision, engine.settings, prior).decide
        # Versions are made in the threads too, beside decoding.
        batches = _decoded(images, lambda image, i: seen(image, i, makers), batch_size)
        # Not by `yield` here: wrong arguments shall be found at the call, not at the first answer.
        return (
            answer
            for batch in batches
            for answer in self._answers(engine, decide, batch, min_confidence)
        )

    def answers(self, prepared: Sequence[np.ndarray]) -> list[Prediction]:
        """Answers to images that `seen` has prepared, in one forward pass.

        Args:
            prepared: The versions (V, S, S, 3) of each.
        """
        return list(self._said(self.engine, self.decision.decide, np.stack(prepared), 0.0))

    def _answers(
        self,
        engine: Engine,
        decide: Decide,
        batch: "list[np.ndarray | BadImage]",
        min_confidence: float,
    ) -> Iterator[Answer]:
        good = [item for item in batch if not isinstance(item, BadImage)]
        said = iter(self._said(engine, decide, np.stack(good), min_confidence) if good else ())
        return (item if isinstance(item, BadImage) else next(said) for item in batch)

    def _said(
        self, engine: Engine, decide: Decide, images: np.ndarray, min_confidence: float
    ) -> Iterator[Prediction]:
        """Predictions for images (B, V, S, S, 3) of which each has V versions."""
        # By version, so that each forward pass is a batch of the size asked for. The mean is of
        # probabilities, as `tl.evaluate` averages them.
        probabilities = np.mean([engine.said(view) for view in images.swapaxes(0, 1)], axis=0)
        answers = decide(probabilities)
        for label, row, confidence, abstained in zip(*answers, strict=True):
            yield Prediction(
                label=self._label(label),
                probability=float(confidence),
                probabilities=dict(zip(self.class_names, map(float, row), strict=True)),
                abstained=bool(abstained or confidence < min_confidence),
            )

    def _label(self, label: Any) -> str | tuple[str, ...]:
        if self.decision.multi_label:
            return tuple(n for n, given in zip(self.class_names, label, strict=True) if given)
        return self.class_names[label]


def _good(answer: Answer) -> Prediction:
    if isinstance(answer, BadImage):
        raise ImageError(answer.name, answer.reason)
    return answer


def _decoded(
    images: Iterable[Image],
    see: Callable[[Image, int], np.ndarray | BadImage],
    batch_size: int,
) -> Iterator[list[np.ndarray | BadImage]]:
    """Batches of what `see` makes of each image and its number, made ahead on all cores."""
    numbered = enumerate(images)
    waiting: deque[list[Future[np.ndarray | BadImage]]] = deque()
    with threads.pool(threads.cores()) as pool:
        while True:
            # Only a batch at a time is asked for: `images` may be endless.
            begun = [pool.submit(see, image, i) for i, image in islice(numbered, batch_size)]
            if begun:
                waiting.append(begun)
            if not waiting:
                return
            if not begun or len(waiting) > AHEAD:
                yield [work.result() for work in waiting.popleft()]


def _is_one(images: Any) -> bool:
    """Whether this is one image where several are wanted: its rows would be taken for images."""
    if isinstance(images, np.ndarray):
        # A stack of grey images hardly is as narrow as colours are many.
        return images.ndim < 3 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return isinstance(images, (str, Path, bytes, PIL.Image.Image))


def _pixels(image: Image, name: str, side: int) -> np.ndarray:
    """An image of any kind as an array (H, W, 3)."""
    # Files as those of a split are decoded for training and evaluation.
    if isinstance(image, bytes):
        return decode(image, name=name, side=side)
    if isinstance(image, (str, Path)):
        return decode(image, side=side)
    if isinstance(image, PIL.Image.Image):
        return from_pillow(image, name, MAX_PIXELS)
    if getattr(image, "ndim", 0) == 2 or getattr(image, "shape", ())[2:] == (1,):
        # Three equal channels: models and pipelines here take RGB.
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image


def seen(image: Image, i: int, makers: Sequence[Any]) -> np.ndarray | BadImage:
    """The versions (V, S, S, 3) of an image, one by each of `makers`, or why there are none."""
    try:
        pixels = _pixels(image, f"images[{i}]", makers[0].image_size)
        return np.stack([make(pixels, view, i) for view, make in enumerate(makers)])
    except ImageError as error:
        return BadImage(name=error.path, reason=error.reason)
    except ValueError as error:  # an array of another form, or a path with a NUL
        name = repr(image) if isinstance(image, (str, Path)) else f"images[{i}]"
        return BadImage(name=name, reason=str(error))
