"""preview: a look at what a pipeline makes of the images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.augment import keys
from tltoolkit.augment.labels import Source, reader
from tltoolkit.augment.pipeline import Pipeline
from tltoolkit.augment.preparation import Preparation, settle
from tltoolkit.augment.terms import PREVIEW

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def preview(
    source: Source,
    pipeline: Pipeline,
    *,
    n: int = 4,
    versions: int = 5,
    indices: Sequence[int] | None = None,
    seed: int = 0,
    preparation: Preparation | None = None,
) -> "Figure":
    """Draw a grid: one image per row, the original on the left, augmented versions beside it.

    "plain" is what validation, evaluation and prediction see of it, nothing random; the versions
    are those of epochs 0, 1, 2, ..., as training sees them.

    Args:
        source: `len(source)` images, `source.image(i)` gives the i-th.
        pipeline: what to look at.
        n: images, >= 1; fewer if the source has fewer.
        versions: augmented versions of each, >= 1.
        indices: which images; None draws n at random.
        seed: of that draw, >= 0.
        preparation: of the classifier that the pipeline is for, as `tl.preparation_of(model)`
            tells it; None takes what the pipeline says.

    Returns:
        A matplotlib Figure; `figure.savefig("preview.png")` writes it.

    Raises:
        ValueError: for other values, or an index outside the source.
        ImportError: without matplotlib.
    """
    with _checks.extra("previews need matplotlib", "report"):
        from matplotlib.figure import Figure

    _checks.arguments(PREVIEW, locals())
    chosen = _choose(len(source), n, indices, seed)
    _, pipeline = settle("pipeline", preparation or Preparation(), pipeline)
    width, height = 1.6 * (versions + 2), 1.6 * len(chosen) + 0.3
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    axes = figure.subplots(len(chosen), versions + 2, squeeze=False)
    for i, row in zip(chosen, axes, strict=True):
        _draw_row(row, source, pipeline, i)
    titles = ["original", "plain", *(f"epoch {epoch}" for epoch in range(versions))]
    for title, axis in zip(titles, axes[0], strict=True):
        axis.set_title(title, fontsize=9)
    return figure


def _draw_row(row: Sequence["Axes"], source: Source, pipeline: Pipeline, i: int) -> None:
    original = reader(source, pipeline.image_size)(i)
    versions = (pipeline(original, epoch, i) for epoch in range(len(row) - 2))
    pictures = [original, pipeline.plain(original), *versions]
    for axis, picture in zip(row, pictures, strict=True):
        axis.imshow(picture)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    row[0].set_ylabel(_name(source, i), fontsize=8)


def _choose(length: int, n: int, indices: Sequence[int] | None, seed: int) -> list[int]:
    if indices is None:
        draw = keys.keyed(seed, keys.SHUFFLE).permutation(length)[:n]
        # In the order of the source, so that a folder's classes stand together.
        return sorted(int(i) for i in draw)
    if not len(indices):
        raise _checks.fail("indices", "at least one index", indices)
    for i in indices:
        _checks.integer("indices", i, 0, length - 1)
    return [int(i) for i in indices]


def _name(source: Any, i: int) -> str:
    """The image's class if the source knows it, else its number."""
    label = np.asarray(source.labels)[i] if hasattr(source, "labels") else i
    if np.ndim(label):
        chosen = np.flatnonzero(label)
        return ", ".join(_class(source, int(c)) for c in chosen)
    return _class(source, int(label))


def _class(source: Any, label: int) -> str:
    names = getattr(source, "class_names", None)
    return str(label) if names is None else str(names[label])
