"""Drawings of what was measured, with matplotlib."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tltoolkit import _checks


def new_figure(columns: int) -> Any:
    """A figure with that many axes side by side; returns it and the axes."""
    with _checks.extra("plots need matplotlib", "report"):
        # Not pyplot, which keeps every figure and may want a display.
        from matplotlib.figure import Figure
    figure = Figure(figsize=(5 * columns, 3.5), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def search_figure(trials: Any, importance: Mapping[str, float]) -> Any:
    """Scores of trials in their order, and the importance of settings where it is known."""
    figure, axes = new_figure(2 if importance else 1)
    for state, rows in trials.groupby("state"):
        axes[0].plot(rows["trial"], rows["score"], ".", label=state)
    complete = trials[trials["state"] == "complete"]
    axes[0].step(complete["trial"], complete["score"].cummax(), where="post", label="best so far")
    axes[0].set(xlabel="trial", ylabel="validation macro F1")
    axes[0].legend(frameon=False)
    if importance:
        axes[1].barh(list(importance)[::-1], list(importance.values())[::-1])
        axes[1].set(xlabel="share of the variation (fANOVA)")
    return figure


def curve_figure(points: Any, law: Any, forecast: Any, score_name: str) -> Any:
    """Scores against training images on a log scale, with the fitted law and its forecast."""
    figure, (axes,) = new_figure(1)
    scores = np.array([point.score for point in points])
    ends = np.array([(point.low, point.high) for point in points])
    axes.errorbar(
        [point.size for point in points],
        scores,
        # matplotlib wants lengths, and refuses one that rounding made negative.
        yerr=np.abs(ends.T - scores),
        fmt="o",
        capsize=3,
        label="measured",
    )
    sizes = np.geomspace(points[0].size, forecast.size, 100)
    axes.plot(sizes, law.score(sizes), label=str(law))
    axes.errorbar(
        [forecast.size],
        [forecast.score],
        yerr=[[forecast.score - forecast.low], [forecast.high - forecast.score]],
        fmt="s",
        capsize=3,
        label="forecast",
    )
    axes.set(xscale="log", xlabel="training images", ylabel=score_name)
    axes.legend(frameon=False, loc="lower right")
    return figure
