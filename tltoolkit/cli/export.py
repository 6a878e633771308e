"""Write a trained classifier as a file for phones, browsers and servers, and compare the two.

What `tltoolkit predict` answers is the same for the file, which needs no TensorFlow.
"""

import argparse
from typing import TextIO

from tltoolkit.cli import options, outputs, stored
from tltoolkit.deploy.terms import EXPORT
from tltoolkit.files import reading


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = __doc__.split("\n\n", 1)[1]
    add = parser.add_argument
    add("run_dir", metavar="RUN", help="what `tltoolkit fit` or tl.save wrote")
    add("path", metavar="OUT", help="a new file, such as x.onnx; a new folder for saved_model")
    told = "; as OUT ends if left out"
    add("--format", **options.allowing(EXPORT["format"], "of the file", told=told))
    add("--quantize", **options.allowing(EXPORT["quantize"], "smaller numbers, for speed and size"))
    add(
        "--data",
        metavar="DIR",
        help="labelled images, as for `tltoolkit fit`, split as in RUN: int8 is calibrated on its "
        "training images, and the two are compared on its validation images",
    )
    add("--strict", action="store_true", help="write nothing where the two differ too much")


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the comparison."""
    from tltoolkit.deploy import targets

    targets.checked(reading.local(args.path), args.format, args.quantize)
    if args.quantize == "int8" and args.data is None:
        raise ValueError("--quantize int8 needs --data DIR, images to calibrate on")
    tl = options.toolkit(args)
    predictor = tl.load(args.run_dir)
    seen = stored.seen_by(predictor)
    images = None if args.data is None else stored.images(args.data, seen)
    found = tl.export(
        predictor,
        args.path,
        args.format,
        args.quantize,
        calibration=images and images.train,
        validation=images and images.val,
        strict=args.strict,
    )
    outputs.show(args, out, {"export": found.to_dict()}, found)
    return 0
