"""Answer over HTTP: POST /predict, and a page for people at /.

POST /predict takes images as files of a form, or the bytes of one image, and answers as
`tltoolkit predict --json` does. /openapi.json says it in full, /health that it answers, /metrics
how much. SIGTERM ends it when it has answered what it was asked.
"""

import argparse
import ipaddress
import sys
from functools import partial
from typing import TextIO

from tltoolkit.artifacts.terms import MIN_FAMILIARITY
from tltoolkit.cli import options, outputs
from tltoolkit.deploy.terms import HOST, PORT, SERVE


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = __doc__.split("\n\n", 1)[1]
    add = parser.add_argument
    add("run_dir", metavar="RUN_OR_FILE", help="what `tltoolkit fit` or `tltoolkit export` wrote")
    add(
        "--host",
        default=HOST,
        help="address to listen on (default %(default)s, this machine alone; 0.0.0.0 is all)",
    )
    add("--port", **options.allowing(SERVE["port"], "0 takes a free one", default=PORT))
    familiar = options.allowing(MIN_FAMILIARITY, "abstain of strangers, as `predict` does")
    add("--min-familiarity", **familiar)


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print where it is as soon as it answers."""
    from tltoolkit.deploy import serving

    listener, url = serving.listening(args.run_dir, args.host, args.port)
    with listener:
        tl = options.toolkit(args, options.needs_tensorflow(args.run_dir))
        predictor = tl.load(args.run_dir)
        predictor.check_familiarity(args.min_familiarity)
        if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            print("tltoolkit: whoever reaches this address may ask", file=sys.stderr)
        ready = partial(outputs.show, args, out, {"url": url}, url)
        serving.run(predictor, listener, ready, min_familiarity=args.min_familiarity)
    return 0
