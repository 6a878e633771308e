"""Learning rates read off a curve of losses; NumPy alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tltoolkit import _checks
from tltoolkit.training.terms import LADDER, SWEEP

# A fall of the loss smaller than this share of it is none.
LEAST_FALL = 0.02
# The averaging window of a sweep and the run-up that is not judged, as shares of its steps.
WINDOW, RUN_UP = 0.1, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class RateCurve:
    """What a search for a learning rate saw. Prints as its advice.

    Attributes:
        mode: `"sweep"` or `"ladder"`.
        rates: (K,) learning rates: one per step of a sweep, one per rung of a ladder.
        losses: (K,) what the model lost: in that step, or at the end of that rung.
        smoothed: (K,) the losses averaged over the last tenth of the sweep; of a ladder, the
            losses themselves.
        suggestions: Name of a rule -> the rate that it gives. Empty where the curve has none.
        suggestion: The one to use, or None.
        advice: One sentence.
    """

    mode: str
    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    suggestions: Mapping[str, float]
    suggestion: float | None
    advice: str

    def __str__(self) -> str:
        others = ", ".join(f"{name} {rate:.2g}" for name, rate in self.suggestions.items())
        return f"{self.advice} ({others})" if others else self.advice

    def plot(self) -> Any:
        """The curve as a matplotlib figure, the suggestions as vertical lines."""
        with _checks.extra("plots need matplotlib", "report"):
            from matplotlib.figure import Figure
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        marker = "." if self.mode == SWEEP else "o"
        axes.plot(self.rates, self.losses, marker, color="0.6", label="loss")
        axes.plot(self.rates, self.smoothed, color="C0", label="smoothed")
        for i, (name, rate) in enumerate(self.suggestions.items(), 1):
            width = 2 if rate == self.suggestion else 1
            axes.axvline(rate, color=f"C{i}", linewidth=width, label=f"{name}: {rate:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=self.advice)
        axes.title.set_fontsize("small")
        axes.title.set_wrap(True)
        axes.legend(frameon=False)
        return figure


def smooth(losses: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Exponential average over a tenth of `steps`, corrected for its start from zero."""
    beta = 1 - 1 / max(1.0, WINDOW * steps)
    average, out = 0.0, np.empty(len(losses))
    for i, loss in enumerate(losses):
        average = beta * average + (1 - beta) * loss
        out[i] = average / (1 - beta ** (i + 1))
    return out


def diverged(losses: NDArray[np.float64], steps: int) -> bool:
    """Whether a sweep has gone far enough: the last loss is no number, or the average is far up."""
    if not np.isfinite(losses[-1]):
        return True
    average = smooth(losses, steps)
    # In the first steps the average is that of a few losses.
    past = len(losses) > RUN_UP * steps
    # Far above its lowest, and above its start: a low minimum alone would end it early.
    return bool(past and average[-1] > max(4 * average.min(), 1.2 * average[0]))


def from_sweep(
    rates: NDArray[np.float64],
    losses: NDArray[np.float64],
    steps: int,
    try_out: Callable[[float], float],
) -> RateCurve:
    """Suggestions from one loss per step, while the rate grew exponentially.

    The steepest descent and the minimum over ten are those of Smith 2017 (Cyclical learning
    rates for training neural networks); the valley is the rate two thirds into the longest
    descent. None of the rules is best for every optimizer, so each rate gets a short training,
    and `suggestion` is the one that loses least by it.

    Args:
        rates: (K,), growing.
        losses: (K,); those from the first infinite or NaN on are not looked at.
        steps: How many the sweep was to have, >= K.
        try_out: From a rate to the loss after a short training with it.
    """
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    average = smooth(losses[:end], steps)
    why = _unreliable(losses[:end], average, steps)
    found = {} if why else _rules(rates[:end], average, steps)
    # By rate, so that rules which agree are tried once.
    ends = {rate: try_out(rate) for rate in found.values()}
    suggestion = min(ends, key=lambda rate: _or_infinite(ends[rate]), default=None)
    return RateCurve(
        mode=SWEEP,
        rates=rates[:end],
        losses=losses[:end],
        smoothed=average,
        suggestions=found,
        suggestion=suggestion,
        advice=why or f"use a learning rate of about {suggestion:.2g}",
    )


