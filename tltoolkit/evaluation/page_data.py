"""What the page shows, as plain values: thinned curves, counts for the slider, matrix cells."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit.evaluation import errors, heat
from tltoolkit.evaluation.figures import AVERAGED
from tltoolkit.evaluation.inputs import FloatArray, IntArray
from tltoolkit.evaluation.notes import notes, undefined
from tltoolkit.evaluation.results import Results
from tltoolkit.evaluation.text import SCALARS, plain, scalar_intervals
from tltoolkit.evaluation.thumbnails import SIDE, embed

SLIDER_STEPS = 200  # half a percent a step, finer than a hand moves
CURVE_POINTS = 120  # points drawn of a curve: the page holds two of every class
GRID_CLASSES = 40  # classes shown in the confusion matrix: further cells are too small to hit
WORST = 24  # rows in the gallery: enough to see what they have in common
CELL_ROWS = 12  # rows listed behind a cell of errors
RIGHT_CELL_ROWS = 4  # and behind one of right answers
OUTCOMES = ("found", "missed", "wrongly given")
# Rows of the raw report -> (n, H, W) maps of 0..1.
Maps = Callable[[Sequence[int]], npt.ArrayLike]
# One each for all images alike, for rare classes, for the order and for the stated confidence.
HEADLINE = ("accuracy", "f1_macro", "roc_auc_macro", "ece")


def page_data(
    report: Results,
    title: str,
    run: Mapping[str, Any] | None,
    costs: Mapping[str, Any] | None = None,
    maps: Maps | None = None,
) -> dict[str, Any]:
    """Everything the page needs, without images if the report has none."""
    grid, cells = _grid(report)
    losses = errors.top_losses(report, WORST)
    worst = [result.row for result in losses if not report.rows.right[result.row]]
    # In that order, as a page has room for some only.
    images = embed(report.image, _by_urgency(report, worst, cells))
    listed = sorted({*worst, *(row for rows in cells.values() for row in rows)})
    return {
        "title": title,
        "rows": len(report.labels),
        "classes": report.class_names,
        "multiLabel": report.multi_label,
        "undefined": undefined(report),
        "notes": notes(report),
        "asked": report.asked,
        "decided": report.raw is not None,
        "scalars": _scalars(report),
        "headline": HEADLINE,
        "perClass": _per_class(report),
        "slider": slider_counts(report),
        "curves": [_curves(report, c) for c in range(len(report.class_names))],
        "grid": grid,
        "cells": {f"{r},{c}": rows for (r, c), rows in cells.items()},
        "worst": worst,
        "listed": {row: _row(report, row) for row in listed},
        "images": images,
        "maps": {} if maps is None else _maps(report, list(images), maps),
        "thumbnailNote": _thumbnail_note(report, len(images)),
        "confused": [vars(pair) for pair in errors.most_confused(report)],
        "reliability": _reliability(report),
        "coverage": _coverage(report),
        "run": plain(dict(run)) if run is not None else None,
        "costs": plain(dict(costs)) if costs is not None else None,
    }


def slider_counts(report: Results) -> dict[str, Any]:
    """True and false positives of each class at SLIDER_STEPS + 1 thresholds from 0 to 1."""
    thresholds = np.arange(SLIDER_STEPS + 1) / SLIDER_STEPS
    true, false = [], []
    for c in range(len(report.class_names)):
        # As float64, in which `Thresholds` compares too: a float32 0.7 lies below 0.7.
        score, member = report.probabilities[:, c].astype(float), report.is_class(c)
        true.append(_at_least(score[member], thresholds))
        false.append(_at_least(score[~member], thresholds))
    return {"steps": SLIDER_STEPS, "true": plain(true), "false": plain(false)}


def _at_least(score: FloatArray, thresholds: FloatArray) -> list[int]:
    below = np.searchsorted(np.sort(score), thresholds, side="left")
    return [len(score) - int(count) for count in below]


def _curves(report: Results, c: int) -> dict[str, Any]:
    pr, roc = report.pr_curve(c), report.roc_curve(c)
    return {
        "pr": _thin(pr.recall, pr.precision),
        "roc": _thin(roc.false_positive_rate, roc.true_positive_rate),
    }


def _thin(x: FloatArray, y: FloatArray) -> list[list[float]] | None:
    """At most CURVE_POINTS points of a curve, evenly along its length; None if undefined."""
    if np.isnan(x).any() or np.isnan(y).any():
        return None
    if len(x) > CURVE_POINTS:
        # Along its length: points bunch up where many scores lie, not where the curve bends.
        along = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
        wanted = np.linspace(0, along[-1], CURVE_POINTS)
        kept = np.unique(np.searchsorted(along, wanted).clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return [_short(x), _short(y)]


def _short(values: FloatArray, digits: int = 4) -> list[Any]:
    rounded: list[Any] = plain(np.round(values.astype(float), digits))
    return rounded


def _scalars(report: Results) -> list[dict[str, Any]]:
    intervals = scalar_intervals(report)
    return [
        {
            "name": name,
            "label": label,
            "value": value,
            "interval": plain(intervals.get(name)),
            "raw": None if report.raw is None else plain(getattr(report.raw, name)),
        }
        for name, label in SCALARS.items()
        if (value := plain(getattr(report, name))) is not None or name != "top_5_accuracy"
    ]


def _per_class(report: Results) -> dict[str, Any]:
    columns = {name: plain(getattr(report, name)) for name in AVERAGED}
    return {**columns, "support": plain(report.support), "reading": list(errors.readings(report))}


def _grid(report: Results) -> tuple[dict[str, Any], dict[tuple[int, int], list[int]]]:
    """The confusion matrix (for multi-label classes by outcome), and rows behind its cells."""
    if report.multi_label:
        shown = _most_errors((report.labels != report.rows.predicted).sum(axis=0))
        columns = list(OUTCOMES)
    else:
        off_diagonal = report.confusion - np.diag(report.confusion.diagonal())
        shown = _most_errors(off_diagonal.sum(axis=0) + off_diagonal.sum(axis=1))
        columns = [report.class_names[c] for c in shown]
    counts, cells = [], {}
    for i, c in enumerate(shown):
        members = _cells_of(report, c, shown)
        counts.append([len(rows) for rows in members])
        for j, rows in enumerate(members):
            right = j == (0 if report.multi_label else i)
            if len(rows):
                order = np.argsort(-report.rows.loss[rows], kind="stable")
                cells[i, j] = plain(rows[order][: RIGHT_CELL_ROWS if right else CELL_ROWS])
    return {"shown": shown, "columns": columns, "counts": counts}, cells


def _cells_of(report: Results, c: int, shown: list[int]) -> list[IntArray]:
    if report.multi_label:
        truth, given = report.is_class(c), report.rows.predicted[:, c] > 0
        return [np.flatnonzero(m) for m in (truth & given, truth & ~given, ~truth & given)]
    rows = np.flatnonzero(report.labels == c)
    given = report.rows.predicted[rows]
    return [rows[given == p] for p in shown]


def _most_errors(counts: IntArray) -> list[int]:
    worst = np.argsort(-counts, kind="stable")[:GRID_CLASSES]
    # Back in the order of the classes, which readers know.
    return sorted(int(c) for c in worst)


def _by_urgency(
    report: Results, worst: list[int], cells: dict[tuple[int, int], list[int]]
) -> list[int]:
    """Rows in the order in which they deserve a thumbnail: worst, errors, right answers."""
    ranked = [
        (bool(report.rows.right[row]), rank, row)
        for rows in cells.values()
        for rank, row in enumerate(rows)
    ]
    return list(dict.fromkeys([*worst, *(row for _, _, row in sorted(ranked))]))


def _maps(report: Results, rows: list[int], maps: Maps) -> dict[int, str]:
    """Row -> data URI of its map."""
    if not rows:
        return {}
    asked = rows if report.answered is None else plain(report.answered[rows])
    made = heat.checked(maps(asked), len(rows))
    return {row: heat.data_uri(one) for row, one in zip(rows, made, strict=True)}


def _row(report: Results, row: int) -> list[Any]:
    result = errors.row_result(report, row)
    probability, loss = round(result.probability, 4), round(result.loss, 3)
    return [result.name, result.true, result.predicted, probability, loss]


def _thumbnail_note(report: Results, count: int) -> str:
    if report.image is None:
        return "The report was made without images, so rows are listed by name."
    return (
        f"Thumbnails of {count:,} of {len(report.labels):,} images are kept in "
        f"this page, at most {CELL_ROWS} for each kind of error and {RIGHT_CELL_ROWS} of right "
        f"answers, {SIDE} pixels wide or high; further ones are listed by name."
    )


def _reliability(report: Results) -> dict[str, Any]:
    bins = report.reliability
    return {
        "confidence": plain(bins.confidence),
        "accuracy": plain(bins.accuracy),
        "count": plain(bins.count),
    }


def _coverage(report: Results) -> dict[str, Any]:
    curve = report.coverage_curve()
    last = len(curve.coverage) - 1
    # The one curve of its kind may have more points.
    kept = np.unique(np.linspace(0, last, 2 * CURVE_POINTS if last >= 0 else 0).astype(int))
    return {
        "coverage": _short(curve.coverage[kept]),
        "accuracy": _short(curve.accuracy[kept]),
        "threshold": _short(curve.thresholds[kept]),
        "area": curve.area,
    }
