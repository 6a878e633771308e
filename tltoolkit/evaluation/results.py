"""Results: the data and figures that the helpers of a report read; `Report` adds its methods."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from tltoolkit._checks import arguments, integer, one_of
from tltoolkit.evaluation import calibration, scores
from tltoolkit.evaluation.decision import Decides
from tltoolkit.evaluation.figures import Figures
from tltoolkit.evaluation.intervals import INTERVAL, Bootstrap

Image = Callable[[int], npt.NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Results(Figures):
    """Figures, the rows that they are of, and what decided their labels; see `Report`."""

    names: tuple[str, ...] | None = None
    image: Image | None = None
    raw: Self | None = None
    decision: Decides | None = None
    answered: npt.NDArray[np.int64] | None = None

    @property
    def asked(self) -> int:
        """The number of rows, those included that a decision left unanswered."""
        return len(self.labels if self.raw is None else self.raw.labels)

    @property
    def coverage(self) -> float:
        """Share of the rows that are answered, 0..1."""
        return len(self.labels) / self.asked

    def class_index(self, c: int | str) -> int:
        """The number of a class given by number or name."""
        if isinstance(c, str):
            one_of("c", c, self.class_names)
            return self.class_names.index(c)
        integer("c", c, 0, len(self.class_names) - 1)
        return c

    @cached_property
    def reliability(self) -> calibration.Reliability:
        """Confidence against accuracy in 15 bins.

        With one label per row that of the label given; for multi-label every probability against
        the share that carries the label.
        """
        if self.multi_label:
            return calibration.reliability(self.probabilities.ravel(), self.labels.ravel() > 0)
        return calibration.reliability(self.rows.confidence, self.rows.right)

    @property
    def ece(self) -> float:
        """Expected calibration error with 15 equal bins, 0..1."""
        return self.reliability.ece

    @property
    def mce(self) -> float:
        """Maximum calibration error with 15 equal bins, 0..1."""
        return self.reliability.mce

    def pr_curve(self, c: int | str) -> scores.PrCurve:
        """Precision and recall of class `c` (number or name) at every threshold."""
        c = self.class_index(c)
        return scores.pr_curve(self.is_class(c), self.probabilities[:, c])

    def roc_curve(self, c: int | str) -> scores.RocCurve:
        """False and true positive rates of class `c` (number or name) at every threshold."""
        c = self.class_index(c)
        return scores.roc_curve(self.is_class(c), self.probabilities[:, c])

    def coverage_curve(self) -> calibration.CoverageCurve:
        """Accuracy among the surest rows, by how many are answered."""
        return calibration.coverage_curve(self.rows.confidence, self.rows.right)

    def interval(
        self, name: str, level: float = 0.95, *, draws: int = 1000, seed: int = 0
    ) -> tuple[float, float]:
        """(low, high) of a scalar such as "f1_macro", by percentile bootstrap over the rows.

        Resampling only ever adds calibration error, so the intervals of `ece` and `mce` lie high.
        """
        arguments(INTERVAL, locals())
        # The figures of one kind share their draws, and a page asks for all of them.
        key = (draws, seed)
        if key not in self._bootstraps:
            self._bootstraps[key] = Bootstrap(report=self, draws=draws, seed=seed)
        return self._bootstraps[key].interval(name, level)

    @cached_property
    def _bootstraps(self) -> dict[tuple[int, int], Bootstrap]:
        return {}