def from_ladder(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> RateCurve:
    """The rung whose loss at its end is lowest, all from the same weights and the same images.

    Args:
        rates: (K,), falling.
        losses: (K,); infinite or NaN where training broke.
    """
    known = np.array([_or_infinite(loss) for loss in losses])
    best = int(known.argmin())
    # The lowest rate hardly moves the model: its loss is the one to fall below.
    fell = np.isfinite(known[-1]) and known[-1] - known[best] > LEAST_FALL * known[-1]
    suggestion = float(rates[best]) if fell else None
    advice = "no reliable suggestion: no rate brought the loss down; is the model trained already?"
    if suggestion is not None:
        advice = f"use a learning rate of about {suggestion:g}"
        if best == 0:
            advice += ", the highest that was tried"
    return RateCurve(
        mode=LADDER,
        rates=rates,
        losses=losses,
        smoothed=losses,
        suggestions={} if suggestion is None else {LADDER: suggestion},
        suggestion=suggestion,
        advice=advice,
    )


def rungs(low: float, high: float) -> NDArray[np.float64]:
    """0.1, 0.03, 0.01, ...: the powers of ten and their threefolds in [low, high], falling."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    all_rungs = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 3)]
    return np.array([rate for rate in all_rungs[::-1] if low <= rate <= high])


def _unreliable(losses: NDArray[np.float64], average: NDArray[np.float64], steps: int) -> str:
    """Why a sweep suggests nothing, or an empty text."""
    told = "no reliable suggestion: "
    if len(losses) <= RUN_UP * steps:
        return told + "the loss was no number at once; look at the data with tl.check.data"
    run_up = max(2, int(RUN_UP * steps))
    lowest = int(average.argmin())
    # The difference of two losses has sqrt(2) times the deviation of one.
    noise = float(np.std(np.diff(losses[: lowest + 1]))) / np.sqrt(2) if lowest > 1 else 0.0
    start = float(losses[:run_up].mean())
    if lowest < run_up:
        return told + "the loss rises from the start; is the model trained already?"
    if start - average[lowest] <= max(LEAST_FALL * abs(start), noise):
        return told + "the loss hardly falls at any rate; look at the gradients and the data"
    return ""


def _rules(
    rates: NDArray[np.float64], average: NDArray[np.float64], steps: int
) -> dict[str, float]:
    lowest = int(average.argmin())
    run_up = int(RUN_UP * steps)
    # Slopes over a run-up's width: between neighbours they would be those of the noise.
    width = max(1, run_up // 2)
    slopes = average[2 * width : lowest + 1] - average[: max(0, lowest + 1 - 2 * width)]
    steepest = int(slopes.argmin()) + width if len(slopes) else lowest
    return {
        "steepest": float(rates[steepest]),
        "valley": float(rates[_valley(average[: lowest + 1])]),
        "minimum / 10": float(rates[lowest] / 10),
    }


def _valley(average: NDArray[np.float64]) -> int:
    """Two thirds into the longest row of falling values.

    The first twentieth of the fall does not count: without noise it reaches back to any rate.
    """
    begun = int(np.argmax(average < average[0] - 0.05 * (average[0] - average[-1])))
    lengths = np.zeros(len(average), np.int64)
    for i in range(begun + 1, len(average)):
        lengths[i] = lengths[i - 1] + 1 if average[i] < average[i - 1] else 0
    end = int(lengths.argmax())
    return end - int(lengths[end]) // 3


def _or_infinite(loss: float) -> float:
    return loss if np.isfinite(loss) else np.inf
