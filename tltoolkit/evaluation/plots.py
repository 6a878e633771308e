"""Figures for papers and notebooks: each function draws on a matplotlib axes and returns it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tltoolkit._checks import integer
from tltoolkit.evaluation.inputs import FloatArray
from tltoolkit.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUIET = "0.55"  # grey of what stands behind: chance, and curves too many to name
_NAMED = 10  # classes that a legend can name
_SHOWN_COUNTS = 20  # classes up to which a confusion matrix has room for its numbers
_GRID = np.linspace(0, 1, 501)  # where curves of several classes are averaged


def plot_pr(report: Report, ax: "Axes", classes: Sequence[int | str] | None = None) -> "Axes":
    """Precision against recall of `classes` (all that have rows if None), and their mean."""

    def curve(c: int) -> tuple[FloatArray, FloatArray]:
        found = report.pr_curve(c)
        # Turned round: the mean is interpolated, which needs rising x.
        return found.recall[::-1], found.precision[::-1]

    chosen = _defined(report, classes, report.average_precision)
    _draw_curves(report, ax, chosen, curve, report.average_precision)
    return _square(ax, "Recall", "Precision")


def plot_roc(report: Report, ax: "Axes", classes: Sequence[int | str] | None = None) -> "Axes":
    """ROC curves of `classes` (all that have one if None), and their mean."""

    def curve(c: int) -> tuple[FloatArray, FloatArray]:
        found = report.roc_curve(c)
        return found.false_positive_rate, found.true_positive_rate

    ax.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle=":")
    chosen = _defined(report, classes, report.roc_auc)
    _draw_curves(report, ax, chosen, curve, report.roc_auc)
    return _square(ax, "False positive rate", "True positive rate")


def plot_confusion(report: Report, ax: "Axes", normalize: bool = False) -> "Axes":
    """The confusion matrix, shaded by the share of the true class; counts, or shares if asked.

    Raises:
        ValueError: for multi-label, which has a matrix for each class.
    """
    if report.multi_label:
        raise ValueError("a confusion matrix needs one label per image, not multi-label")
    shares = report.normalized_confusion
    ax.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1)
    names, places = report.class_names, range(len(report.class_names))
    if len(names) <= _SHOWN_COUNTS:
        for (t, p), share in np.ndenumerate(shares):
            text = f"{share:.2f}" if normalize else str(report.confusion[t, p])
            # The shade is dark from about a half on.
            colour = "white" if share > 0.5 else "black"
            ax.text(p, t, text, ha="center", va="center", color=colour, fontsize="small")
        ax.set_xticks(places, names, rotation=45, ha="right", parse_math=False)
        ax.set_yticks(places, names, parse_math=False)
    ax.set(xlabel="Label given", ylabel="True class")
    return ax


def plot_reliability(report: Report, ax: "Axes") -> "Axes":
    """Stated probability against the share that is true, in 15 bins."""
    bins = report.reliability
    filled = bins.count > 0
    ax.plot([0, 1], [0, 1], color=_QUIET, linewidth=0.8, linestyle=":")
    ax.plot(bins.confidence[filled], bins.accuracy[filled], marker="o", markersize=4)
    ax.set_title(f"expected calibration error {bins.ece:.3f}", fontsize="medium")
    return _square(ax, "Stated probability", "Share that is true")


def plot_coverage(report: Report, ax: "Axes") -> "Axes":
    """Accuracy among the surest rows against the share that is answered."""
    curve = report.coverage_curve()
    ax.plot(curve.coverage, curve.accuracy)
    ax.set(xlabel="Share answered", ylabel="Share right", xlim=(0, 1.02))
    ax.set_title(f"area {curve.area:.3f}", fontsize="medium")
    return ax


def plot_history(history: Mapping[str, Sequence[float]], ax: "Axes", metric: str) -> "Axes":
    """A metric of a run over its epochs, training and validation.

    Args:
        history: name -> one value per epoch, validation under "val_" + name.
        ax: where to draw.
        metric: the name without "val_".
    """
    from matplotlib.ticker import MaxNLocator

    drawn = [name for name in (metric, f"val_{metric}") if name in history]
    if not drawn:
        known = ", ".join(sorted(history))
        raise ValueError(f"`metric` must be one of {known}. Received: metric={metric!r}")
    for name in drawn:
        label = "validation" if name.startswith("val_") else "training"
        ax.plot(range(1, len(history[name]) + 1), history[name], label=label)
    ax.set(xlabel="Epoch", ylabel=metric)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    return ax


def plot_class_counts(class_names: Sequence[str], counts: Sequence[int], ax: "Axes") -> "Axes":
    """Images of each class, the most frequent on top."""
    order = np.argsort(counts, kind="stable")
    bars = ax.barh(np.arange(len(order)), np.asarray(counts)[order])
    ax.bar_label(bars, padding=3, fontsize="small")
    ax.set_yticks(range(len(order)), [class_names[c] for c in order], parse_math=False)
    ax.set(xlabel="Images")
    ax.margins(x=0.12)
    return ax


def plot_worst(report: Report, figure: "Figure", k: int = 12, columns: int = 4) -> "Figure":
    """A gallery of the `k` errors of the highest loss, each with its label and probability.

    Raises:
        ValueError: if the report was made without images.
    """
    integer("k", k, 1)
    integer("columns", columns, 1)
    if report.image is None:
        raise ValueError("a gallery needs images: Report.from_predictions(..., image=...)")
    wrong = [row for row in report.top_losses(len(report.labels)) if not report.rows.right[row.row]]
    axes = figure.subplots(-(-k // columns), columns, squeeze=False).ravel()
    for ax in axes:
        ax.axis("off")
    for ax, result in zip(axes, wrong[:k], strict=False):
        ax.imshow(report.image(result.row))
        text = f"{result.true}\n→ {result.predicted} {result.probability:.0%}"
        ax.set_title(text, fontsize="small", parse_math=False)
    return figure


def _defined(report: Report, classes: Sequence[int | str] | None, figure: FloatArray) -> list[int]:
    everything: Sequence[int | str] = range(len(report.class_names))
    chosen = [report.class_index(c) for c in (everything if classes is None else classes)]
    return [c for c in chosen if not np.isnan(figure[c])]


def _draw_curves(
    report: Report,
    ax: "Axes",
    classes: list[int],
    curve: Callable[[int], tuple[FloatArray, FloatArray]],
    areas: FloatArray,
) -> None:
    """Curves of the classes and their mean; only a few of them can be named."""
    few = len(classes) <= _NAMED
    heights = []
    for c in classes:
        x, y = curve(c)
        style: dict[str, Any] = {"label": f"{report.class_names[c]} {areas[c]:.3f}"}
        if not few:
            style = {"color": _QUIET, "alpha": 0.4}
        ax.plot(x, y, linewidth=1, **style)
        # On one grid: the curves of classes have points of their own.
        heights.append(np.interp(_GRID, x, y))
    if len(classes) > 1:
        label = f"mean {np.mean(areas[classes]):.3f}"
        ax.plot(_GRID, np.mean(heights, axis=0), color="black", linewidth=2, label=label)
    if classes:
        legend = ax.legend(frameon=False, fontsize="small")
        for text in legend.get_texts():
            # A class may be named with dollar signs, which matplotlib takes for mathematics.
            text.set_parse_math(False)


def _square(ax: "Axes", x: str, y: str) -> "Axes":
    ax.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.set_aspect("equal")
    return ax
