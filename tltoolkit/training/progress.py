"""How far a run is: kept in checkpoints, and put back when the run goes on."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit.callbacks import Resume, checkpoint, training_state
from tltoolkit.layers import graph
from tltoolkit.model.freezing import freeze_plan
from tltoolkit.training.best import BEST_BY, Best
from tltoolkit.training.finite import Finite
from tltoolkit.training.interrupts import Interrupts
from tltoolkit.training.job import History, Job, Task
from tltoolkit.training.result import StageResult

Tree = dict[str, Any]
NAMES = 2**13  # bytes for what a checkpoint says besides numbers, in all and of each layer


@dataclass
class Progress:
    """The stages that are done, the best epoch so far, and where the stage at work stands.

    Attributes:
        directory: Where checkpoints are written; None for none.
        save_freq: `"epoch"`, or a number of steps between checkpoints.
        interrupts: Signals that wait for the end of a step.
        best: The best epoch so far with its weights.
        results: A record of each stage that is done.
        histories: The history of each of them.
        begun: What the stage at work has to remember of its start, as plain data.
        found: The checkpoint in the middle of a stage that this run goes on from, until that
            stage has taken it up.
        since: When this process began to work on the stage.
        paths: Those of the model's variables in this process, in their order.
        choice: The heads that a stage of this process chose in closed form, or None.
        solved: The head in closed form that the run ends with, as `solving.Solved`; None where it
            ends with another, or an interrupted run has to find it again.
    """

    directory: Path | None = None
    save_freq: str | int = "epoch"
    interrupts: Interrupts = field(default_factory=Interrupts)
    best: Best = field(default_factory=Best)
    results: list[StageResult] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    begun: Tree = field(default_factory=dict)
    found: Tree | None = None
    since: float = 0.0
    paths: list[str] = field(default_factory=list)
    choice: Any = None
    solved: Any = None

    @property
    def start(self) -> tuple[int, int]:
        """Epoch and step at which the stage at work begins."""
        return (0, 0) if self.found is None else (self.found["epoch"], self.found["step"])

    @property
    def first_epoch(self) -> int:
        """Epochs of the stages that are done."""
        return sum(result.epochs for result in self.results)

    @property
    def seconds(self) -> float:
        """Time spent on the stage at work, before an interruption too."""
        return float(self.begun["seconds"] + time.perf_counter() - self.since)

    def f1(self, number: int) -> float | None:
        """The best validation macro F1 of a stage that is done."""
        scores = self.histories[number].get(BEST_BY)
        return max(scores) if scores else None

    def begin_stage(self, steps: int, hashes: list[str]) -> Tree:
        """What the stage at work remembers of its start, or of that before an interruption.

        Args:
            steps: Steps of an epoch.
            hashes: SHA-256 of each variable that lasts, in the order of the model.
        """
        self.since = time.perf_counter()
        if self.found is None:
            self.begun = {"seconds": 0.0, "steps": steps, "hashes": hashes}
            return self.begun
        self.begun = self.found["run"]["begun"]
        if self.begun["steps"] != steps:
            # By resume="force": a step is another place in the epoch, which begins again.
            self.found = {**self.found, "step": 0}
            self.begun["steps"] = steps
        return self.begun

    def end_stage(self, job: Job, result: StageResult, history: History) -> None:
        """Add a stage to those that are done, and write the checkpoint that says so."""
        self.results.append(result)
        self.histories.append(history)
        # Before the checkpoint, which else would begin the stage anew.
        self.begun, self.found = {}, None
        if self.directory is not None:
            model = training_state.values(training_state.model_variables(job.model))
            tree = {"model": model, "random": training_state.random_state()}
            states = [training_state.callback_state(c) for c in keeping_state(job.callbacks)]
            checkpoint.write(
                self.directory, {**tree, "callbacks": states, "run": self.as_tree(model)}
            )

    def as_tree(self, model: Sequence[np.ndarray]) -> Tree:
        """All but the stage's own `fit`, given the values of the model's variables."""
        best = self.best
        # Mostly, what is frozen or what is best now: not written twice.
        weights = [
            None if kept.tobytes() == now.tobytes() else kept
            for kept, now in zip(best.weights, model, strict=bool(best.weights))
        ]
        return {
            "best": {"score": best.score, "epoch": best.epoch, "weights": weights},
            "results": [result.to_dict() for result in self.results],
            "paths": self.paths,
            "histories": self.histories,
            "begun": {**self.begun, "seconds": self.seconds} if self.begun else {},
        }

    def go_on(self, job: Job) -> bool:
        """Put everything back as the newest checkpoint has it; False if there is none.

        Raises:
            ValueError: A checkpoint of another model, or none that is whole.
        """
        tree = None if self.directory is None else checkpoint.read_latest(self.directory)
        if tree is None:
            return False
        run, variables = tree["run"], training_state.model_variables(job.model)
        if "paths" not in run:
            raise ValueError(
                f"the checkpoints in {self.directory} are of an earlier version, which knew layers "
                "by name; start the run anew in another directory"
            )
        # Before anything is taken over: the progress stays as it was where this fails.
        training_state.check_fits("model", variables, tree["model"])
        training_state.assign(variables, tree["model"])
        # A model that was built again has the same variables under other automatic names.
        now = dict(zip(run["paths"], variable_paths(job.model), strict=True))
        self.results = [StageResult.from_dict(result).renamed(now) for result in run["results"]]
        self.histories = run["histories"]
        best = run["best"]
        pairs = zip(best["weights"], tree["model"], strict=bool(best["weights"]))
        weights = [now if kept is None else kept for kept, now in pairs]
        self.best = Best(tuple(best["score"]), best["epoch"], weights)
        # Only a checkpoint in the middle of a stage has one. Its callback puts back the rest.
        if "optimizer" in tree:
            self.found = tree
            return True
        training_state.set_random_state(tree["random"])
        training_state.set_callback_states(keeping_state(job.callbacks), tree["callbacks"])
        return True


def variable_paths(model: Any) -> list[str]:
    """The paths of a model's variables, in the order in which checkpoints hold their values."""
    paths = graph.paths(model)
    return [paths[id(v)] for v in training_state.model_variables(model)]


