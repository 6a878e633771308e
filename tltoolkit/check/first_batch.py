"""data: what the model is given, and whether anything can be learned from it."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.check import findings
from tltoolkit.check.findings import Range
from tltoolkit.check.terms import DATA
from tltoolkit.data.images import check_image_data
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import Network, network_of
from tltoolkit.training import probe
from tltoolkit.training.trial import sample, trial

# Each with two thirds to learn from; it is a look, and not an estimate to report.
FOLDS = 3
# Layers that only shift and scale pixels, although they have weights.
SCALING = (keras.layers.Normalization, keras.layers.BatchNormalization)


@dataclass(frozen=True, kw_only=True, eq=False)
class DataCheck:
    """What `data` saw. Prints as a list, its problems last.

    Attributes:
        labels: What form the labels have, in words.
        head: What form the model's outputs have, in words.
        pixels: Range of the images as the model receives them.
        preprocessed: Range of what its first layer with weights receives; None where the
            model's graph is not known.
        loss: Of the model as it is, on a sample of the training images; None where labels and
            head do not fit.
        guess_loss: Loss of who takes all classes for equally likely: log(C), or log(2) for
            several labels per image.
        majority: Accuracy of who always says what is most frequent.
        probe: Accuracy of a linear classifier on the features below the head, cross-validated on
            the sample; None for a model whose graph is not known or that has nothing below.
        probe_error: Standard error of `probe`.
        problems: Sentences; empty where nothing looks wrong.
        batch: (B, H, W, 3) float32, the first images of training as `preprocessed` has them.
        names: Their labels.
    """

    labels: str
    head: str
    pixels: Range
    preprocessed: Range | None
    loss: float | None
    guess_loss: float
    majority: float
    probe: float | None
    probe_error: float
    problems: tuple[str, ...]
    batch: NDArray[np.float32]
    names: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"labels        {self.labels}",
            f"head          {self.head}",
            f"pixels        {self.pixels}",
            f"preprocessed  {'not known' if self.preprocessed is None else self.preprocessed}",
            f"loss          {findings.shown(self.loss)} now, {self.guess_loss:.3f} for guessing",
            f"accuracy      {self.majority:.3f} by the most frequent class, "
            f"{findings.shown(self.probe)} by a linear probe",
        ]
        told = [f"problem: {problem}" for problem in self.problems]
        return "\n".join([*lines, *(told or ["no problem found"])])

    def plot(self) -> Any:
        """The first batch as the model sees it, stretched to 0..1, as a matplotlib figure."""
        with _checks.extra("plots need matplotlib", "report"):
            from matplotlib.figure import Figure
        columns = min(4, len(self.batch))
        rows = -(-len(self.batch) // columns)
        figure = Figure(figsize=(2 * columns, 2.2 * rows), layout="constrained")
        low, high = float(self.batch.min()), float(self.batch.max())
        # A batch of one grey level is drawn all the same, black.
        stretched = (self.batch - low) / max(high - low, 1e-12)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, picture, name in zip(axes, stretched, self.names, strict=False):
            axis.imshow(picture)
            axis.set_title(name, fontsize=9)
        return figure


def data(
    data: Any,
    model: Any,
    *,
    pipeline: Any = None,
    samples: int = 300,
    batch_size: int = 16,
    seed: int = 0,
    from_logits: bool | str = "auto",
) -> DataCheck:
    """Look at the data through the model's eyes, before any training.

    Takes one pass of the frozen part over the sample. Nothing is trained and nothing changes.

    Args:
        data: An `ImageData`; its training split is looked at.
        model: As for `tl.fine_tune`, best before its head has learned anything.
        pipeline: An `augment.Pipeline` that training will use; None looks at plain images.
        samples: Images for ranges, loss and probe, >= 10; all where there are fewer.
        batch_size: Images to draw, >= 1.
        seed: Seed of the choice of images and of the probe.
        from_logits: As in `tl.fine_tune`.

    Raises:
        TypeError: Not an `ImageData`, not a Keras model.
        ValueError: An argument out of range, a model of other inputs or outputs than images and
            scores.
    """
    _checks.arguments(DATA, locals())
    _checks.instance("model", model, keras.Model, "a keras.Model")
    check_image_data(data)
    network = network_of(model, from_logits, data.multi_label)
    chosen = sample(data.train, samples, seed)
    # `batch_size` says how many images are drawn, and nothing of this pass.
    job = trial(network, chosen, batch_size=32, seed=seed, pipeline=pipeline)
    # Without shuffling, so that they stand beside `job.train.targets`.
    images = np.concatenate([images for images, _ in job.train.batches(job.augmented, 32)])
    shown = job.train.batches(job.augmented, batch_size, shuffle=True, seed=seed)
    first, targets = next(iter(shown))
    fits = findings.fits(network, data)
    pixels = Range.of(images)
    inputs = _preprocessed(network, images)
    # Of a coin for each label, or of one die for all classes.
    guess_loss = float(np.log(2 if data.multi_label else len(data.class_names)))
    # Of outputs that do not fit the labels there is no loss to take.
    said = _outputs(network, images) if not fits else None
    loss = None if said is None else _loss(network, said, job.train.targets, data.multi_label)
    found = _probe(network, images, job.train.targets, data.multi_label, seed, chosen.groups)
    majority = _majority(data.train, data.multi_label)
    error = 0.0 if found is None else float(np.sqrt(found * (1 - found) / len(images)))
    preprocessed = None if inputs is None else Range.of(inputs)
    return DataCheck(
        labels=findings.label_form(data),
        head=findings.head_form(network),
        pixels=pixels,
        preprocessed=preprocessed,
        loss=loss,
        guess_loss=guess_loss,
        majority=majority,
        probe=found,
        probe_error=error,
        problems=(
            *fits,
            *findings.of_ranges(pixels, preprocessed),
            *findings.of_loss(loss, guess_loss),
            *findings.of_probe(found, error, majority),
        ),
        batch=_drawable(network, first),
        names=tuple(findings.label_text(row, data.class_names) for row in targets),
    )


def _first_inputs(network: Network) -> Any | None:
    """The tensor that the first layer with weights reads."""
    if network.output is None:
        return None
    for node in graph.nodes(network.model):
        if getattr(node.layer, "weights", None) and not isinstance(node.layer, SCALING):
            return node.inputs[0]
    return None


def _preprocessed(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    tensor = _first_inputs(network)
    if tensor is None:
        return None
    # Nothing lies before it that could be run.
    if tensor is network.model.inputs[0]:
        return np.asarray(network.as_input(images)[0], np.float32)
    return _through(network, graph.part(network.model, network.model.input, tensor), images)


def _drawable(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images after preprocessing, if they are images still."""
    inputs = _preprocessed(network, images)
    if inputs is None or inputs.ndim != 4 or inputs.shape[-1] != 3:
        return images.astype(np.float32)
    return inputs


