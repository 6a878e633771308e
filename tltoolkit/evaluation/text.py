"""A report as text and as JSON."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit.evaluation import errors
from tltoolkit.evaluation.figures import AVERAGED
from tltoolkit.evaluation.intervals import COUNT_FIGURES, FIGURES, RANKING_FIGURES
from tltoolkit.evaluation.notes import notes, undefined
from tltoolkit.evaluation.results import Results
from tltoolkit.files import writing

SCALARS = {
    "accuracy": "Accuracy",
    "top_5_accuracy": "Top-5 accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "Macro F1",
    "f1_micro": "Micro F1",
    "f1_weighted": "Weighted F1",
    "precision_macro": "Macro precision",
    "recall_macro": "Macro recall",
    "average_precision_macro": "Macro average precision",
    "roc_auc_macro": "Macro ROC-AUC",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "mce": "Maximum calibration error",
}
PER_CLASS = (*AVERAGED, "support")
LEVEL = 0.95  # what readers expect; FEW_ROWS of `notes` speaks of it
_BUDGET = 500_000  # values resampled in every one of 1,000 draws: some four seconds
_FORMAT = "tltoolkit.report/1"
_MARK = b'"tltoolkit.report/'  # in the first bytes of any version
_WITH_INTERVAL = ("accuracy", "f1_macro")  # quick ones: text is printed often
# With a name of 12 letters and the support they fill 78 of the 80 columns of a terminal.
_COLUMNS = ("precision", "recall", "f1", "average_precision", "roc_auc")
_HEADINGS = ("precision", "recall", "F1", "avg prec", "ROC-AUC", "support")


def report_dict(report: Results) -> dict[str, Any]:
    """Every figure as plain Python values; undefined ones are None, their reasons listed."""
    bins, coverage = report.reliability, report.coverage_curve()
    raw = report.raw
    return {
        "format": _FORMAT,
        **_figures(report),
        "asked": report.asked,
        "coverage": report.coverage,
        "decision": None if report.decision is None else plain(report.decision.to_dict()),
        "class_names": list(report.class_names),
        "multi_label": report.multi_label,
        "notes": list(notes(report)),
        "intervals": {"level": LEVEL, **plain(scalar_intervals(report))},
        "readings": list(errors.readings(report)),
        "most_confused": [asdict(pair) for pair in errors.most_confused(report)],
        "top_losses": [asdict(row) for row in errors.top_losses(report)],
        "reliability": plain(asdict(bins)),
        "coverage_area": plain(coverage.area),
        # The figures before the decision, of all rows.
        "raw": None if raw is None else _figures(raw),
    }


def _figures(report: Results) -> dict[str, Any]:
    return {
        "rows": len(report.labels),
        "scalars": {name: plain(getattr(report, name)) for name in SCALARS},
        "per_class": {name: plain(getattr(report, name)) for name in PER_CLASS},
        "undefined": undefined(report),
        "confusion": plain(report.confusion),
    }


def scalar_intervals(report: Results) -> dict[str, tuple[float, float]]:
    """Intervals of the scalars, without those that would take longer than a few seconds."""
    return {name: report.interval(name, LEVEL) for name in FIGURES if _affordable(report, name)}


def _affordable(report: Results, name: str) -> bool:
    n, n_classes = report.probabilities.shape
    # What the work grows with: values where classes are ranked or counted one by one, else rows.
    if name in RANKING_FIGURES or report.multi_label:
        return bool(n * n_classes <= _BUDGET)
    return bool(n <= _BUDGET) or name in COUNT_FIGURES


def plain(value: Any) -> Any:
    """Arrays and NumPy scalars as lists and numbers; NaN and infinity as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def is_report(path: Path) -> bool:
    """Whether a file is a report.json."""
    return writing.marked(path, _MARK, within=100)


def save_json(report: Results, directory: Path) -> Path:
    """Write report.json; a file of that name that is no report is left alone and refused."""
    path = directory / "report.json"
    # One entry a line: a diff shows which changed, and no number takes a line of its own.
    entries = [
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in report_dict(report).items()
    ]
    text = "{\n" + ",\n".join(entries) + "\n}\n"
    # File names may hold bytes that are no text; escaped like this they are valid in JSON.
    writing.text(path, text, is_report, errors="backslashreplace")
    return path


def report_text(report: Results) -> str:
    """The report as a table for the terminal."""
    width = max(12, *(len(name) for name in report.class_names))
    images = f"{len(report.labels):,} images"
    if report.raw is not None:
        images = f"{len(report.labels):,} of {report.asked:,} images answered"
    lines = [f"{images}, {len(report.class_names)} classes", ""]
    lines += [_line("", _HEADINGS, width)]
    columns = [getattr(report, name) for name in _COLUMNS]
    for c, name in enumerate(report.class_names):
        cells = [_cell(column[c]) for column in columns]
        lines.append(_line(name, [*cells, f"{report.support[c]:,}"], width))
    averages = [_cell(report.average(name, "macro")) for name in _COLUMNS]
    lines += ["", _line("macro mean", [*averages, f"{report.support.sum():,}"], width), ""]
    if report.raw is not None:
        lines += [f"{'':<28}{'answers':>9}{'raw':>9}"]
    lines += [_scalar_line(report, name) for name in SCALARS]
    if said := notes(report):
        lines += ["", *said]
    return "\n".join(lines)


def _scalar_line(report: Results, name: str) -> str:
    line = f"{SCALARS[name]:<28}{_cell(getattr(report, name)):>7}"
    if report.raw is not None:
        figures = (_cell(getattr(one, name)) for one in (report, report.raw))
        line = f"{SCALARS[name]:<28}" + "".join(f"{figure:>9}" for figure in figures)
    if name not in _WITH_INTERVAL or not _affordable(report, name):
        return line
    low, high = report.interval(name, LEVEL)
    return f"{line}   {LEVEL:.0%} interval {low:.4f} to {high:.4f}"


def _line(name: str, cells: Any, width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>11}" for cell in cells)


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
