"""imbalanced-learn: its samplers of rows, and those that make new rows of features."""

from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.labels import as_labels
from tltoolkit.imbalance.terms import SYNTHETIC

NEIGHBOURS = 5  # imbalanced-learn's own number, where the smallest class has as many


def check_sampler(name: str, sampler: Any) -> None:
    """Raise TypeError unless it is like an imbalanced-learn sampler."""
    rule = "a name or an imbalanced-learn sampler"
    if not callable(getattr(sampler, "fit_resample", None)):
        raise TypeError(str(_checks.fail(name, rule, sampler)))


def selected_rows(
    sampler: Any, labels: npt.NDArray[Any], seed: int, epoch: int
) -> npt.NDArray[np.int64]:
    """The rows that a sampler selects for an epoch, by their class numbers (N,) alone."""
    check_sampler("sampling", sampler)
    if labels.ndim != 1:
        raise _checks.fail("sampling", "a name for soft or multi-label rows", sampler)
    # As floats, so that a row between two others shows.
    places = np.arange(len(labels), dtype=np.float64)[:, None]
    # Places for features: images themselves never go through imbalanced-learn.
    rows, _ = _seeded(sampler, seed, epoch).fit_resample(places, labels)
    rows = np.asarray(rows)[:, 0]
    if (wrong := ~np.isin(rows, np.arange(len(labels)))).any():
        rule = (
            f"a sampler that selects rows in 0..{len(labels) - 1}; one that makes new rows "
            "belongs in `features`"
        )
        raise _checks.fail("sampling", f"{rule}. {sampler!r} returned row", float(rows[wrong][0]))
    # Samplers may return rows class by class, and batches would show one class at a time.
    return np.random.default_rng((seed, epoch)).permutation(rows.astype(np.int64))


def resample(
    features: npt.ArrayLike, labels: npt.ArrayLike, sampler: Any = "smote", seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features and labels with made-up rows of the rarer classes, between real neighbours.

    Args:
        features: (N, F), such as a backbone's outputs.
        labels: (N,) class numbers.
        sampler: `"smote"` (Chawla et al. 2002), `"borderline_smote"`, `"svm_smote"`, `"adasyn"`,
            each with the five nearest neighbours of a class, or as many as the smallest has; or
            any imbalanced-learn sampler, as it is.
        seed: >= 0.

    Returns:
        Features (M, F) float32 and labels (M,) int64.

    Raises:
        ImportError: imbalanced-learn is not installed.
        ValueError: A class of one row, one that got no rows though it is rarer, or other labels.
    """
    _checks.integer("seed", seed, 0)
    values, rows = as_labels(labels), np.asarray(features, np.float32)
    if values.ndim != 1 or rows.ndim != 2 or len(rows) != len(values):
        rule = "(N, F) beside class numbers (N,)"
        raise _checks.fail("features", rule, (rows.shape, values.shape))
    counts = np.bincount(values)
    try:
        made, classes = _seeded(_named(sampler, counts), seed, 0).fit_resample(rows, values)
    # imbalanced-learn's ADASYN raises either where it finds no place for a row (0.14.2).
    except (ValueError, RuntimeError) as error:
        rule = f"another one for these rows, since it says: {' '.join(str(error).split())}"
        raise _checks.fail("sampler", rule, sampler) from error
    if isinstance(sampler, str):
        # Of named methods alone: a sampler of the user's may leave a class as it is.
        _check_made(sampler, counts, np.bincount(classes, minlength=len(counts)))
    return np.asarray(made, np.float32), np.asarray(classes, np.int64)


def check_sizes(name: str, sampler: Any, counts: npt.ArrayLike) -> None:
    """Raise ValueError if a named sampler has a class of one row: new ones lie between two."""
    single = np.flatnonzero(np.asarray(counts) == 1)
    if isinstance(sampler, str) and len(single):
        rule = f"None, or a sampler of your own, where a class has one row (class {single[0]})"
        raise _checks.fail(name, rule, sampler)


def _check_made(sampler: str, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> None:
    # Classes of nearly the largest size may rightly get nothing.
    rare = (before > 0) & (2 * before <= before.max())
    if (without := np.flatnonzero(rare & (after == before))).size:
        rule = f"another method, since this one found no place for rows of class {without[0]}"
        raise _checks.fail("sampler", f"{rule}; 'smote' does", sampler)


def _named(sampler: Any, counts: npt.NDArray[Any]) -> Any:
    if not isinstance(sampler, str):
        check_sampler("sampler", sampler)
        return sampler
    _checks.one_of("sampler", sampler, SYNTHETIC)
    check_sizes("sampler", sampler, counts)
    with _checks.extra("SMOTE needs imbalanced-learn", "imbalance"):
        from imblearn import over_sampling
    name, parameter = SYNTHETIC[sampler]
    # A row is not its own neighbour.
    neighbours = min(NEIGHBOURS, int(counts[counts > 0].min()) - 1)
    return getattr(over_sampling, name)(**{parameter: neighbours})


def _seeded(sampler: Any, seed: int, epoch: int) -> Any:
    """A copy of the sampler whose draws depend on seed and epoch alone."""
    from sklearn.base import clone

    # The user's own object must not carry a state from one epoch to the next.
    copy = clone(sampler)
    if "random_state" in copy.get_params():
        state = np.random.SeedSequence((seed, epoch)).generate_state(1)[0]
        # Within the seeds that all libraries here take, see `_checks.SEED`.
        copy.set_params(random_state=int(state % 2**31))
    return copy
