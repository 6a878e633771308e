"""Exact evaluation in NumPy: reports, intervals, thresholds, plots and a page to show around."""

from tltoolkit.evaluation.calibration import Abstention, CoverageCurve, Reliability
from tltoolkit.evaluation.compare import Comparison, compare
from tltoolkit.evaluation.counts import Counts, class_metrics, label_report
from tltoolkit.evaluation.decision import Answers, Decision
from tltoolkit.evaluation.errors import ConfusedPair, RowResult, count_label_issues
from tltoolkit.evaluation.report import Report
from tltoolkit.evaluation.scores import PrCurve, RocCurve
from tltoolkit.evaluation.temperature import Temperature
from tltoolkit.evaluation.thresholds import Thresholds

__all__ = [
    "Abstention",
    "Answers",
    "Comparison",
    "ConfusedPair",
    "Counts",
    "CoverageCurve",
    "Decision",
    "PrCurve",
    "Reliability",
    "Report",
    "RocCurve",
    "RowResult",
    "Temperature",
    "Thresholds",
    "class_metrics",
    "compare",
    "count_label_issues",
    "label_report",
]
