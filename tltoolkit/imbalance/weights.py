"""How much each class counts in the loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.labels import as_labels, check_counts, names_of
from tltoolkit.imbalance.terms import WEIGHTS

# Deferred weights count from this share of the epochs on.
# As in Cao et al. 2019, who begin at epoch 160 of 200.
DEFERRED = 0.8


def class_weights(
    weights: str | Mapping[Any, float],
    counts: npt.ArrayLike,
    class_names: Sequence[str] | None = None,
    beta: float = 0.9999,
) -> npt.NDArray[np.float64]:
    """The weight of each class: (C,).

    Args:
        weights: `"balanced"`: N / (C n_c), where n_c labels of N are of class c; `"effective"`:
            (1 - beta) / (1 - beta^n_c), scaled to sum to C (Cui et al. 2019, "Class-Balanced
            Loss Based on Effective Number of Samples"); or a weight above 0 for every class, by
            its name or number.
        counts: n_c, (C,), each above 0.
        class_names: Names of the classes; "0", "1", ... if None.
        beta: For `"effective"`, in (0, 1); the nearer to 1, the more the counts matter.

    Raises:
        ValueError: Another name, a class without samples, weights that are missing, unknown,
            not finite or not above 0; it names the class.
        TypeError: Weights that are neither a name nor a mapping.
    """
    values = check_counts(counts, class_names)
    if isinstance(weights, Mapping):
        return _given(weights, names_of(len(values), class_names))
    _checks.instance("weights", weights, str, "a name or a mapping from class to weight")
    _checks.one_of("weights", weights, WEIGHTS)
    if weights == "balanced":
        return values.sum() / (len(values) * values)
    _checks.number("beta", beta, above=0, below=1)
    # 1 - beta ** n would lose digits where beta is near 1.
    raw = (1 - beta) / -np.expm1(values * np.log(beta))
    return np.asarray(raw * len(values) / raw.sum())


def sample_weights(labels: npt.ArrayLike, class_weights: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The weight of each row, (N,), for `fit(sample_weight=...)`: its labels' shares times weights.

    Args:
        labels: Class numbers (N,), or (N, C) one-hot or soft rows. A multi-label row has a
            weight per class instead, which the losses of `tltoolkit.losses` know.
        class_weights: (C,).

    Raises:
        ValueError: Labels of another form, or of another number of classes.
    """
    values, weights = as_labels(labels), np.asarray(class_weights, np.float64)
    classes = values.shape[1] if values.ndim == 2 else int(values.max()) + 1
    if weights.ndim != 1 or len(weights) < classes:
        raise _checks.fail("class_weights", f"one weight for each of {classes} classes", weights)
    return np.asarray(values @ weights if values.ndim == 2 else weights[values])


def deferred_from(epochs: int) -> int:
    """The first of so many epochs, from 0, in which deferred weights count: the last at least."""
    return min(round(DEFERRED * epochs), epochs - 1)


def _given(weights: Mapping[Any, float], names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    numbers = {name: i for i, name in enumerate(names)}
    found: dict[int, float] = {}
    for key, weight in weights.items():
        number = numbers.get(key, -1) if isinstance(key, str) else key
        known = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        if not known or not 0 <= number < len(names):
            rule = f"a mapping whose keys are class names or numbers; the classes are {names}"
            raise _checks.fail("weights", rule, key)
        if int(number) in found:
            raise ValueError(f"`weights` must have one weight for class {names[number]!r}, not two")
        _checks.number(f"weights[{key!r}]", weight, above=0)
        found[int(number)] = float(weight)
    if missing := [name for i, name in enumerate(names) if i not in found]:
        raise ValueError(
            f"`weights` must have a weight for every class. Missing: {', '.join(missing)}"
        )
    return np.array([found[i] for i in range(len(names))])