def checkpoint_bytes(job: Job, unfrozen: Iterable[str | int | float]) -> int:
    """Room of a checkpoint at most: weights, those of the best epoch, two values per trained one.

    Args:
        job: The run.
        unfrozen: What the stages unfreeze.
    """
    labels = graph.labels(job.model)
    # Bytes of float32; coarser weights take less, which is room to spare.
    sizes = {labels[id(layer)]: 4 * layer.count_params() for layer in job.model.layers}
    plans = [freeze_plan(job.model, job.network.blocks, unfreeze) for unfreeze in unfrozen]
    trained = max(sum(sizes.get(name, 0) for name in plan if plan[name]) for plan in plans)
    return int(2 * sum(sizes.values()) + 2 * trained + NAMES + NAMES * len(sizes))


class StageCheckpoints(Resume):
    """Checkpoints in the middle of a stage, of the whole run.

    Comes last among the callbacks of `fit`.

    Args:
        progress: How far the run is; its directory is not None.
        task: The stage.
        callbacks: Those before it; those of them that keep a state are part of a checkpoint.
        finite: Has the last word on whether the weights are worth keeping.
    """

    def __init__(
        self, progress: Progress, task: Task, callbacks: Sequence[Any], finite: Finite
    ) -> None:
        assert progress.directory is not None
        super().__init__(progress.directory, keeping_state(callbacks), progress.save_freq)
        self.progress = progress
        self.task = task
        self.finite = finite
        self._steps = task.job.steps

    def save(self) -> Path:
        """Write a checkpoint of this moment, but never one with weights that are not finite."""
        # A run that goes on from broken weights would break again.
        self.finite.check_weights()
        return super().save()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put everything back; from now on signals wait for the end of a step."""
        super().on_train_begin(logs)
        self.progress.interrupts.waits = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Write a checkpoint if it is time, and leave if a signal waits."""
        super().on_train_batch_end(batch, logs)
        # Leaving now loses nothing.
        if self._saved_step == self._step:
            self.progress.interrupts.leave()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the checkpoint of the epoch, and leave if a signal waits."""
        super().on_epoch_end(epoch, logs)
        self.progress.interrupts.leave()

    def _read(self) -> Tree | None:
        found, self.progress.found = self.progress.found, None
        return found

    def _variables(self) -> list[Any]:
        return training_state.model_variables(self.task.job.model)

    def _tree(self) -> Tree:
        tree = super()._tree()
        return {**tree, "run": self.progress.as_tree(tree["model"])}

    def _is_due(self) -> bool:
        return super()._is_due() or self.progress.interrupts.asked is not None

    def _finish(self, trained: bool) -> None:
        self.progress.interrupts.waits = False
        self.progress.interrupts.leave()


def keeping_state(callbacks: Sequence[Any]) -> list[Any]:
    """Those callbacks whose state can be kept."""
    return [callback for callback in callbacks if training_state.keeps_state(callback)]
