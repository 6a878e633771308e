"""`plan="auto"`: a head solved on all blocks, fine-tuned where that pays, kept if it is better."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tltoolkit.callbacks import training_state
from tltoolkit.model.classifier import with_head
from tltoolkit.model.head import ALL, Head
from tltoolkit.plans import ready
from tltoolkit.plans.stages import Stage
from tltoolkit.runs.candidates import Candidate, Candidates
from tltoolkit.solving.choosing import log_losses, temperature
from tltoolkit.training import solving
from tltoolkit.training.closed import Choice
from tltoolkit.training.job import Job, Task
from tltoolkit.training.progress import Progress
from tltoolkit.training.stage import run_stages

# Shares of the way from the pretrained weights to the tuned ones (WiSE-FT, Wortsman et al. 2022):
# both ends and the middle, since each costs a pass over the images.
WAYS = (0.0, 0.5, 1.0)
# All that a head can read; `closed.candidates_of` leaves maxima out again where they do harm.
STATISTICS = ("mean", "std", "max")
HELD_OUT, VALIDATION = "held out", "validation"


def widened(model: Any) -> Any:
    """Our classifier with its linear head on all blocks in place of the last one alone.

    All other layers are shared. A head that was asked for, and a model of somebody else, stay as
    they are.
    """
    settings = getattr(model, "tltoolkit_settings", None)
    if settings is None or settings.head != Head():
        return model
    # Without dropout: a solved head adds up thousands of figures that make up for one another, and
    # with a fifth of them gone the first epoch of fine-tuning began at a loss of 9.
    return with_head(model, Head(taps=ALL, statistics=STATISTICS, dropout=0.0))


def train(
    job: Job,
    begun: Sequence[Stage],
    progress: Progress,
    before: Sequence[Any],
    *,
    tunes: bool,
    budget: float | None,
) -> tuple[str, Candidates]:
    """Run the stages of `plan="auto"`, begun by one that solves the head.

    The model has the weights of what won afterwards, and so has `progress.best`.

    Args:
        job: The run.
        begun: Its first stage.
        progress: How far it is.
        before: Values of all variables of the model, in their order, before the run.
        tunes: Whether fine-tuning may follow; else this is `plan="solve"`.
        budget: Seconds for all of it, or None.

    Returns:
        Why these stages, and what was compared.
    """
    run_stages(job, begun, 0, progress)
    # Of the pretrained weights, where an interrupted run goes on with tuned ones.
    tuned = values(job.model)
    # The head was chosen on features of the pretrained weights, and is scored on them.
    _assign(job.model, before)
    task = solving.task_of_head(job, begun[0])
    choice = progress.choice or solving.choice_of(task)
    more, why = ready.after_solved(
        tunes=tunes,
        images_per_class=len(job.train.source) / job.train.targets.shape[1],
        held_out=solving.held_out_f1(task, choice),
        validated=job.val is not None,
        epochs=epochs_within(budget, progress.results[0].seconds),
    )
    candidates = Candidates(_solved(choice, 1.0))
    # Nothing tuned: the solved head is kept as it is.
    way, heat = 0.0, 1.0
    if more:
        _assign(job.model, tuned)
        if progress.found is None and len(progress.results) == len(begun):
            # Thousands of figures of all blocks, solved on these very images, have nothing left to
            # learn from them: fine-tuning would only undo what they stand on.
            solving.give(task, *solving.usual(task, choice))
        run_stages(job, more, len(begun), progress)
        tuned = values(job.model)
        place = _between(job.model, before, tuned)
        way, heat, compared = _best_way(task, choice, place)
        place(way)
        candidates = Candidates([*_solved(choice, float(way == 0)), *compared])
        kept = f"{way:.0%} of the way there was kept" if way else "the solved head was kept"
        why = f"{why}; {kept}, by the log loss of the validation images"
    # On the validation images too, which have had their say by now.
    kernel, bias = solving.on_all(task, choice)
    progress.solved = solving.Solved(task=task, choice=choice, held=True, heat=heat)
    # In the history the solved head is the first epoch, and what was tuned from it the last one.
    epoch = sum(result.epochs for result in progress.results) - 1 if way else 0
    logs = {name: values[0] for name, values in progress.histories[0].items()}
    # A temperature divides the logits, and with them kernel and bias.
    solving.give(task, kernel / heat, bias / heat)
    # Whatever scored higher on the way: it was of other weights or fewer images.
    progress.best.take(job.model, epoch, logs)
    return why, candidates


def epochs_within(budget: float | None, spent: float) -> int | None:
    """Epochs of fine-tuning that fit a budget; None where nobody asked for one."""
    if budget is None:
        return None
    # What was spent is mostly one pass. An epoch learns from each image, which costs about three,
    # and looking at both places on the way costs one each.
    # Not below 0, where the first pass took all of it.
    return max(0, int((budget - spent * len(WAYS)) / (3 * spent)))


def _solved(choice: Choice, weight: float) -> list[Candidate]:
    """The best head of each set of features; of the first label, where each has its own."""
    return [
        Candidate(
            f"{one.candidate}, {_kind(one.kind)}",
            one.log_loss,
            one.accuracy,
            HELD_OUT,
            one.weight * weight,
        )
        for one in choice.choices[0].table
    ]


def _kind(kind: Any) -> str:
    return str(kind) if isinstance(kind, str) else f"lda pull {kind:g}"


def _best_way(
    task: Task, choice: Choice, place: Callable[[float], None]
) -> tuple[float, float, list[Candidate]]:
    """How far to go from the pretrained weights to the tuned ones, and the temperature there.

    At each place the head is solved again on the training images, and the least log loss of the
    validation images says which it is: no place costs anything that the others do not, so that
    the likeliest is the best, however few images say so. On a tie it is the nearest to the start.
    """
    several, losses, heats, right = task.job.multi_label, [], [], []
    for way in WAYS:
        place(way)
        logits, targets = solving.validated(task, *solving.on_training(task, choice))
        heats.append(temperature(logits, targets, several))
        losses.append(log_losses(logits / heats[-1], targets, several))
        same = (logits > 0) == (targets > 0)
        right.append(float(same.mean() if several else _hits(logits, targets)))
    best = int(np.argmin([loss.mean() for loss in losses]))
    names = ["the solved head", *(f"{way:.0%} of the way to tuned blocks" for way in WAYS[1:])]
    compared = [
        Candidate(name, float(loss.mean()), share, VALIDATION, float(i == best))
        for i, (name, loss, share) in enumerate(zip(names, losses, right, strict=True))
    ]
    return WAYS[best], heats[best] if best else 1.0, compared


def _hits(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean(logits.argmax(1) == targets.argmax(1)))


def _between(
    model: Any, before: Sequence[np.ndarray], after: Sequence[np.ndarray]
) -> Callable[[float], None]:
    """A function that puts the model's weights so far on the way between two places."""
    pairs = [
        (v, a, b)
        for v, a, b in zip(_variables(model), before, after, strict=True)
        # States of generators are whole numbers: there is nothing between two of them.
        if np.issubdtype(a.dtype, np.floating) and not np.array_equal(a, b)
    ]

    def place(way: float) -> None:
        for variable, a, b in pairs:
            # In floating point a + (b - a) need not be b.
            variable.assign(b if way == 1 else a + way * (b - a))

    return place


def _variables(model: Any) -> list[Any]:
    return training_state.model_variables(model)


def values(model: Any) -> list[np.ndarray]:
    """Copies of the values of a model's variables, in their order."""
    return training_state.values(_variables(model))


def _assign(model: Any, given: Iterable[np.ndarray]) -> None:
    training_state.assign(_variables(model), list(given))
