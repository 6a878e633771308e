"""The trials of a search: run one after the other, then read as a table."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm  # type: ignore[import-untyped]

from tltoolkit.training.best import BEST_BY
from tltoolkit.tune.bench import Bench
from tltoolkit.tune.study import Asked

DIVERGED = "diverged"


class Reporter(keras.callbacks.Callback):
    """Tells a trial its validation macro F1 after each epoch, and ends it if that is poor."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self.trial = trial
        # Its own count: `epoch` begins anew with each stage.
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report; the epochs of all stages are counted on."""
        score = (logs or {}).get(BEST_BY, np.nan)
        # A NaN that was reported would be below any median, and end the trial.
        if np.isfinite(score):
            self.trial.report(score, self.epochs)
        self.epochs += 1
        if self.trial.should_prune():
            raise optuna.TrialPruned


def run(asked: Asked, bench: Bench, total: int, verbose: bool) -> None:
    """Run trials until the study has `total` of them."""
    hidden = None if verbose else True  # None hides the bar where there is no terminal
    with tqdm(total=total, initial=asked.finished, desc="trials", disable=hidden) as bar:
        # Counted in the study, which other processes and earlier calls add to.
        while asked.finished < total:
            trial, values = asked.next()
            try:
                score = bench.score(values, [Reporter(trial)])
            except optuna.TrialPruned:
                asked.study.tell(trial, state=TrialState.PRUNED)
            except FloatingPointError:
                # Optuna has no such state, and a trial that failed would be asked for again.
                trial.set_user_attr(DIVERGED, True)
                asked.study.tell(trial, state=TrialState.PRUNED)
            # Ctrl-C, too, which would leave the trial running for ever.
            except BaseException:
                asked.study.tell(trial, state=TrialState.FAIL)
                raise
            else:
                asked.study.tell(trial, score)
            bar.update()


def best(asked: Asked) -> dict[str, Any]:
    """The settings of the best trial.

    Raises:
        RuntimeError: None came to its end.
    """
    if not asked.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise RuntimeError(
            "no trial came to its end, because the loss became NaN or infinite in each; "
            "search lower learning rates"
        )
    return asked.space.values(asked.study.best_params)


def table(asked: Asked) -> Any:
    """One row per finished trial, in their order."""
    import pandas as pd

    states = (TrialState.COMPLETE, TrialState.PRUNED)
    rows = enumerate(asked.study.get_trials(deepcopy=False, states=states))
    return pd.DataFrame([_row(k, trial, asked.space.values(trial.params)) for k, trial in rows])


def _row(k: int, trial: FrozenTrial, values: Mapping[str, Any]) -> dict[str, Any]:
    complete = trial.state == TrialState.COMPLETE
    assert trial.duration is not None
    return {
        # Its place in this table: Optuna's numbers count trials that failed, too.
        "trial": k,
        # Of a trial that was cut short, what it had reached.
        "score": trial.value if complete else max(trial.intermediate_values.values(), default=None),
        "state": DIVERGED if trial.user_attrs.get(DIVERGED) else trial.state.name.lower(),
        "seconds": round(trial.duration.total_seconds(), 2),
        **values,
    }
