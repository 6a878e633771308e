"""Which rate? Are more images worth it? Which settings? And then: train on all of them.

Command:  python examples/06_tune.py [--images 1797] [--trials 12] [--storage FILE]
Time:     about 60 s on 2 cores
Expected: a learning rate for the head, a learning curve that says what twice the digits would
          bring, a table of trials whose best has a validation macro F1 above 0.9, and the test
          accuracy of a head that was trained on training and validation images, above 0.9.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import tltoolkit as tl


def digits(count: int | None) -> tl.data.ImageData:
    """Scans of 8 x 8 pixels, enlarged by the toolkit as any other image."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images[:count].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return tl.data.from_arrays(pixels, labels[:count], val=0.15, test=0.25, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help="how many of the 1,797 digits; all if left out")
    parser.add_argument("--trials", type=int, default=12, help="how many settings to try")
    parser.add_argument("--storage", type=Path, help="a file that keeps them; run again to go on")
    arguments = parser.parse_args()
    data = digits(arguments.images)

    def build() -> object:
        return tl.build_classifier("efficientnet_lite0", data.class_names, image_size=64)

    print("1. A learning rate for the head, in a hundred steps")
    found = tl.tune.find_lr(build(), data)
    print(found.advice)

    print("\n2. What more images would bring: heads on a part of them, features computed once")
    print(tl.tune.learning_curve(build, data))

    print("\n3. The best of some settings")
    rate = found.suggestion or 3e-3
    result = tl.tune.search(
        data,
        {
            "learning_rate": (rate / 10, min(1.0, rate * 10), "log"),
            "optimizer": ["adamw", "sgd"],
            "dropout": (0.0, 0.5),
            "batch_size": [32, 128],
            "epochs": 15,
            "image_size": 64,
        },
        trials=arguments.trials,
        storage=arguments.storage,
    )
    print(result)
    print(", ".join(f"{name} {share:.0%}" for name, share in result.importance.items()))

    print("\n4. Train with them, then on validation images too")
    model = tl.build_classifier(**result.build_options)
    run = tl.fine_tune(model, data, result.plan, batch_size=result.batch_size, verbose=0)
    final = tl.refit(run, data)
    print(final.why)
    print(f"test accuracy {tl.evaluate(final.model, data.test).accuracy:.4f}")


if __name__ == "__main__":
    main()
