"""What a map costs beside the plain prediction, and whether it shows what an answer hangs on.

    python benchmarks/explain.py                          # 1,000 images, 3 rounds
    python benchmarks/explain.py --images 200
    python benchmarks/explain.py --data DIR --images 60   # DIR/{train,val,test}/<class>/*

Seen on 2 cores that others used too: for 1,000 images `explain` took 1.16 times the processor
time of `predict` by a head on the last map (47.8 s, 41.1 s; 0.95 times by the clock), and 1.17
times by one on all blocks (55.3 s, 47.4 s; 1.16 by the clock). About 3 s of it are tracing.

Maps of 64 photographs of Caltech-101, 20 classes, as deletion / insertion:

    head          noise          blob           cam            as shown       grad_cam
    last map      0.478 / 0.484  0.306 / 0.681  0.300 / 0.775  0.284 / 0.771  0.300 / 0.775
    all blocks    0.440 / 0.416  0.258 / 0.676  0.253 / 0.832  0.247 / 0.803  0.251 / 0.794

The things lie in the middle there, which the blob gains by. "As shown" are maps, smoothed so that
a person sees more than dots: better by deletion, worse by insertion.

Time: `Predictor.predict` and `tl.explain` take the same images in memory, in turns, by a head on
the last map and by one on statistics of all blocks (EfficientNet-Lite0, 224 px). A turn is the
whole call; both have run once before, but `explain` traces its graphs anew in each.

Maps: with `--data`, a head on the last map and one on all blocks are solved on DIR (LDA). Of test
images that are answered right, pixels are replaced by the image's mean in the order of a map
(deletion: the lower the better) or given back to an image that is all mean (insertion: the higher
the better), in tenths; shown is the mean probability of the answer over all tenths (Petsiuk et al.
2018), for each method, for a blob in the middle and for noise.
"""

import argparse
import functools
import os
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import tltoolkit as tl
from tltoolkit.artifacts.predictor import Predictor

Call = Callable[[list[np.ndarray]], None]
SIDE, TENTHS = 224, np.arange(1, 10) / 10
HEADS = {"last map": tl.Head(), "all blocks": tl.Head(taps="all", statistics=("mean", "std"))}


def timed(count: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8))
    for name, head in HEADS.items():
        names = [str(i) for i in range(20)]
        model = tl.build_classifier(class_names=names, image_size=SIDE, head=head)
        predictor = Predictor(model=model, class_names=tuple(names))
        calls = (functools.partial(predicted, predictor), functools.partial(explained, predictor))
        for call in calls:
            call(images[:32])
        ratios = []
        for _ in range(rounds):
            (plain, cpu), (maps, more) = (spent(call, images) for call in calls)
            ratios.append((maps / plain, more / cpu))
            print(
                f"{name}: predict {plain:.1f} s ({cpu:.1f} s of CPU), explain {maps:.1f} s "
                f"({more:.1f}), {maps / plain:.2f} times, by CPU {more / cpu:.2f}"
            )
        print(f"{name}, median of {rounds}: {np.median(ratios, axis=0).round(3)}")


def predicted(predictor: Predictor, images: list[np.ndarray]) -> None:
    predictor.predict(images)


def explained(predictor: Predictor, images: list[np.ndarray]) -> None:
    assert tl.explain(predictor, images).maps.max() == 1


def spent(call: Call, images: list[np.ndarray]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    began, cpu = time.perf_counter(), time.process_time()
    call(images)
    return time.perf_counter() - began, time.process_time() - cpu


def judged(root: str, count: int) -> None:
    data = tl.data.from_directory(root)
    assert data.test is not None
    for name, head in HEADS.items():
        model = tl.build_classifier(class_names=data.class_names, head=head)
        stage = tl.Stage("head", optimizer="lda", augment="none")
        tl.fine_tune(model, data, tl.Plan((stage,)), "none", verbose=0)
        predictor = Predictor(model=model, class_names=data.class_names)
        report = tl.evaluate(model, data.test)
        print(f"{name}: accuracy {report.accuracy:.3f}")
        right = np.flatnonzero(report.rows.right)
        rows = np.random.default_rng(0).permutation(right)[:count]
        for method, ranked, images in rankings(predictor, data.test.subset(np.sort(rows))):
            deleted, inserted = (survival(predictor, images, ranked, d) for d in (True, False))
            print(f"  {method:22} deletion {deleted:.3f}, insertion {inserted:.3f}", flush=True)


def rankings(predictor: Predictor, split: object) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    cam = tl.explain(predictor, split)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    rows, columns = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    blob = np.exp(-(rows**2 + columns**2) / (2 * (SIDE / 4) ** 2))
    noise = rng.random((len(cam.images), 7, 7)).repeat(32, 1).repeat(32, 2)
    yield "noise", noise, cam.images
    yield "blob in the middle", np.broadcast_to(blob, noise.shape), cam.images
    yield "cam", cam.evidence, cam.images
    yield "cam, as shown", cam.maps, cam.images
    yield "grad_cam", tl.explain(predictor, split, "grad_cam").evidence, cam.images  # type: ignore[arg-type]


def survival(predictor: Predictor, images: np.ndarray, ranked: np.ndarray, delete: bool) -> float:
    whole = np.concatenate(
        [predictor.engine.said(images[i : i + 32]) for i in range(0, len(images), 32)]
    )
    targets = whole.argmax(axis=1)
    mean = images.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
    found = []
    # A rank of its own for each pixel: where values are equal, a limit would take all of them.
    order = ranked.reshape(len(images), -1).argsort(axis=1).argsort(axis=1).reshape(ranked.shape)
    for share in TENTHS:
        first = order >= (1 - share) * SIDE**2
        changed = np.where((first if delete else ~first)[..., None], mean, images)
        for i in range(0, len(images), 32):
            said = predictor.engine.said(changed[i : i + 32])
            found += list(said[range(len(said)), targets[i : i + 32]])
    return float(np.mean(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", help="a folder of labelled photographs")
    args = parser.parse_args()
    if args.data:
        judged(args.data, args.images or 60)
    else:
        timed(args.images or 1000, args.rounds)
