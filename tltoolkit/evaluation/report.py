"""Report: every figure of a test set, the rows behind them, and the page to show around."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tltoolkit._checks import fail, integer
from tltoolkit.evaluation import decided, errors, notes, pooling
from tltoolkit.evaluation.decision import Decides, Decision
from tltoolkit.evaluation.inputs import check_class_names, check_predictions
from tltoolkit.evaluation.page import check_directory, has_page, save_page
from tltoolkit.evaluation.page_data import Maps
from tltoolkit.evaluation.results import Image, Results
from tltoolkit.evaluation.temperature import Temperature, fit_temperature
from tltoolkit.evaluation.text import report_dict, report_text, save_json
from tltoolkit.evaluation.thresholds import Thresholds, tune
from tltoolkit.files import writing


class Report(Results):
    """What a model achieved on a test set. Make one with `Report.from_predictions`.

    It keeps labels and probabilities and never an image. A report of answers (see `decide`) has
    the rows that were answered alone, and the raw report of all rows beside.

    Attributes:
        names: N names of the rows, such as file names, or None.
        image: a function i -> (H, W, 3) uint8 RGB image of row i, for galleries, or None.
        raw: the report of all rows before the decision; None where this is one.
        decision: what made answers of the probabilities, or None.
        answered: (N,) the row of `raw` that each row is, or None.
    """

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        y_prob: npt.ArrayLike,
        class_names: Sequence[str] | None = None,
        *,
        multi_label: bool | None = None,
        names: Sequence[str] | None = None,
        image: Image | None = None,
        decision: Decides | None = None,
    ) -> "Report":
        """The report of N predictions.

        Args:
            y_true: (N,) integers 0..C-1, or (N, C) zeros and ones for multi-label.
            y_prob: (N, C) probabilities in 0..1, each row summing to 1 unless multi-label; for
                two classes also (N,) or (N, 1): the probability of class 1.
            class_names: C different names; "0", "1", ... if None.
            multi_label: None decides by the shape of `y_true`.
            names: N names of the rows.
            image: a function i -> (H, W, 3) uint8 RGB image of row i.
            decision: what makes answers of the probabilities, see `decide`; None scores the
                probabilities themselves.

        Raises:
            ValueError: if the values are not labels and probabilities of that kind.
        """
        labels, prob, several = check_predictions(y_true, y_prob, multi_label)
        if names is not None and len(names) != len(labels):
            raise fail("names", f"one name for each of the {len(labels)} rows", len(names))
        raw = cls(
            labels=labels,
            probabilities=prob,
            class_names=check_class_names(class_names, prob.shape[1]),
            multi_label=several,
            names=None if names is None else tuple(map(str, names)),
            image=image,
        )
        return raw if decision is None else raw.decide(decision)

    @classmethod
    def pooled(cls, reports: "Sequence[Report]") -> "Report":
        """One report over the rows of several, such as the folds of a cross-validation."""
        return pooling.pooled(reports)

    def most_confused(self, k: int = 10) -> list[errors.ConfusedPair]:
        """The `k` pairs of classes that are confused most often."""
        return errors.most_confused(self, k)

    def top_losses(self, k: int = 20) -> list[errors.RowResult]:
        """The `k` rows of the highest loss."""
        return errors.top_losses(self, k)

    def row(self, i: int) -> errors.RowResult:
        """Row `i`: its name, true and given label, confidence and loss."""
        integer("i", i, 0, len(self.labels) - 1)
        return errors.row_result(self, i)

    def label_issues(self) -> list[errors.RowResult]:
        """Rows whose label may be wrong, the most doubtful first."""
        return errors.label_issues(self)

    @property
    def readings(self) -> tuple[str, ...]:
        """C plain-word readings, such as "trusted but often missed"."""
        return errors.readings(self)

    def tune_thresholds(
        self,
        metric: str = "f1",
        *,
        beta: float | None = None,
        target: float | None = None,
        costs: tuple[float, float] | None = None,
    ) -> Thresholds:
        """A threshold per class, best on these rows; see `thresholds.tune`."""
        self._check_raw()
        return tune(self, metric, beta=beta, target=target, costs=costs)

    def fit_temperature(self) -> Temperature:
        """The temperature with the lowest log loss on these rows."""
        self._check_raw()
        return fit_temperature(self)

    def apply(
        self, *, temperature: Temperature | None = None, thresholds: Thresholds | None = None
    ) -> "Report":
        """The report of the same rows after scaling, the labels given anew.

        They are given by `thresholds`; if None by the highest probability, for multi-label 0.5.
        """
        self._check_raw()
        decision = Decision(
            temperature=temperature, thresholds=thresholds, multi_label=self.multi_label
        )
        answers = decision.decide(self.probabilities)
        return replace(self, probabilities=answers.probabilities, decided=answers.labels)

    def decide(self, decision: Decides) -> "Report":
        """The report of the answers that a decision gives to these rows.

        Every figure is of the rows that are answered; `coverage` says how many those are, and
        `raw` is this report. All are NaN where none is.

        Raises:
            ValueError: for a decision of another kind of labels or number of classes, or where
                this is a report of answers already.
        """
        return decided.decided(self, decision)

    def _check_raw(self) -> None:
        if self.raw is not None:
            raise ValueError(
                "temperature and thresholds are chosen on the raw report, `report.raw`: this one "
                "is of answers that a decision has been applied to"
            )

    @property
    def undefined(self) -> dict[str, str]:
        """Why each undefined figure is NaN: name of the figure -> reason."""
        return notes.undefined(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know before trusting the figures, such as a small test set."""
        return notes.notes(self)

    def to_dict(self) -> dict[str, Any]:
        """Every figure as plain Python values, NaN as None."""
        return report_dict(self)

    def save(
        self,
        directory: str | Path,
        *,
        title: str = "Evaluation",
        run: Mapping[str, Any] | None = None,
        page: bool | None = None,
        benchmark: Mapping[str, Any] | None = None,
        maps: Maps | None = None,
    ) -> tuple[Path, ...]:
        """Write report.json and report.html into `directory`, made if missing.

        Args:
            directory: where; an earlier report there is replaced, any other file refused.
            title: heading of the page.
            run: what to show of the run: "settings" (a dict), "stages" (a list of dicts) and
                "history" (name -> one value per epoch), each optional.
            page: whether to write report.html; None does where plotly is installed. It draws
                every class: with a million rows and a thousand classes that takes minutes.
            benchmark: costs to show as a chart and a table: `tl.benchmark(...).to_dict()`.
            maps: a function rows -> (n, H, W) float maps of 0..1, of the images that the page
                shows, which a switch there lays over them; the rows are those of `raw` where
                there is one. With `tl.explain` and the `split` that was evaluated:
                `lambda rows: tl.explain(model, split.subset(rows)).maps`.

        Returns:
            The files written.

        Raises:
            ValueError: `maps` that are none, or without a page or images to lay them on.
            FileExistsError: something of another kind has the name of a file of the report.
            OSError: `directory` is none, or cannot be written to.
            ImportError: if `page` is True and plotly is not installed.
        """
        # Whatever can be refused is refused before minutes of computing.
        if maps is not None and (page is False or self.image is None):
            raise fail("maps", "left out without a page and images to lay them on", maps)
        # Who wants maps wants the page.
        page = True if maps is not None else page
        target = check_directory(directory, page)
        writing.made(target)
        # First, and whole if somebody loses patience with the page.
        written = [save_json(self, target)]
        if has_page(page):
            written.append(save_page(self, target, title, run, benchmark, maps))
        return tuple(written)

    def __repr__(self) -> str:
        size = f"{len(self.labels):,} images, {len(self.class_names)} classes"
        if self.raw is not None:
            size = f"{len(self.labels):,} of {self.asked:,} images answered, " + size.split(", ")[1]
        return f"Report({size}, accuracy {self.accuracy:.4f})"

    def __str__(self) -> str:
        return report_text(self)
