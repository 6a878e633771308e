"""What a run leaves: the model, its history, a record of each stage."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.plans.stages import Plan
from tltoolkit.runs.candidates import Candidate, Candidates
from tltoolkit.training.result import StageResult


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training run.

    Attributes:
        model: The `keras.Model` with the weights of the best epoch.
        history: Name -> one value per epoch over all stages, as Keras names them
            (`loss`, `accuracy`, `val_loss`, `val_accuracy`, `val_f1_macro`).
        best_epoch: Index into `history` of the best epoch.
        stages: A record of each stage.
        plan: The plan that ran.
        why: One sentence on how the plan was chosen.
        settings: The arguments of the run, as plain data.
        run_dir: Where the run was written, or None.
        candidates: What `plan="auto"` or `"solve"` compared, as a table that prints; empty for
            other plans.
        options: What `fine_tune` was given besides model, data, plan and callbacks, for
            `tl.refit`; empty for a run that was read from its directory.
    """

    model: Any
    history: dict[str, list[float]]
    best_epoch: int
    stages: tuple[StageResult, ...]
    plan: Plan
    why: str
    settings: Mapping[str, Any]
    run_dir: Path | None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    candidates: Candidates = field(default_factory=Candidates)

    def plot(self) -> Any:
        """The curves of the run as a matplotlib figure; dotted lines part the stages."""
        with _checks.extra("plots need matplotlib", "report"):
            from matplotlib.figure import Figure
        names = [name for name in self.history if not name.startswith("val_")]
        names += ["f1_macro"] * ("val_f1_macro" in self.history)
        figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for curve in (name, f"val_{name}"):
                if curve in self.history:
                    axes.plot(self.history[curve], label=curve)
            for end in _stage_ends(self.stages):
                # Between the last epoch of a stage and the first of the next.
                axes.axvline(end - 0.5, color="0.6", linestyle=":")
            axes.axvline(self.best_epoch, color="0.3", linewidth=0.8, label="best epoch")
            axes.set(xlabel="epoch", title=name)
            axes.legend(frameon=False)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """The record of the run as plain data, for run.json and `report.save(run=...)`."""
        return {
            "settings": {**self.settings, "plan_chosen_because": self.why},
            "plan": self.plan.to_dict(),
            "best_epoch": self.best_epoch,
            "candidates": [dataclasses.asdict(one) for one in self.candidates],
            "stages": [_record(result) for result in self.stages],
            "history": {name: [_finite(v) for v in row] for name, row in self.history.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], model: Any, run_dir: Path) -> "Run":
        """The run of what run.json holds: `to_dict`'s data and the `variables` of each stage.

        Args:
            record: What run.json holds.
            model: The model, with the weights of the best epoch.
            run_dir: Where it was written.
        """
        plan = Plan.from_dict(record["plan"])
        outcomes = zip(plan, record["stages"], record["variables"], strict=True)
        # Settings and outcome stand side by side in a record; the plan has the settings.
        known = {field.name for field in dataclasses.fields(StageResult)}
        settings = dict(record["settings"])
        return cls(
            model=model,
            history={
                name: [float("nan") if v is None else v for v in row]
                for name, row in record["history"].items()
            },
            best_epoch=record["best_epoch"],
            stages=tuple(
                StageResult.from_dict(
                    {**{k: v for k, v in outcome.items() if k in known}, **paths}
                    | {"stage": dataclasses.asdict(stage)}
                )
                for stage, outcome, paths in outcomes
            ),
            plan=plan,
            # Out of the settings, where `to_dict` has put it for readers.
            why=settings.pop("plan_chosen_because"),
            settings=settings,
            run_dir=run_dir,
            # A run of an earlier version has none.
            candidates=Candidates(Candidate(**one) for one in record.get("candidates", ())),
        )


def joined(histories: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The histories of stages as one; a value that a stage lacks is NaN."""
    # In the order of their first appearance: stages may log different names.
    names = list(dict.fromkeys(name for history in histories for name in history))
    return {
        name: [
            float(value)
            for history in histories
            for value in history.get(name, [float("nan")] * len(history["loss"]))
        ]
        for name in names
    }


def _record(result: StageResult) -> dict[str, Any]:
    """The settings and the outcome of a stage side by side; variables as counts."""
    outcome = dataclasses.asdict(result)
    counts = {name: len(outcome[name]) for name in ("trained", "changed")}
    # The outcome second: of `learning_rate`, that with which the stage ran, found or given.
    return {**outcome.pop("stage"), **outcome, **counts}


def _finite(value: float) -> float | None:
    # JSON has no NaN.
    return value if math.isfinite(value) else None


def _stage_ends(stages: tuple[StageResult, ...]) -> list[int]:
    ends, total = [], 0
    for result in stages[:-1]:
        total += result.epochs
        ends.append(total)
    return ends
