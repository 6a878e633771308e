"""python examples/05_report.py [--out DIR]

Takes about 3 seconds and needs `pip install 'tltoolkit[report]'` for the page. Two classifiers of
scikit-learn's handwritten digits; prints the report of the better one on the test split (accuracy
0.96), what thresholds, temperature and abstention change, and whether the better one is
better by more than luck. Writes report.json and report.html into runs/05_report.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from tltoolkit.evaluation import Report, compare


def main(out: Path) -> None:
    digits = load_digits()
    everything = np.arange(len(digits.target))
    split = {"random_state": 0, "stratify": digits.target}
    train, test = train_test_split(everything, test_size=0.3, **split)
    train, val = train_test_split(
        train, test_size=0.3, random_state=0, stratify=digits.target[train]
    )
    x, y = digits.data / 16, digits.target
    neighbours = KNeighborsClassifier(15).fit(x[train], y[train])
    linear = LogisticRegression(C=0.01).fit(x[train], y[train])

    def report_of(model: LogisticRegression | KNeighborsClassifier, rows: np.ndarray) -> Report:
        return Report.from_predictions(
            y[rows],
            model.predict_proba(x[rows]),
            class_names=[f"digit {name}" for name in digits.target_names],
            names=[f"scan {row}" for row in rows],
            image=lambda i: scan(digits.images[rows[i]]),
        )

    report, rival = report_of(neighbours, test), report_of(linear, test)
    print(report)

    print("\nIs the nearest-neighbour classifier better than the linear one?")
    for metric in ("accuracy", "f1_macro", "log_loss"):
        print(" ", compare(rival, report, metric))

    print("\nChosen on the validation split, applied to the test split, linear classifier:")
    validation = report_of(linear, val)
    temperature = validation.fit_temperature()
    scaled = rival.apply(temperature=temperature)
    print(f"  temperature {temperature.value:.2f}:", end=" ")
    print(f"log loss {rival.log_loss:.3f} -> {scaled.log_loss:.3f},", end=" ")
    print(f"calibration error {rival.ece:.3f} -> {scaled.ece:.3f}")
    thresholds = validation.tune_thresholds("f1")
    tuned = rival.apply(thresholds=thresholds)
    print(f"  thresholds for F1: macro F1 {rival.f1_macro:.3f} -> {tuned.f1_macro:.3f}")
    abstention = validation.coverage_curve().threshold_for(accuracy=0.98)
    answered = ~abstention.abstains(rival.rows.confidence)
    right = rival.rows.right[answered].mean()
    print(f"  answering from confidence {abstention.threshold:.2f}:", end=" ")
    print(f"{answered.mean():.1%} of the scans answered, {right:.1%} of them right")

    print("\nMost confused:", *report.most_confused(3), sep="\n  ")
    print("\nWorst errors:", *report.top_losses(3), sep="\n  ")
    print("\nLabels worth a second look:", *scaled.label_issues()[:3], sep="\n  ")
    run = {"settings": {"classifier": str(neighbours), "training images": len(train)}}
    written = report.save(out, title="Handwritten digits, test split", run=run)
    print("\nWrote", *written)


def scan(values: np.ndarray) -> np.ndarray:
    """An 8 x 8 scan with values 0..16 as a 64 x 64 RGB image."""
    grey = np.kron(values * 255 / 16, np.ones((8, 8))).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("runs/05_report"))
    main(parser.parse_args().out)
