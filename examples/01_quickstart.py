"""Train EfficientNet-Lite0 on scikit-learn's handwritten digits, or on your own folder.

Command:  python examples/01_quickstart.py [--data DIR] [--run-dir DIR]
Time:     about 30 s on 2 cores
Expected: test accuracy above 0.98 on the digits; the report, five predictions, and a new
          directory under runs/ that `tltoolkit.load` reads.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import tltoolkit as tl


def digits() -> tl.data.ImageData:
    """1,797 scans of 8 x 8 pixels, enlarged by the toolkit as any other image."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return tl.data.from_arrays(pixels, labels, val=0.15, test=0.25, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images, one folder per class")
    parser.add_argument("--run-dir", type=Path, help="a new directory for the result")
    arguments = parser.parse_args()
    run_dir = arguments.run_dir or Path("runs") / time.strftime("quickstart-%Y%m%d-%H%M%S")

    if arguments.data:
        data = tl.data.from_directory(arguments.data, val=0.15, test=0.25)
        model = tl.build_classifier("efficientnet_lite0", data.class_names)
    else:
        data = digits()
        model = tl.build_classifier("efficientnet_lite0", data.class_names, image_size=64)

    # A head on all blocks in closed form; plan="auto", the default, fine-tunes them as well.
    run = tl.fine_tune(model, data, plan="solve", run_dir=run_dir)
    print(tl.evaluate(run.model, data.test))

    predictor = tl.load(run_dir)
    images = [data.test.image(i) for i in range(5)]
    for label, said in zip(data.test.labels, predictor.predict(images), strict=False):
        print(f"true {data.class_names[label]}: predicted {said.label} ({said.probability:.3f})")
    print(f"The classifier is in {run_dir}")


if __name__ == "__main__":
    main()
