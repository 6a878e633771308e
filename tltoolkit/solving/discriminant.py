"""Linear discriminant analysis out of ridge: its directions and scatters are in the ridge fits.

Ridge on one-hot targets spans the directions of the LDA whose within-class scatter has the same
ridge (Hastie, Buja and Tibshirani 1995). With the class weights D and R = D^-1/2 (y - mean)' fit
D^-1/2, the between-class scatter of the fits is R^2, and their within-class scatter, penalty
included, R - R^2. So the LDA costs an eigen-decomposition of as many rows as classes.
"""

from dataclasses import dataclass

import numpy as np

from tltoolkit.solving.scaling import Floats

NEVER = -1e9  # logit of a class without rows: a probability of zero in float32, and finite
RIDGE, LDA = "ridge", "lda"
# Of a head: RIDGE, or the pull of the class means of an LDA.
Kind = str | float
RANK = 1e-9  # share of the scatter below which a direction is noise of the arithmetic
CLOSE = 1e-6  # from a perfect fit, whose within-class scatter would be zero


@dataclass(frozen=True)
class Fits:
    """What there is to know of ridge fits (N, C) of weighted rows.

    Attributes:
        cross: (C, C), the sum of the fits of the rows that have label c in row c.
        whole: (C,) the sum of all fits.
        counts: (C,) weight of the rows that have each label.
        weight: Of all rows.
    """

    cross: Floats
    whole: Floats
    counts: Floats
    weight: float


def as_logits(fits: Fits, kind: Kind, multi_label: bool) -> tuple[Floats, Floats]:
    """Map (C, C) and bias (C,) that make logits of ridge fits: fits @ map + bias.

    Args:
        fits: The sums of the fits that the head was solved on.
        kind: `RIDGE` takes the fits themselves, which a temperature then sharpens; a number is
            the pull of an LDA.
        multi_label: Whether the labels are independent.
    """
    if kind == RIDGE:
        never = (fits.counts == 0) & (not multi_label)
        # The fit of a label is around one half where its absence is as likely.
        return np.eye(len(never)), np.where(never, NEVER, -0.5 if multi_label else 0.0)
    if multi_label:
        return pairs(fits, float(kind))
    return discriminant(fits.cross, fits.counts, float(kind))


def discriminant(cross: Floats, counts: Floats, pull: float) -> tuple[Floats, Floats]:
    """Map (C, C) and bias (C,) from ridge fits to logits: log p(x | class) + log prior.

    Args:
        cross: (C, C), the sum of the weighted fits of the rows of class c in row c.
        counts: (C,) the weight of each class; its share is the prior.
        pull: Class means are drawn to the mean of all as if so many images lay there; >= 0.
            A mean of few images is an uncertain one.
    """
    there, total = counts > 0, counts.sum()
    root = np.where(there, 1 / np.sqrt(np.where(there, counts, 1)), 0.0)
    centre = cross.sum(0) / total
    centred = cross - np.outer(counts, centre)
    between = root[:, None] * centred * root
    # Made symmetric, which rounding has spoilt, as `eigh` reads one triangle alone.
    values, vectors = np.linalg.eigh((between + between.T) / 2)
    keep = values > RANK
    values, vectors = values[keep].clip(None, 1 - CLOSE), vectors[:, keep]
    # Scaled so that the within-class scatter becomes the identity.
    variates = root[:, None] * vectors / np.sqrt(values * (1 - values))
    means = root[:, None] ** 2 * (centred @ variates) * (counts / (counts + pull))[:, None]
    freedom = max(total - there.sum(), 1.0)  # of the pooled scatter
    kernel = freedom * variates @ means.T
    bias = np.log(np.maximum(counts, np.finfo(float).tiny) / total)
    bias = bias - freedom / 2 * (means**2).sum(1) - centre @ kernel
    return kernel, np.where(there, bias, NEVER)


def pairs(fits: Fits, pull: float) -> tuple[Floats, Floats]:
    """The same for each of C labels against its absence: a diagonal map (C, C) and a bias (C,).

    A label that all rows have or none gets the log odds of half a row that says otherwise.
    """
    counts, total = fits.counts, fits.weight
    # 0 for a label that nothing can be learned of: the bias alone speaks.
    slope = np.zeros(len(counts))
    offset = np.where(counts == total, 1, -1) * np.log(2 * max(total, 1.0) - 1)
    for c in np.flatnonzero((counts > 0) & (counts < total)):
        both = np.array([total - counts[c], counts[c]])
        sums = np.array([fits.whole[c] - fits.cross[c, c], fits.cross[c, c]])
        kernel, bias = discriminant(np.stack([both - sums, sums], 1), both, pull)
        line = kernel[:, 1] - kernel[:, 0]
        slope[c] = line[1] - line[0]
        offset[c] = line[0] + bias[1] - bias[0]
    return np.diag(slope), offset
