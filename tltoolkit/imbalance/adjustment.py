"""From one class prior to another, without training again."""

import numpy as np
import numpy.typing as npt

from tltoolkit import _checks
from tltoolkit.imbalance.labels import check_counts

Floats = npt.NDArray[np.float64]


def logit_offsets(counts: npt.ArrayLike, tau: float = 1.0) -> Floats:
    """What the training data's imbalance adds to the logit of each class, times `tau`: (C,).

    tau log(n_c / mean n). Subtracted from the logits of a trained model it corrects them; added
    to them within the loss it makes the model learn corrected ones (Menon et al. 2021, "Long-tail
    learning via logit adjustment"; Ren et al. 2020, "Balanced Meta-Softmax"). For single labels
    this is log of the prior up to a constant, which softmax does not see. For multi-label it
    levels the classes among each other and leaves their mean frequency as it is.

    Args:
        counts: n_c, (C,), each above 0.
        tau: How much to correct: 1 is all, 0 nothing.

    Raises:
        ValueError: A class without samples, or `tau` out of range.
    """
    _checks.number("tau", tau, 0)
    values = check_counts(counts)
    # By the mean: offsets then do not depend on how many images there are in all.
    return np.asarray(tau * np.log(values / values.mean()))


def adjust_logits(logits: npt.ArrayLike, counts: npt.ArrayLike, tau: float = 1.0) -> Floats:
    """Logits (N, C) of a model trained on classes of these sizes, corrected for the sizes."""
    values, offsets = np.asarray(logits, np.float64), logit_offsets(counts, tau)
    if values.shape[-1:] != offsets.shape:
        raise _checks.fail("logits", f"of shape (N, {len(offsets)})", values.shape)
    return np.asarray(values - offsets)


def shift_prior(
    probabilities: npt.ArrayLike,
    assumed: npt.ArrayLike,
    wanted: npt.ArrayLike,
    multi_label: bool = False,
) -> Floats:
    """Probabilities (N, C) as they would be if the classes had other shares.

    p_c wanted_c / assumed_c, normalised to sum to 1 (Saerens et al. 2002, "Adjusting the Outputs
    of a Classifier to New a Priori Probabilities"); for multi-label the odds of each class are
    multiplied by the odds of `wanted` over those of `assumed`.

    Args:
        probabilities: Of a classifier.
        assumed: (C,), the share of each class where they are right: usually in the training data.
        wanted: (C,), the share of each class where they shall be right.
        multi_label: Whether a row may have several labels.

    Raises:
        ValueError: Priors that do not fit, or are not shares.
    """
    values = np.asarray(probabilities, np.float64)
    old, new = (
        check_prior(name, prior, values.shape[-1], multi_label)
        for name, prior in (("assumed", assumed), ("wanted", wanted))
    )
    # Softmax probabilities compete, so that a new sum is needed; independent ones have odds.
    if not multi_label:
        scaled = values * (new / old)
        return np.asarray(scaled / scaled.sum(-1, keepdims=True))
    return scale_odds(values, new * (1 - old) / (old * (1 - new)))


def scale_odds(probabilities: Floats, factors: Floats) -> Floats:
    """Probabilities whose odds are `factors` times those of `probabilities`."""
    scaled = probabilities * factors
    # Odds without a division by 1 - p, which is 0 for a sure answer.
    return np.asarray(scaled / (scaled + 1 - probabilities))


def check_prior(name: str, prior: npt.ArrayLike, classes: int, multi_label: bool) -> Floats:
    """`prior` as (C,) float64 shares in (0, 1), which sum to 1 unless `multi_label`."""
    values = np.asarray(prior, np.float64)
    shares = values.shape == (classes,) and ((values > 0) & (values < 1)).all()
    # Shares rounded to three digits are meant to be exact; the return makes them so.
    if not shares or (not multi_label and abs(values.sum() - 1) > 1e-3):
        total = "" if multi_label else " that sum to 1"
        rule = f"{classes} shares above 0 and below 1{total}, one for each class"
        raise _checks.fail(name, rule, prior)
    return values if multi_label else values / values.sum()
