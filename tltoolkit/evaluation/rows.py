"""What each row says on its own: the label given, how sure it was, and what it cost."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tltoolkit.evaluation.inputs import FloatArray, IntArray, chunks

DECISION = 0.5  # a multi-label probability from which the label is given


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Facts of each row.

    Attributes:
        predicted: (N,) integers; (N, C) zeros and ones for multi-label.
        confidence: (N,) probability of the label given; for multi-label that of the least sure
            of the row's C decisions.
        right: (N,) whether the label given is the true one (all C of them for multi-label).
        loss: (N,) cross-entropy in nats; for multi-label its mean over the classes.
        brier: (N,) squared error summed over the classes, halved for two of them; for
            multi-label its mean over the classes.
    """

    predicted: IntArray
    confidence: FloatArray
    right: npt.NDArray[np.bool_]
    loss: FloatArray
    brier: FloatArray


def given_labels(prob: FloatArray, multi_label: bool) -> IntArray:
    """Labels of (N, C) probabilities: (N,) the highest, or (N, C) those from 0.5 upwards."""
    if multi_label:
        return (prob >= DECISION).astype(np.uint8)
    return np.asarray(prob.argmax(axis=1))


def label_confidence(prob: FloatArray, labels: IntArray) -> FloatArray:
    """(N,) probability of each row's label; the lowest of C decisions for (N, C) labels."""
    if labels.ndim == 1:
        return prob[np.arange(len(prob)), labels].astype(float)
    lowest = np.empty(len(prob))
    for rows in chunks(*prob.shape):
        lowest[rows] = np.where(labels[rows], prob[rows], 1 - prob[rows]).min(axis=1)
    return lowest


def single_label_rows(labels: IntArray, prob: FloatArray, predicted: IntArray) -> Rows:
    """Rows of (N,) true and predicted labels and (N, C) probabilities."""
    of_truth = prob[np.arange(len(labels)), labels]
    squares = np.empty(len(labels))
    for rows in chunks(*prob.shape):
        # Sums squares without an array of them, which `(prob**2).sum` makes.
        squares[rows] = np.einsum("ij,ij->i", prob[rows], prob[rows], dtype=np.float64)
    # The sum of (p - truth)^2 written out, without an (N, C) array of truths.
    brier = squares - 2 * of_truth.astype(float) + 1
    return Rows(
        predicted=predicted,
        confidence=label_confidence(prob, predicted),
        right=predicted == labels,
        loss=-np.log(_clip(of_truth)),
        brier=brier / 2 if prob.shape[1] == 2 else brier,
    )


def multi_label_rows(labels: IntArray, prob: FloatArray, predicted: IntArray) -> Rows:
    """Rows of (N, C) true and predicted labels and probabilities."""
    loss, brier = np.empty(len(labels)), np.empty(len(labels))
    for rows in chunks(*prob.shape):
        of_truth = np.where(labels[rows], prob[rows], 1 - prob[rows])
        loss[rows] = -np.log(_clip(of_truth)).mean(axis=1)
        brier[rows] = ((1 - of_truth.astype(float)) ** 2).mean(axis=1)
    return Rows(
        predicted=predicted,
        confidence=label_confidence(prob, predicted),
        right=(predicted == labels).all(axis=1),
        loss=loss,
        brier=brier,
    )


def ranks_of_truth(labels: IntArray, prob: FloatArray) -> IntArray:
    """(N,) how many classes come before the true one, 0 for the best.

    Of equal probabilities the lower class comes first, as in argmax.
    """
    rank = np.empty(len(labels), np.int64)
    places = np.arange(prob.shape[1])
    for rows in chunks(*prob.shape):
        part, label = prob[rows], labels[rows, None]
        truth = np.take_along_axis(part, label, axis=1)
        rank[rows] = np.count_nonzero((part > truth) | ((part == truth) & (places < label)), axis=1)
    return rank


def _clip(prob: FloatArray) -> FloatArray:
    """Away from 0 and 1 by the resolution of the type, so that no loss is infinite."""
    epsilon = np.finfo(prob.dtype).eps
    clipped: FloatArray = np.clip(prob.astype(float), epsilon, 1 - epsilon)
    return clipped