def _outputs(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    if network.output is None:
        return _through(network, network.model, images)
    # Up to what the loss is computed from, which may be the logits.
    return _through(network, graph.part(network.model, network.model.input, network.output), images)


def _through(network: Network, part: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    pixels = np.asarray(network.as_input(images)[0], np.float32)
    # In batches, as the activations of all at once may not fit the memory.
    parts = [pixels[i : i + 32] for i in range(0, len(images), 32)]
    return np.concatenate([np.asarray(part(some, training=False)) for some in parts])


def _loss(network: Network, said: Any, targets: Any, multi_label: bool) -> float:
    return probe.log_loss(network.probabilities(said, multi_label), targets, multi_label)


def _majority(split: Any, multi_label: bool) -> float:
    if not multi_label:
        return float(split.class_counts.max() / len(split))
    # Each label on its own has a more frequent answer, yes or no.
    share = split.class_counts / len(split)
    return float(np.maximum(share, 1 - share).mean())


def _probe(
    network: Network,
    images: NDArray[np.uint8],
    targets: Any,
    multi_label: bool,
    seed: int,
    groups: Any,
) -> float | None:
    """Accuracy of linear classifiers of the features below the head on images, and groups of
    them, that they did not see."""
    if network.output is None or freezing.unclear_head(network.model, network.blocks):
        return None
    plan = freezing.freeze_plan(network.model, network.blocks, freezing.HEAD)
    cut = freezing.boundary(network.model, plan)
    if cut is None:
        return None
    rows = _through(network, graph.part(network.model, network.model.input, cut), images)
    # Pooled, since a linear classifier on whole maps has more weights than images.
    rows = rows if rows.ndim == 2 else rows.mean(axis=tuple(range(1, rows.ndim - 1)))
    # Whole groups in a fold: a probe that knows the patient is right for the wrong reason.
    units = np.arange(len(rows)) if groups is None else np.unique(groups, return_inverse=True)[1]
    fold = np.random.default_rng(seed).permutation(units.max() + 1)[units] % FOLDS
    right = np.zeros(targets.shape if multi_label else len(rows))
    for number in range(FOLDS):
        fit, held = fold != number, fold == number
        if (targets[fit].sum(0) == 0).any() or (multi_label and targets[fit].all(0).any()):
            return None  # a class that a fold lacks
        # `solve` holds rows out too, by the same rule.
        own = None if groups is None else groups[fit]
        solved = probe.solve(rows[fit], targets[fit], None, multi_label, seed, groups=own)
        logits = rows[held] @ solved.kernel + solved.bias
        said = (logits > 0) == targets[held] if multi_label else _same(logits, targets[held])
        right[held] = said
    return float(right.mean())


def _same(logits: Any, targets: Any) -> Any:
    return logits.argmax(1) == targets.argmax(1)
