"""The settings of `Imbalance` applied to the labels of one training set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance import sampling
from tltoolkit.imbalance.adjustment import logit_offsets, scale_odds
from tltoolkit.imbalance.labels import as_labels, check_counts, class_counts
from tltoolkit.imbalance.settings import Imbalance, choose
from tltoolkit.imbalance.synthetic import check_sizes
from tltoolkit.imbalance.weights import class_weights, deferred_from

Floats = npt.NDArray[np.float64]
# More classes than this are not counted one by one in a sentence.
MANY = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """What is done about imbalance, with the numbers; `correct` makes it.

    Attributes:
        imbalance: The settings.
        labels: Of the training rows: (N,) int64, or (N, C) where multi-label.
        class_names: The C names.
        multi_label: Whether a row may have several labels.
    """

    imbalance: Imbalance
    labels: npt.NDArray[Any]
    class_names: tuple[str, ...]
    multi_label: bool

    @cached_property
    def counts(self) -> Floats:
        """Training labels of each class, (C,)."""
        return class_counts(self.labels, len(self.class_names), self.multi_label)

    @cached_property
    def prior(self) -> Floats:
        """The share of the training rows that have each class, (C,)."""
        shares, row = self.counts / len(self.labels), 1 / len(self.labels)
        # A label that every row has would have infinite odds.
        return shares.clip(row / 2, 1 - row / 2) if self.multi_label else shares

    @cached_property
    def class_weights(self) -> tuple[float, ...] | None:
        """The weights in the loss, (C,); None if all are 1."""
        # Its weights are deferred: `deferred_weights` has them.
        if self.imbalance.loss == "ldam":
            return None
        found = self._weights(self.imbalance.weights)
        if self.imbalance.loss == "balanced_focal":
            found = found * self._weights("effective")
        # None and not ones: so the plain loss stays plain, and is not logged a second time.
        return None if (found == 1).all() else tuple(map(float, found))

    @cached_property
    def deferred_weights(self) -> tuple[float, ...] | None:
        """The weights in an LDAM loss, (C,), which count from the last fifth of a stage on.

        A stage of fewer than five epochs has them in its last one.
        """
        if self.imbalance.loss != "ldam":
            return None
        # Effective ones are those of the paper.
        return tuple(map(float, self._weights(self.imbalance.weights or "effective")))

    def _weights(self, given: Any) -> Floats:
        if given is None:
            return np.ones(len(self.counts))
        return class_weights(given, self.counts, self.class_names, self.imbalance.beta)

    @property
    def offsets(self) -> Floats | None:
        """What the loss adds to the logits, so that the model learns adjusted ones; or None."""
        # Each on its own has the loss add them; with both the logits are balanced twice.
        adjusted = self.imbalance.loss == "logit_adjusted", self.imbalance.adjust == "logit"
        if not any(adjusted):
            return None
        return sum(adjusted) * logit_offsets(self.counts, self.imbalance.tau)

    @property
    def in_loss(self) -> bool:
        """Whether the loss differs from plain cross-entropy."""
        changed = self.class_weights is not None or self.offsets is not None
        return changed or self.imbalance.loss != "cross_entropy"

    def sample(self, seed: int, epochs: int) -> Callable[[int], Any] | None:
        """A function from the epoch to the rows that it shows; None shows all as they are."""
        method = self.imbalance.sampling
        if method is None:
            return None

        def rows(epoch: int) -> Any:
            return sampling.epoch_rows(
                self.labels,
                method,
                epoch=epoch,
                epochs=epochs,
                seed=seed,
                multi_label=self.multi_label,
            )

        return rows

    @cached_property
    def rows_per_epoch(self) -> int:
        """How many rows an epoch shows."""
        # Any epoch would do: all show the same number.
        sample = self.sample(0, 1)
        return len(self.labels) if sample is None else len(sample(0))

    def solver_weights(self, targets: npt.NDArray[Any], made_up: bool = False) -> Floats | None:
        """Weights for what takes all rows at once, with mean 1; None if all are 1.

        A class weighs its weight in the loss times how often sampling shows its rows.

        Args:
            targets: (N, C) zeros and ones of these or other rows.
            made_up: Whether they have the rows that `features` makes up.

        Returns:
            (N,), or (N, C) where multi-label.
        """
        # Made-up rows have levelled the classes already.
        rates = np.ones(len(self.counts)) if made_up else self._rates(0, 1)
        weights = np.ones(len(rates)) if self.class_weights is None else self.class_weights
        if not self.multi_label:
            found = targets @ (rates * weights)
        else:
            # A row has the rate of its rarest class, as in `sampling.epoch_rows`.
            rows = np.where(targets > 0, rates, rates.min()).max(1, keepdims=True)
            found = (1 + targets * (np.asarray(weights) - 1)) * rows
        # With mean 1 a penalty weighs against the rows as it would without weights.
        return None if np.ptp(found) == 0 else found / found.mean()

    def assumed_prior(self, epoch: int = 0, epochs: int = 1, solved: bool = False) -> Floats:
        """The share of each class, (C,), for which the outputs of this epoch's model are right.

        A head that is `solved` knows no deferred weights.
        """
        factors = np.ones(len(self.counts))
        if self.class_weights is not None:
            factors = factors * self.class_weights
        deferred = None if solved else self.deferred_weights
        if deferred is not None and epoch >= deferred_from(epochs):
            factors = factors * deferred
        if self.offsets is not None:
            # What the loss adds the model need not learn.
            factors = factors * np.exp(-self.offsets)
        factors = factors * self._rates(epoch, epochs)
        if self.multi_label:
            return scale_odds(self.prior, factors)
        return self.prior * factors / (self.prior * factors).sum()

    def _rates(self, epoch: int, epochs: int) -> Floats:
        method = self.imbalance.sampling
        if self.imbalance.features is not None:
            # Taken for levelled, as `Imbalance` says: what a sampler makes shows when it has run.
            return self.counts.mean() / self.counts
        if method is None:
            return np.ones(len(self.counts))
        if isinstance(method, str):
            # A stage of one epoch is balanced at once, as in `sampling.epoch_rows`.
            progress = min(1.0, epoch / (epochs - 1)) if epochs > 1 else 1.0
            return np.asarray(sampling.class_rates(self.counts, method, progress))
        # A sampler of the user's has no formula: its rows are counted.
        rows = sampling.epoch_rows(self.labels, method, epoch=epoch)
        return class_counts(self.labels[rows], len(self.counts)) / self.counts

    def __str__(self) -> str:
        """One sentence: what is done, and the class counts."""
        ratio = self.counts.max() / self.counts.min()
        counts = [f"{n} {c:g}" for n, c in zip(self.class_names, self.counts, strict=True)]
        if len(counts) > MANY:
            order = np.argsort(self.counts)
            counts = [counts[order[-1]], "...", counts[order[0]]]
        done = ", ".join(self._done()) or "nothing is corrected"
        return f"Imbalance: class ratio {ratio:.1f} ({', '.join(counts)}); {done}."

    def _done(self) -> list[str]:
        it = self.imbalance
        said = {
            f"{it.weights if isinstance(it.weights, str) else 'given'} class weights": it.weights,
            f"{it.sampling} sampling": it.sampling,
            f"rows of features made by {it.features}": it.features,
            f"{it.loss} loss": None if it.loss == "cross_entropy" else it.loss,
            f"logits adjusted by the training prior (tau {it.tau:g})": it.adjust == "logit",
            "the head trained again on balanced classes": it.adjust == "retrain",
        }
        return [what for what, given in said.items() if given]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the record of a run."""
        counts = dict(zip(self.class_names, map(float, self.counts), strict=True))
        return {**self.imbalance.to_dict(), "class_counts": counts, "said": str(self)}


