"""python benchmarks/evaluation.py [--large]; seen on 2 idle cores:

label report 0.014 s; ROC-AUC and AP 0.12 s, 42x scikit-learn; 1,000 draws of macro F1 0.87 s; page
3.4 s and 11.3 MB; large: 14.3 s, 0.13 GB beyond the 4 GB of scores.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from tltoolkit.evaluation import Report, label_report
from tltoolkit.evaluation.scores import ranking_figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also 1,000,000 x 1,000, 6 GB")
    arguments = parser.parse_args()
    labels()
    against_scikit_learn()
    intervals()
    page()
    if arguments.large:
        large()


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The best of a few runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def random_scores(n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, scores = rng.integers(0, n_classes, n), rng.random((n, n_classes), np.float32)
    scores[np.arange(n), y] += np.float32(0.5)
    return y, scores


def probabilities(n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    y, scores = random_scores(n, n_classes)
    scores **= 8
    return y, scores / scores.sum(axis=1, keepdims=True)


def labels() -> None:
    rng = np.random.default_rng(0)
    y, given = rng.integers(0, 1000, (2, 1_000_000))

    def work() -> None:
        counts = label_report(y, given, 1000)
        _ = counts.precision, counts.recall, counts.specificity, counts.f1_macro
        _ = counts.f1_micro, counts.f1_weighted, counts.mcc, counts.kappa

    print(f"label report, 1,000,000 x 1,000: {seconds(work):.3f} s (goal 0.1)")


def against_scikit_learn() -> None:
    y, scores = random_scores(100_000, 100)
    truth = y[:, None] == np.arange(100)

    def theirs() -> None:
        for c in range(100):
            roc_auc_score(truth[:, c], scores[:, c])
            average_precision_score(truth[:, c], scores[:, c])

    ours, reference = seconds(lambda: ranking_figures(y, scores)), seconds(theirs, 1)
    times = f"{ours:.2f} s, scikit-learn {reference:.1f} s"
    print(f"ROC-AUC and AP, 100,000 x 100: {times}, {reference / ours:.0f}x (goal 20x)")


def intervals() -> None:
    y, prob = probabilities(100_000, 100)
    report = Report.from_predictions(y, prob)
    _ = report.f1_macro
    seed = iter(range(10))  # a new seed each time: the report keeps its draws
    took = seconds(lambda: report.interval("f1_macro", seed=next(seed)))
    print(f"1,000 draws of macro F1, 100,000 x 100: {took:.2f} s (goal 2)")


def page() -> None:
    y, prob = probabilities(5_000, 100)
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    report = Report.from_predictions(y, prob, image=lambda row: np.roll(noise, row, axis=0))
    with tempfile.TemporaryDirectory() as directory:
        took = seconds(lambda: report.save(directory, page=True), 1)
        size = (Path(directory) / "report.html").stat().st_size / 1e6
    print(f"page, 5,000 x 100, intervals included: {took:.1f} s, {size:.1f} MB (goal 15 MB)")


def large() -> None:
    y, scores = random_scores(1_000_000, 1000)
    before = peak_gigabytes()
    processor = time.process_time()
    took = seconds(lambda: ranking_figures(y, scores), 1)
    processor, extra = time.process_time() - processor, peak_gigabytes() - before
    times = f"{took:.1f} s (goal 30), {processor:.1f} s of processor time"
    print(f"ROC-AUC and AP, 1,000,000 x 1,000: {times}, {extra:.2f} GB (goal 1)")


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
