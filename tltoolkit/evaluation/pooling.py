"""One report over the rows of several, such as the folds of a cross-validation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import fail
from tltoolkit.evaluation.results import Results

_R = TypeVar("_R", bound=Results)  # reports make a report


def pooled(reports: Sequence[_R]) -> _R:
    """The report of all rows of `reports`, in their order.

    Raises:
        ValueError: for none, for different classes, and for reports of answers.
    """
    if not reports:
        raise fail("reports", "at least one report", reports)
    first, sizes = reports[0], [len(report.labels) for report in reports]
    kinds = {(r.class_names, r.multi_label) for r in reports}
    if len(kinds) > 1:
        raise ValueError("`reports` must all have the same class names and kind of labels")
    if any(r.raw is not None for r in reports):
        raise fail("reports", "raw ones; of a report of answers give `report.raw`", reports)
    ends = np.cumsum(sizes)

    def image(i: int) -> npt.NDArray[np.uint8]:
        part = int(np.searchsorted(ends, i, side="right"))
        of_part = reports[part].image
        assert of_part is not None
        return of_part(i - int(ends[part]) + sizes[part])

    named = all(r.names is not None for r in reports)
    return replace(
        first,
        labels=np.concatenate([r.labels for r in reports]),
        probabilities=np.concatenate([r.probabilities for r in reports]),
        # As they were given: each report may have thresholds of its own.
        decided=np.concatenate([r.rows.predicted for r in reports]),
        names=tuple(n for r in reports for n in r.names or ()) if named else None,
        image=image if all(r.image is not None for r in reports) else None,
    )
