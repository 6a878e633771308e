"""Strangers: which score tells images that are like none of training, and what a limit refuses.

    python benchmarks/strangers.py SET ... [--features FOLDER] [--seeds 0 1 2]
        [--backbone NAME] [--image-size N] [--results strangers.json]

A SET is a folder of train, val and test folders with a folder per class in each; a folder of such
sets stands for all of them; two or more. Features are those that plan="solve" reads (means,
deviations and maxima of all blocks), kept in FOLDER once computed. `far` are the test images of
the other sets, the mean of one AUROC for each of them and the least; `near` those of a quarter of
the set's own classes, left out of training, the mean over draws of classes (seeds). `refused` is
the share of known test images and of far strangers below a familiarity of 0.01 and of 0.05.

principal  what tltoolkit does: 128 principal directions and the energy beside them
along      the same without the energy; beside: the energy alone
relative   principal less the distance to all images as one class (Ren et al. 2021)
full       all directions of the scatter within classes, the rest of its space alike
nearest    10th nearest training image, features of length 1 (Sun et al. 2022)
softmax    1 - the largest probability of the solved head; energy: -log sum exp of its logits

Seen on 2 cores, seven sets (TrashNet and a suite of small ones), EfficientNet-Lite0 at 224 pixels,
6,288 features, mean over sets:

score         far  least   near
principal   0.995  0.960  0.714
along       0.982  0.837  0.722
beside      0.995  0.959  0.714
relative    0.995  0.959  0.714
full        0.996  0.966  0.734
nearest     0.970  0.771  0.663
softmax     0.743  0.006  0.721
energy      0.695  0.000  0.742

Of the known 0 to 1.1 % were below 0.01 and 2.4 to 9.1 % below 0.05 (clothes, whose test images are
other people's); of far strangers 60 to 100 % and 84 to 100 %. 1.6 to 3.4 MB, where "full" needs the
class means and 400 directions, three times as much for 40 classes; 0.1 to 1.7 s of one core.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.metrics import roc_auc_score

Rows = Any
Score = Callable[[Rows], Any]
SPLITS = ("train", "val", "test")
LIMITS = (0.01, 0.05)
LEFT_OUT = 0.25  # of the classes, as near strangers
NEIGHBOUR = 10
WIDE = 400  # directions of "full", at most


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--features", type=Path, default=Path("strangers_features"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, help="other pixels than the backbone's")
    parser.add_argument("--results", type=Path, default=Path("strangers.json"))
    args = parser.parse_args()
    sets = found(args.sets)
    args.features.mkdir(exist_ok=True)
    parts = computed(sets, args)
    stored = {path.name: {s: read(args.features, path.name, s) for s in SPLITS} for path in sets}
    rows = [measured(name, stored, parts, args.seeds) for name in stored]
    args.results.write_text(json.dumps(rows, indent=2) + "\n")
    print(table(rows))


def found(paths: list[Path]) -> list[Path]:
    """The sets among folders, and in folders of sets."""
    sets: list[Path] = []
    for path in paths:
        inside = [one for one in sorted(path.iterdir()) if (one / "train").is_dir()]
        sets += [path] if (path / "train").is_dir() else inside
    if len(sets) < 2:
        raise SystemExit("name two sets or more: each is a stranger to the others")
    return sets


def read(folder: Path, name: str, split: str) -> tuple[Rows, Rows]:
    """Features (N, F) and labels (N,) of a split."""
    kept = np.load(folder / f"{name}_{split}.npz")
    return kept["x"], kept["y"]


def computed(sets: list[Path], args: argparse.Namespace) -> dict[str, slice]:
    """Compute what is missing in the folder; name -> columns of the features."""
    import tltoolkit as tl
    from tltoolkit import augment
    from tltoolkit.model.network import network_of
    from tltoolkit.runs import auto
    from tltoolkit.training import closed, features

    plain = tl.build_classifier(args.backbone, ("a", "b"), image_size=args.image_size)
    network = network_of(auto.widened(plain))
    cut = network.model.get_layer("head_features").output
    function = features.frozen_function(network.model, cut, features.FEWEST * 10)
    for path in sets:
        missing = [s for s in SPLITS if not (args.features / f"{path.name}_{s}.npz").exists()]
        if not missing:
            continue
        data = tl.data.from_directory(path, on_bad="skip", duplicates="allow").check()
        for name in missing:
            split = data.splits[name]
            batches = augment.Batches(split, network.plain, batch_size=32)
            rows = np.concatenate([function(images) for images, _ in batches])
            np.savez(args.features / f"{path.name}_{name}.npz", x=rows, y=split.labels)
    return closed.parts_of(network, cut.shape[-1])


def measured(name: str, stored: Any, parts: Any, seeds: list[int]) -> dict[str, Any]:
    """The figures of one set."""
    from tltoolkit.solving.familiarity import Distance, Familiarity
    from tltoolkit.solving.ranks import Ranks

    train, val, test = (stored[name][split] for split in SPLITS)
    others = {other: its["test"][0] for other, its in stored.items() if other != name}
    far: dict[str, list[float]] = {}
    for score, function in scores(train, val, parts).items():
        known = function(test[0])
        far[score] = [auroc(known, function(x)) for x in others.values()]
    near: dict[str, list[float]] = {}
    for seed in seeds:
        out = left_out(train[1], seed)
        inside = [tuple(part[~np.isin(s[1], out)] for part in s) for s in (train, val, test)]
        strange = test[0][np.isin(test[1], out)]
        for score, function in scores(*inside[:2], parts).items():
            near.setdefault(score, []).append(auroc(function(inside[2][0]), function(strange)))
    distance = Distance.of(*train, parts, int(train[1].max()) + 1)
    known_of = Familiarity(distance, Ranks.of(distance(val[0])))
    known, strange = known_of(test[0]), np.concatenate([known_of(x) for x in others.values()])
    row = {
        "set": name,
        "far": {score: statistics.fmean(values) for score, values in far.items()},
        "far_least": {score: min(values) for score, values in far.items()},
        "near": {score: statistics.fmean(values) for score, values in near.items()},
        "known_refused": [float(np.mean(known < limit)) for limit in LIMITS],
        "far_refused": [float(np.mean(strange < limit)) for limit in LIMITS],
        "megabytes": sum(array.nbytes for array in known_of.arrays().values()) / 1e6,
    }
    print(json.dumps(row), flush=True)
    return row


def left_out(labels: Rows, seed: int) -> Rows:
    """A quarter of the classes, one or more."""
    classes = int(labels.max()) + 1
    drawn = np.random.default_rng(seed).permutation(classes)
    return np.sort(drawn[: max(1, round(LEFT_OUT * classes))])


def auroc(known: Rows, strange: Rows) -> float:
    """How often a stranger scores higher than a known image."""
    truth = np.repeat([0, 1], [len(known), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([known, strange])))


def scores(train: tuple[Rows, Rows], val: tuple[Rows, Rows], parts: Any) -> dict[str, Score]:
    """Name -> score of rows of features (N, F); larger is stranger."""
    from tltoolkit.solving.familiarity import Distance

    x, names = train[0], np.unique(train[1])
    labels = np.searchsorted(names, train[1])
    distance = Distance.of(x, labels, parts, len(names))

    def scaled(rows: Rows) -> Rows:
        return ((rows - distance.mean) * distance.factor).astype(np.float32)

    def pieces(rows: Rows) -> tuple[Rows, Rows, Rows]:
        z = scaled(rows)
        along = z @ distance.axes
        left = np.square(z).sum(1) - np.square(along).sum(1)
        at = along @ distance.white
        nearest = np.min([np.square(at - mean).sum(1) for mean in distance.means], axis=0)
        return nearest, left * distance.rest[0], along

    spread = pieces(x)[2].var(0)
    bank = scaled(x)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)

    def nearest(rows: Rows) -> Rows:
        z = scaled(rows)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        return -np.partition(z @ bank.T, -NEIGHBOUR, axis=1)[:, -NEIGHBOUR]

    def relative(rows: Rows) -> Rows:
        first, beside, along = pieces(rows)
        return first + beside - np.square(along / np.sqrt(spread)).sum(1)

    logits = solved(train, val, names, parts)
    return {
        "principal": distance,
        "along": lambda rows: pieces(rows)[0],
        "beside": lambda rows: pieces(rows)[1],
        "relative": relative,
        "full": full(scaled(x), labels, scaled),
        "nearest": nearest,
        "softmax": lambda rows: -softmax(logits(rows), axis=1).max(1),
        "energy": lambda rows: -logsumexp(logits(rows), axis=1),
    }


def full(z: Rows, labels: Rows, scaled: Score) -> Score:
    """Distance to the nearest mean in all of the space, the leading directions within classes."""
    means = np.stack([z[labels == c].mean(0) for c in range(labels.max() + 1)])
    within = z - means[labels]
    freedom = max(len(z) - len(means), 1)
    values, vectors = np.linalg.eigh((within @ within.T).astype(np.float64))
    keep = np.argsort(values)[::-1][: min(WIDE, freedom // 2)]
    axes = within.T @ (vectors[:, keep] / np.sqrt(values[keep])).astype(np.float32)
    spread = values[keep] / freedom
    rest = (np.square(within).sum() / freedom - spread.sum()) / (z.shape[1] - len(keep))

    lengths, places = np.square(means).sum(1), means @ axes

    def score(rows: Rows) -> Rows:
        z_rows = scaled(rows)
        at = z_rows @ axes
        gaps = np.square(z_rows).sum(1)[:, None] + lengths - 2 * z_rows @ means.T
        found = []
        for place, gap in zip(places, gaps.T, strict=True):
            along = np.square(at - place)
            found.append((along / spread).sum(1) + (gap - along.sum(1)) / rest)
        return np.min(found, axis=0)

    return score


def solved(train: Any, val: Any, names: Rows, parts: Any) -> Score:
    """Logits of the head that plan="solve" finds on training and validation images."""
    from tltoolkit.solving import heads
    from tltoolkit.solving.rows import Rows as Summed
    from tltoolkit.training import closed

    x = np.concatenate([train[0], val[0]])
    targets = (np.concatenate([train[1], val[1]])[:, None] == names).astype(float)
    candidates = closed.candidates_of(parts)
    choice = heads.choose(x, targets, parts, candidates, kinds=["lda"])
    rows = Summed(x, targets, np.ones(len(x)), parts, False)
    kernel, bias = heads.average(rows, candidates, choice.chosen)
    return lambda rows: rows @ kernel + bias


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each score, and one for each set."""
    lines = [f"{'score':<10} {'far':>6} {'least':>6} {'near':>6}"]
    for score in rows[0]["far"]:
        far, near = (statistics.fmean(row[kind][score] for row in rows) for kind in ("far", "near"))
        least = min(row["far_least"][score] for row in rows)
        lines.append(f"{score:<10} {far:>6.3f} {least:>6.3f} {near:>6.3f}")
    head = "principal, softmax, energy: near"
    lines.append(
        f"\n{'set':<14} {'far':>6} {head:>33} {'known refused':>15} {'far refused':>13} {'MB':>5}"
    )
    for row in rows:
        near = " ".join(f"{row['near'][one]:>10.3f}" for one in ("principal", "softmax", "energy"))
        known, far = (
            " ".join(f"{share:.3f}" for share in row[kind])
            for kind in ("known_refused", "far_refused")
        )
        lines.append(
            f"{row['set']:<14} {row['far']['principal']:>6.3f} {near:>33} {known:>15} {far:>13} "
            f"{row['megabytes']:>5.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
