"""Whether an exported file says what the classifier said, on the same images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tltoolkit.artifacts import inference
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.evaluation import Decision, Report
from tltoolkit.evaluation.text import plain

# Of probabilities: float32 in another order of additions stays far below; weights of three digits,
# as half precision has them, move those that are in doubt by one or two hundredths. Numbers of
# eight bits are judged by what they cost.
DIFFERENCES = {None: 1e-3, "float16": 2e-2}
# A fall of macro F1 that somebody would see.
FALL = 0.01
# Images to compare on, at most: a minute for a slow model, and one of them is 0.2 %.
MOST = 500
# Where no image is given.
MADE_UP = 16
BATCH = 32  # images per forward pass, as in prediction
ADVICE = {
    "int8": "calibrate on more images (300 are usual) that are like those to come, or quantize to "
    "float16",
    "float16": "export without `quantize`",
    None: "report it with the model's layers; another format may compute it exactly",
}

Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was exported, and how it compares with the classifier on the same images.

    Attributes:
        path: Of the file, or the folder of a SavedModel.
        format: One of "litert", "onnx", "openvino", "saved_model".
        quantize: "float16", "int8" or None.
        size: Of all files, in bytes.
        images: How many were compared.
        largest_difference: Between two probabilities of a class for an image.
        label_agreement: The share of the images that get the same label, in [0, 1].
        accuracy: Of the classifier and of the file, in [0, 1]; None without labelled images.
        f1_macro: The same of both.
        log_loss: The same of both.
        advice: What is wrong and what helps, or an empty text.
    """

    path: Path
    format: str
    quantize: str | None
    size: int
    images: int
    largest_difference: float
    label_agreement: float
    accuracy: Pair | None = None
    f1_macro: Pair | None = None
    log_loss: Pair | None = None
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; of two figures the first is the classifier's."""
        told: dict[str, Any] = plain({**vars(self), "path": self.path.name})
        return told

    def __str__(self) -> str:
        kind = f"{self.format}, {self.quantize}" if self.quantize else self.format
        what = "images" if self.accuracy else "made-up images"
        lines = [
            f"{self.path}: {kind}, {self.size / 1e6:.1f} MB",
            f"compared on {self.images:,} {what}:",
            f"  same label          {self.label_agreement:.2%}",
            f"  largest difference  {self.largest_difference:.2g}",
        ]
        for name in ("accuracy", "f1_macro", "log_loss"):
            if (pair := getattr(self, name)) is not None:
                lines.append(f"  {name:<19} {pair[0]:.4f} before, {pair[1]:.4f} after")
        return "\n".join(lines + [self.advice] * bool(self.advice))


def compare(before: Predictor, after: Predictor, split: Any) -> dict[str, Any]:
    """The figures of an `Export`.

    Args:
        before: The classifier.
        after: What was exported.
        split: Labelled images in the classifier's classes; None makes some up.

    Raises:
        ValueError: What was exported does not compute.
    """
    source = _MadeUp(before.engine.image_size) if split is None else split
    first = inference.proba(before.engine, source, BATCH)
    try:
        second = inference.proba(after.engine, source, BATCH)
    except Exception as error:  # whatever a runtime may raise
        reason = " ".join(str(error).split())
        raise ValueError(f"what was made of the model does not compute: {reason}") from error
    labels = [before.decision.decide(p).labels for p in (first, second)]
    same = (labels[0] == labels[1]).reshape(len(first), -1).all(axis=1)
    figures: dict[str, Any] = {
        "images": len(first),
        "largest_difference": float(np.abs(first - second).max()),
        "label_agreement": float(same.mean()),
    }
    if split is not None:
        reports = [_report(before, split, p) for p in (first, second)]
        for name in ("accuracy", "f1_macro", "log_loss"):
            figures[name] = tuple(float(getattr(report, name)) for report in reports)
    return figures


def advice(quantize: str | None, figures: dict[str, Any]) -> str:
    """What is wrong with what was exported, and what helps; an empty text where it is well."""
    found = []
    limit = DIFFERENCES.get(quantize)
    if limit is not None and figures["largest_difference"] > limit:
        found.append(
            f"probabilities differ by up to {figures['largest_difference']:.2g}, above {limit:g}"
        )
    before, after = figures.get("f1_macro", (0.0, 0.0))
    if before - after > FALL:
        found.append(f"macro F1 falls from {before:.4f} to {after:.4f}")
    return f"{' and '.join(found)}: {ADVICE[quantize]}" if found else ""


def _report(predictor: Predictor, split: Any, prob: np.ndarray) -> Report:
    several, decision = split.multi_label, predictor.decision
    report = Report.from_predictions(split.labels, prob, split.class_names, multi_label=several)
    # As `tl.evaluate` of a predictor: the raw report where nothing is decided.
    return report if decision == Decision(multi_label=several) else report.decide(decision)


class _MadeUp:
    """Images that nobody took: noise, coarse and fine, light and dark."""

    def __init__(self, side: int) -> None:
        rng = np.random.default_rng(0)
        self.images = []
        for i in range(MADE_UP):
            small = rng.random((2 + i, 2 + i, 3)) ** rng.uniform(0.3, 3)
            places = np.arange(side) * (2 + i) // side
            self.images.append((255 * small[places][:, places]).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> np.ndarray:
        return self.images[i]
