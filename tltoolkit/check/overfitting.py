"""capacity: can the network learn a few images by heart?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.check import memorise, symptoms
from tltoolkit.check.memorise import Attempt
from tltoolkit.check.terms import CAPACITY
from tltoolkit.training.trial import network_for, sample, trial
from tltoolkit.training.untouched import untouched

FINE, TOO_SMALL, BUG = "fine", "too small", "bug"
VERDICTS = (FINE, TOO_SMALL, BUG)
# A loss within this share of that of guessing is as good as guessing.
AS_GUESSING = 0.97


@dataclass(frozen=True, kw_only=True, eq=False)
class Capacity:
    """What `capacity` found. Prints as verdict and reason.

    Attributes:
        verdict: `"fine"`: it learned the images by heart. `"too small"`: it learned, but not
            all of them. `"bug"`: something other than size keeps it from learning.
        reason: One sentence.
        samples: Images that were to be learned.
        guess_loss: Loss of who knows only how frequent each class is among them.
        attempts: The trainings that were tried, one per learning rate; none where a bug shows
            before training.
    """

    verdict: str
    reason: str
    samples: int
    guess_loss: float
    attempts: tuple[Attempt, ...]

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"

    def plot(self) -> Any:
        """The losses of the attempts as a matplotlib figure, with that of guessing."""
        with _checks.extra("plots need matplotlib", "report"):
            from matplotlib.figure import Figure
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for attempt in self.attempts:
            axes.plot(attempt.losses, label=f"rate {attempt.learning_rate:g}")
        axes.axhline(self.guess_loss, color="0.6", linestyle=":", label="guessing")
        axes.set(xlabel="step", ylabel="loss", title=str(self))
        axes.title.set_fontsize("small")
        axes.title.set_wrap(True)
        axes.legend(frameon=False)
        return figure


def capacity(
    model: Any,
    data: Any,
    samples: int = 20,
    *,
    steps: int = 150,
    # Adam's usual rate, then less, as pretrained layers want it, then more.
    rates: tuple[float, ...] = (1e-3, 1e-4, 1e-2),
    pipeline: Any = None,
    seed: int = 0,
    from_logits: bool | str = "auto",
) -> Capacity:
    """Let the model learn a few training images by heart, to see whether it can learn at all.

    What trains is what trains in the model now (`layer.trainable`, which `tl.freeze` sets);
    penalties on the weights do not count. Before it trains, this looks for what makes learning
    impossible: a head that is frozen, images that differ from one reading to the next or have
    two labels, gradients that do not arrive, layers that mix up the rows of a batch. The model
    and all random states are afterwards as before, also if this fails or is interrupted.

    Labels that were shuffled once and for all can be learned by heart as well; `tl.check.data`
    tells those.

    Args:
        model: As for `tl.fine_tune`.
        data: An `ImageData`; images of its training split, as equally many per class as can be.
        samples: How many, >= 2 and at most the training images.
        steps: Most steps of an attempt, >= 10, with all the images in each.
        rates: Learning rates of Adam, one attempt each, until one succeeds.
        pipeline: An `augment.Pipeline` whose first version of each image is taken, to look for
            bugs in it; None takes the images plain.
        seed: Seed of the choice of images and of dropout.
        from_logits: As in `tl.fine_tune`.

    Raises:
        ValueError: An argument out of range, a model without weights, data with other classes.
    """
    _checks.arguments(CAPACITY, locals())
    network = network_for(model, data, from_logits)
    # Again, with the bound that the table cannot know.
    _checks.integer("samples", samples, 2, len(data.train))
    if not rates:
        raise _checks.fail("rates", "at least one learning rate", rates)
    for rate in rates:
        _checks.number("rates", rate, above=0)
    job = trial(
        network, sample(data.train, samples, seed), batch_size=samples, seed=seed, pipeline=pipeline
    )
    guess_loss = guessing(job.train.targets, job.multi_label)

    def result(verdict: str, reason: str, attempts: tuple[Attempt, ...] = ()) -> Capacity:
        return Capacity(
            verdict=verdict,
            reason=reason,
            samples=samples,
            guess_loss=guess_loss,
            attempts=attempts,
        )

    with untouched(model):
        bug = symptoms.of_layers(network) or symptoms.of_images(job)
        # Before features are computed of images that are wrong.
        if bug:
            return result(BUG, bug)
        subject = memorise.subject_of(job)
        bug = symptoms.of_gradients(subject) or symptoms.of_rows(subject)
        if bug:
            return result(BUG, bug)
        attempts: tuple[Attempt, ...] = ()
        for rate in rates:
            attempts = (*attempts, memorise.attempt(subject, rate, steps))
            if attempts[-1].errors == 0:
                break
    return result(*_verdict(attempts, samples, guess_loss), attempts)


def guessing(targets: NDArray[Any], multi_label: bool) -> float:
    """The loss of who says for every image how frequent each class is among these targets."""
    share = targets.mean(0, dtype=np.float64)

    def part(p: NDArray[np.float64]) -> NDArray[np.float64]:
        # The limit at 0 is 0, where the formula has a NaN.
        return np.asarray(-p * np.log(np.where(p > 0, p, 1)))

    if multi_label:
        return float((part(share) + part(1 - share)).mean())
    return float(part(share).sum())


def _verdict(attempts: tuple[Attempt, ...], samples: int, guess_loss: float) -> tuple[str, str]:
    # By errors first: a sure network may have a larger loss with fewer errors.
    best = min(attempts, key=lambda attempt: (attempt.errors, attempt.loss))
    if best.errors == 0:
        told = f"it learned {samples} images by heart in {len(best.losses)} steps"
        return FINE, f"{told} at a rate of {best.learning_rate:g}"
    # If only some broke, the others tell more.
    if not np.isfinite([attempt.loss for attempt in attempts]).any():
        return BUG, "the loss became infinite or NaN at every rate; look at the range of the inputs"
    if best.loss > AS_GUESSING * guess_loss:
        return BUG, (
            f"gradients arrive and weights move, but the loss stays at that of guessing, "
            f"{best.loss:.3g} against {guess_loss:.3g}: in training the outputs do not belong to "
            "the images that the labels belong to, or hardly depend on them"
        )
    return TOO_SMALL, (
        f"it still gets {best.errors} of {samples} images wrong, though the loss fell from "
        f"{guess_loss:.3g} (guessing) to {best.loss:.3g}: unfreeze more, take a larger network, "
        "or give it more steps"
    )