def correct(
    imbalance: "str | Imbalance",
    labels: npt.ArrayLike,
    class_names: Any,
    multi_label: bool = False,
    adjustable: bool = True,
) -> Correction:
    """Check `imbalance` against the labels of a training set.

    Args:
        imbalance: `"none"`, `"auto"` (see `choose`), the name of a method, or an `Imbalance`.
        labels: Of the training rows.
        class_names: The C names.
        multi_label: Whether a row may have several labels.
        adjustable: Whether the model has a last bias that logit adjustment can go into.

    Raises:
        ValueError: An unknown name; a class without samples or a single class, for a method that
            compares classes (`"auto"` does nothing about the only class of a multi-label set);
            weights that do not fit the classes, a method that does not know
            multi-label.
        TypeError: Something else than a name or an `Imbalance`.
    """
    values, names = as_labels(labels, multi_label), tuple(class_names)
    rule = "a tl.Imbalance, 'auto' or the name of a method"
    _checks.instance("imbalance", imbalance, (str, Imbalance), rule)
    make = partial(Correction, labels=values, class_names=names, multi_label=multi_label)
    if isinstance(imbalance, str) and imbalance != "auto":
        imbalance = Imbalance.named(imbalance)
    plain = make(imbalance=Imbalance())
    # Before any check of counts: whoever asks for nothing may have a class without images.
    if imbalance == Imbalance():
        return plain
    if not isinstance(imbalance, Imbalance):
        # The only class of a multi-label set has no others to be out of balance with.
        alone = multi_label and len(names) == 1
        imbalance = Imbalance() if alone else choose(check_counts(plain.counts, names), adjustable)
    if imbalance.compares:
        check_counts(plain.counts, names)
    imbalance.check_labels(multi_label)
    check_sizes("features", imbalance.features, plain.counts)
    if imbalance.adjust == "logit" and not adjustable:
        rule = "None for a model that does not end in a dense layer with a bias; loss="
        raise _checks.fail("adjust", f"{rule}'logit_adjusted' does the same", imbalance.adjust)
    made = make(imbalance=imbalance)
    # What can only be checked against the classes is checked now, not in the first step.
    _ = made.class_weights, made.deferred_weights
    if (sample := made.sample(0, 1)) is not None:
        sample(0)
    return made
