"""imbalanced-learn: its samplers of rows, and those that make new rows of features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.labels import as_labels

SYNTHETIC = {
    "smote": "SMOTE",
    "borderline_smote": "BorderlineSMOTE",
    "svm_smote": "SVMSMOTE",
    "adasyn": "ADASYN",
}


# Neighbours that imbalanced-learn's own settings ask for among the rows of a class, and one.
FEWEST = 6


def check_enough(counts: npt.NDArray[Any], sampler: Any, names: Sequence[str]) -> None:
    """Raise ValueError if a class that a named method makes rows of has too few.

    Args:
        counts: Rows of each class, (C,).
        sampler: As in `resample`; one of the user's own has settings of its own.
        names: Of the classes.
    """
    few = [f"{names[c]} ({counts[c]:g})" for c in np.flatnonzero(counts < FEWEST).tolist()]
    if isinstance(sampler, str) and few and np.ptp(counts):
        rule = f"used where every class has at least {FEWEST} rows, so that rows have neighbours"
        raise _checks.fail("features", f"{rule}; too few: {', '.join(few)}", sampler)


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
    rows, _ = _seeded(sampler, seed, epoch).fit_resample(places, labels)
    rows = np.asarray(rows)[:, 0]
    if (wrong := ~np.isin(rows, np.arange(len(labels)))).any():
        rule = (
            f"a sampler that selects rows in 0..{len(labels) - 1}; one that makes new rows "
            "belongs in `features`"
        )
        raise _checks.fail("sampling", f"{rule}. {sampler!r} returned row", float(rows[wrong][0]))
    return np.random.default_rng((seed, epoch)).permutation(rows.astype(np.int64))


def resample(
    features: npt.ArrayLike, labels: npt.ArrayLike, sampler: Any = "smote", seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features and labels with made-up rows of the rarer classes, between real neighbours.

    Args:
        features: (N, F), such as a backbone's outputs.
        labels: (N,) class numbers.
        sampler: `"smote"` (Chawla et al. 2002), `"borderline_smote"`, `"svm_smote"`, `"adasyn"`,
            or any imbalanced-learn sampler.
        seed: >= 0.

    Returns:
        Features (M, F) float32 and labels (M,) int64.

    Raises:
        ImportError: imbalanced-learn is not installed.
        ValueError: A class that is too small for the sampler, or other labels.
    """
    _checks.integer("seed", seed, 0)
    values, rows = as_labels(labels), np.asarray(features, np.float32)
    if values.ndim != 1 or rows.ndim != 2 or len(rows) != len(values):
        rule = "(N, F) beside class numbers (N,)"
        raise _checks.fail("features", rule, (rows.shape, values.shape))
    counts = np.bincount(values)
    check_enough(counts[counts > 0], sampler, [str(c) for c in np.flatnonzero(counts)])
    try:
        made, classes = _seeded(_named(sampler), seed, 0).fit_resample(rows, values)
    except (ValueError, RuntimeError) as error:
        rule = f"another one for these rows, since it says: {' '.join(str(error).split())}"
        raise _checks.fail("sampler", rule, sampler) from error
    return np.asarray(made, np.float32), np.asarray(classes, np.int64)


def _named(sampler: Any) -> Any:
    if not isinstance(sampler, str):
        check_sampler("sampler", sampler)
        return sampler
    _checks.one_of("sampler", sampler, SYNTHETIC)
    try:
        from imblearn import over_sampling
    except ImportError as error:
        raise ImportError(
            "SMOTE needs imbalanced-learn: pip install 'tltoolkit[imbalance]'"
        ) from error
    return getattr(over_sampling, SYNTHETIC[sampler])()


def _seeded(sampler: Any, seed: int, epoch: int) -> Any:
    """A copy of the sampler whose draws depend on seed and epoch alone."""
    from sklearn.base import clone

    copy = clone(sampler)
    if "random_state" in copy.get_params():
        state = np.random.SeedSequence((seed, epoch)).generate_state(1)[0]
        copy.set_params(random_state=int(state % 2**31))
    return copy
