"""Plans on sets of different kinds: accuracy, macro F1, log loss, seconds and ranks.

    python benchmarks/suite.py SET ... [--plans probe solve auto guide] [--seeds 0 1 2]
        [--budget 5m] [--backbone NAME] [--image-size N] [--results suite.jsonl] [--quick]

A SET is a folder of train, val and test folders with a folder per class in each; a folder of such
sets stands for all of them. `probe` is plan="linear_probe" (logistic regression on the last
layer), `solve` the head on all blocks in closed form, `auto` what `fine_tune` does by itself
within the budget, and `guide` plain Keras as its transfer-learning guide has it, with the same
weights, images and splits. Each cell runs in a process of its own and is appended to the results;
a second call goes on with what is missing. `--quick` takes 8 images a class and leaves out what
fine-tunes. Log loss is that of the probabilities as they come.

Seen on 2 cores, seed 0, probe and solve, accuracy / macro F1 / log loss in seconds: letters
.833 / .833 / .964 in 15, .992 / .992 / .081 in 19; blood cells .830 / .613 / .686 in 12,
.900 / .692 / .380 in 17; spoken digits .697 / .697 / .984 in 32, .940 / .939 / .192 in 29.
Solved heads, mean of seven sets, seed 0: efficientnet_lite0 .914 / .878 / .277; lite1 at 240 pixels
.924 / .889 / .242, at 224 .922 / .887 / .244; lite2 at 260 .922 / .888 / .253, at 224
.927 / .891 / .249.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PLANS = ("probe", "solve", "auto", "guide")
QUICK = ("probe", "solve")
EACH = 8  # images a class with --quick
FIGURES = ("accuracy", "f1_macro", "log_loss", "seconds")
# The guide's epochs and rates: the head on a frozen base, then everything at a small rate.
HEAD_EPOCHS, TUNED_EPOCHS = 20, 10
HEAD_RATE, TUNED_RATE = 1e-3, 1e-5


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--plans", nargs="+", choices=PLANS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, help="other pixels than the backbone's")
    parser.add_argument("--results", type=Path, default=Path("suite.jsonl"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        print(json.dumps(measured(json.loads(args.cell))))
        return
    plans = args.plans or (QUICK if args.quick else PLANS)
    shared = {name: getattr(args, name) for name in ("budget", "quick", "backbone", "image_size")}
    cells = [
        {"set": str(path), "plan": plan, "seed": seed, **shared}
        for path in found(args.sets)
        for seed in args.seeds
        for plan in plans
    ]
    for cell in cells:
        if cell not in [row["cell"] for row in rows(args.results)]:
            row = {"cell": cell, **run(cell)}
            with args.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row.get("error") or line(row), flush=True)
    print(table([row for row in rows(args.results) if row["cell"] in cells]))


def found(paths: list[Path]) -> list[Path]:
    """The sets among folders, and in folders of sets."""
    sets: list[Path] = []
    for path in paths:
        inside = [one for one in sorted(path.iterdir()) if (one / "train").is_dir()]
        sets += [path] if (path / "train").is_dir() else inside
    if not sets:
        raise SystemExit(f"no folder with train, val and test in {', '.join(map(str, paths))}")
    return sets


def rows(results: Path) -> list[dict[str, Any]]:
    """What was measured before; a cell that failed is tried again."""
    if not results.exists():
        return []
    read = [json.loads(text) for text in results.read_text().splitlines()]
    return [row for row in read if "error" not in row]


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Measure a cell in a process of its own, which takes its memory and threads with it."""
    command = [sys.executable, __file__, cell["set"], "--cell", json.dumps(cell)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return {"error": f"{cell['set']} {cell['plan']} seed {cell['seed']}: {last}"}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(cell: dict[str, Any]) -> dict[str, Any]:
    """The figures of a cell on the test split."""
    import tltoolkit as tl

    data = tl.data.from_directory(cell["set"], on_bad="skip", duplicates="allow")
    if cell["quick"]:
        data = few(data)
    size = cell["image_size"]
    weights = "imagenet"
    started = time.perf_counter()
    if cell["plan"] == "guide":
        probabilities = guide(data, cell["backbone"], size, weights, cell["seed"])
        took = time.perf_counter() - started
        report = tl.Report.from_predictions(data.test.labels, probabilities, data.class_names)
        why = ""
    else:
        model = tl.build_classifier(
            cell["backbone"], data.class_names, weights, size, seed=cell["seed"]
        )
        started = time.perf_counter()
        options = {"budget": cell["budget"]} if cell["plan"] == "auto" else {}
        plan = {"probe": "linear_probe"}.get(cell["plan"], cell["plan"])
        trained = tl.fine_tune(model, data, plan, seed=cell["seed"], verbose=0, **options)
        took, why = time.perf_counter() - started, trained.why
        report = tl.evaluate(trained.model, data.test)
    figures = {name: float(getattr(report, name)) for name in FIGURES[:3]}
    return {**figures, "seconds": took, "images": len(data.train), "why": why}


def few(data: Any) -> Any:
    """The first images of each class."""
    import dataclasses

    import numpy as np

    def part(split: Any) -> Any:
        kept = [np.flatnonzero(split.labels == c)[:EACH] for c in range(len(data.class_names))]
        return split.subset(np.sort(np.concatenate(kept)))

    splits = {name: part(split) for name, split in data.splits.items()}
    return dataclasses.replace(data, **splits)


def guide(data: Any, name: str, image_size: int | None, weights: str | None, seed: int) -> Any:
    """Test probabilities of plain Keras, as "Transfer learning & fine-tuning" of its guides."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tltoolkit import backbones

    keras.utils.set_random_seed(seed)
    side = image_size or backbones.get(name).image_size

    def arrays(split: Any) -> tuple[Any, Any]:
        images = [tf.image.resize(split.image(i), (side, side)).numpy() for i in range(len(split))]
        return np.stack(images).round().astype(np.uint8), split.labels

    pixels = keras.Input((side, side, 3))
    features = backbones.build(name, pixels, weights=weights, seed=seed)
    base = keras.Model(pixels, features)
    base.trainable = False
    augment = keras.Sequential(
        [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]
    )
    inputs = keras.Input((side, side, 3))
    x = base(augment(inputs), training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(len(data.class_names))(x))
    (x_train, y_train), (x_val, y_val) = arrays(data.train), arrays(data.val)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for rate, epochs, whole in (
        (HEAD_RATE, HEAD_EPOCHS, False),
        (TUNED_RATE, TUNED_EPOCHS, True),
    ):
        base.trainable = whole
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(x_train, y_train, epochs=epochs, validation_data=(x_val, y_val), verbose=0)
    return tf.nn.softmax(model.predict(arrays(data.test)[0], verbose=0)).numpy()


def line(row: dict[str, Any]) -> str:
    """A measured cell."""
    cell = row["cell"]
    figures = " ".join(f"{row[name]:>9.3f}" for name in FIGURES)
    return f"{Path(cell['set']).name:<14} {cell['plan']:<6} seed {cell['seed']} {figures}"


def table(measured: list[dict[str, Any]]) -> str:
    """Means over seeds for each set and plan, and means and ranks over sets."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in measured:
        cells.setdefault((Path(row["cell"]["set"]).name, row["cell"]["plan"]), []).append(row)
    plans = [plan for plan in PLANS if any(plan == other for _, other in cells)]
    sets = list(dict.fromkeys(name for name, _ in cells))
    lines = [f"{'set':<14} {'plan':<6} {'accuracy':>9} {'spread':>7} {'f1_macro':>9} "
             f"{'log_loss':>9} {'seconds':>8}"]  # fmt: skip
    means: dict[str, list[dict[str, float]]] = {plan: [] for plan in plans}
    ranks: dict[str, list[int]] = {plan: [] for plan in plans}
    for name in sets:
        its = {plan: cells[name, plan] for plan in plans if (name, plan) in cells}
        mean = {
            plan: {figure: statistics.fmean(row[figure] for row in rows) for figure in FIGURES}
            for plan, rows in its.items()
        }
        order = sorted(mean, key=lambda plan: -mean[plan]["accuracy"])
        for plan, rows in its.items():
            accuracies = [row["accuracy"] for row in rows]
            spread = statistics.stdev(accuracies) if len(rows) > 1 else 0.0
            lines.append(shown(name, plan, mean[plan], spread))
            means[plan].append(mean[plan])
            ranks[plan].append(1 + order.index(plan))
    for plan in plans:
        over = {f: statistics.fmean(one[f] for one in means[plan]) for f in FIGURES}
        lines.append(f"{shown('mean', plan, over, 0.0)}  rank {statistics.fmean(ranks[plan]):.1f}")
    return "\n".join(lines)


def shown(name: str, plan: str, mean: dict[str, float], spread: float) -> str:
    """A line of the table."""
    return (
        f"{name:<14} {plan:<6} {mean['accuracy']:>9.3f} {spread:>7.3f} {mean['f1_macro']:>9.3f} "
        f"{mean['log_loss']:>9.3f} {mean['seconds']:>8.0f}"
    )


if __name__ == "__main__":
    main()
