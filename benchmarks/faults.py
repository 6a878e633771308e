"""What a training run survives: kills at random moments, full disks, Ctrl-C and SIGTERM.

    python benchmarks/faults.py [--only kills writes signals cost] [--kills 50] [--signals 20]

About 20 minutes on 2 idle cores, since every kill takes two new processes.

Seen on 2 cores, busy with other work for the first half: 50 of 50 kills ended as the run that
nothing hit, 33 of them inside a write; 20 of 20 failing writes left the old checkpoints intact
(Keras 0 of 2); SIGINT 20 of 20, SIGTERM 20 of 20; a checkpoint takes
0.25 s, 0.42 % of an epoch of 60 s.

kills: one run (two stages, shuffling, dropout, augmentation, stored views, layer-wise rates)
    gets SIGKILL at seeded random steps, from before the first to after the last, half of the
    time as soon as it is inside the write of a checkpoint. Run again, it must end with the same
    SHA-256 of its weights and the same history and best epoch as a run that nothing hit.
writes: a checkpoint's write fails at each of 20 byte offsets (a limit on the size of files), each
    in a process of its own; the checkpoints of before must be byte for byte the same. Beside it
    Keras' BackupAndRestore at two offsets, where the HDF5 library may end the process.
signals: SIGINT and SIGTERM at random steps. The exit code must be right (Python ends by the
    signal itself after Ctrl-C, which a shell shows as 130), and the newest checkpoint must
    hold exactly the steps that were done.
cost: seconds of one checkpoint of EfficientNet-Lite0, all layers trained by AdamW, as a share
    of an epoch of 60 s.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZE, IMAGES, BATCH, EPOCHS, SAVE_FREQ = 16, 160, 8, 3, 5
STEPS = 2 * EPOCHS * (IMAGES * 4 // 5 // BATCH)
LINE = b".\n"  # of the log, one for each step
WRITING = Path("run", "checkpoints", ".checkpoint-being-written")
OFFSETS = 20


def train(folder: Path) -> None:
    """The run that is hit; notes each step in `steps` and the outcome in `outcome.json`."""
    import keras
    import numpy as np

    import tltoolkit as tl

    class Log(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.file = os.open(folder / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            os.write(self.file, LINE)

    init = [keras.initializers.GlorotUniform(i) for i in range(3)]
    pixels = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, kernel_initializer=init[0], name="block1_conv")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(1024, activation="relu", kernel_initializer=init[1], name="wide")(x)
    x = keras.layers.Dropout(0.3, seed=1, name="drop")(x)
    model = keras.Model(pixels, keras.layers.Dense(2, kernel_initializer=init[2], name="out")(x))
    labels = np.arange(IMAGES) % 2
    noise = np.random.default_rng(0).integers(0, 170, (IMAGES, SIZE, SIZE, 3))
    images = (noise + 20 * labels[:, None, None, None]).astype(np.uint8)
    options = {"epochs": EPOCHS, "learning_rate": 1e-3}
    plan = tl.Plan(
        (
            tl.Stage("head", cache_views=2, **options),
            tl.Stage("all", unfreeze="all", layer_decay=0.5, **options),
        )
    )
    data = tl.data.from_arrays(images, labels, val=0.2)
    chosen = {"callbacks": [Log()], "save_freq": SAVE_FREQ, "verbose": 0, "batch_size": BATCH}
    run = tl.fine_tune(model, data, plan, "medium", run_dir=folder / "run", **chosen)
    weights = b"".join(value.tobytes() for value in run.model.get_weights())
    outcome = [hashlib.sha256(weights).hexdigest(), run.history, run.best_epoch]
    (folder / "outcome.json").write_text(json.dumps(outcome))


def started(what: str, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--child", what, "--folder", str(folder)]
    with open(folder / "said", "ab") as said:
        return subprocess.Popen(command, stdout=said, stderr=said)


def finished(folder: Path) -> str:
    """Run to the end; the outcome as text, or what went wrong."""
    if started("train", folder).wait():
        return (folder / "said").read_text().splitlines()[-1]
    return (folder / "outcome.json").read_text()


def await_step(child: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    """Wait until so many steps are done; for 0, until the directory is claimed."""
    path = folder / ("steps" if step else "run/.lock")
    while child.poll() is None and not (path.exists() and path.stat().st_size >= 2 * step):
        time.sleep(0.0005)


def killed(folder: Path, number: int) -> tuple[str, bool]:
    """The outcome of a run that was killed once, and whether a write was under way."""
    rng = random.Random(number)
    child = started("train", folder)
    await_step(child, folder, rng.randrange(STEPS + 1))
    if number % 2:
        while child.poll() is None and not (folder / WRITING).exists():
            pass
        time.sleep(rng.uniform(0, 0.01))
    else:
        time.sleep(rng.uniform(0, 0.3))
    child.kill()
    child.wait()
    inside = (folder / WRITING).exists()
    return finished(folder), inside


def kills(count: int, folder: Path) -> None:
    expected = finished(folder / "whole")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda i: killed(folder / f"kill_{i}", i), range(count)))
    for number, (outcome, _) in enumerate(found):
        if outcome != expected:
            print(f"  kill {number}: {outcome[:200]}")
    same = sum(outcome == expected for outcome, _ in found)
    inside = sum(inside for _, inside in found)
    print(f"kills: {same} of {count} ended as the run that nothing hit; {inside} inside a write")


def signalled(folder: Path, number: int, what: signal.Signals) -> bool:
    """Whether a run that got a signal had the right exit code and its last step on disk."""
    rng = random.Random(number)
    child = started("train", folder)
    await_step(child, folder, rng.randrange(1, STEPS * 9 // 10))
    child.send_signal(what)
    code = child.wait()
    right = code == 143 if what == signal.SIGTERM else code in (130, -signal.SIGINT)
    states = sorted((folder / "run" / "checkpoints").glob("checkpoint-*/state.json"))
    done = json.loads(states[-1].read_text())["dict"]
    epochs = sum(stage["dict"]["epochs"] for stage in done["run"]["dict"]["results"])
    steps = (epochs + done.get("epoch", 0)) * (STEPS // 2 // EPOCHS) + done.get("step", 0)
    logged = (folder / "steps").stat().st_size // len(LINE)
    if not right or steps != logged:
        print(f"  {what.name} {number}: exit code {code}, {logged} steps done, {steps} kept")
    return right and steps == logged


def signals(count: int, folder: Path) -> None:
    for what in (signal.SIGINT, signal.SIGTERM):
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(
                lambda i, what=what: signalled(folder / f"{what.name}_{i}", i, what), range(count)
            )
        print(f"{what.name}: {sum(found)} of {count} ended with the right code and checkpoint")


def contents(where: Path) -> dict[str, bytes]:
    """All files of a directory, but for those of a write that is not finished."""
    files = (path for path in where.rglob("*") if path.is_file())
    return {str(p.relative_to(where)): p.read_bytes() for p in files if WRITING.name not in str(p)}


def fails(folder: Path) -> None:
    """Keep the backup of two epochs in `before`, then fail in the write of the third.

    The folder is <kind>_<number>; the number is the offset at which the write fails.
    """
    import shutil

    import keras
    import numpy as np

    from tltoolkit.callbacks import Resume

    kind, number = folder.name.split("_")
    after = folder / "after"

    class Limit(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                shutil.copytree(after, folder / "before")
                size = max(map(len, contents(after).values()))
                limit = size * int(number) // OFFSETS
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    x = np.ones((8, 8))
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(64), keras.layers.Dense(1)])
    model.compile("adam", "mse", run_eagerly=True)
    keep = Resume(after) if kind == "tltoolkit" else keras.callbacks.BackupAndRestore(after)
    model.fit(x, x[:, :1], epochs=9, verbose=0, callbacks=[keep, Limit()])


def writes(folder: Path) -> None:
    def intact(kind: str, number: int) -> bool:
        here = folder / f"{kind}_{number}"
        assert started("fails", here).wait() != 0, "nothing failed"
        before, after = contents(here / "before"), contents(here / "after")
        return bool(before) and all(after.get(name) == before[name] for name in before)

    for kind, numbers in {"tltoolkit": range(OFFSETS), "Keras": (6, 13)}.items():
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda i, kind=kind: intact(kind, i), numbers))
        print(f"writes: {sum(found)} of {len(found)} old checkpoints intact, {kind}")


def cost(folder: Path) -> None:
    import numpy as np

    import tltoolkit as tl
    from tltoolkit.training.progress import StageCheckpoints

    seconds = []
    save = StageCheckpoints.save

    def timed(self: Any) -> Path:
        begun = time.perf_counter()
        path = save(self)
        seconds.append(time.perf_counter() - begun)
        return path

    StageCheckpoints.save = timed  # type: ignore[method-assign]
    pixels = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3)).astype(np.uint8)
    data = tl.data.from_arrays(pixels, np.arange(10) % 2, val=0.2)
    model = tl.build_classifier("efficientnet_lite0", ("0", "1"), weights=None)
    plan = tl.Plan((tl.Stage("all", unfreeze="all", epochs=6, learning_rate=1e-5),))
    tl.fine_tune(model, data, plan, "none", run_dir=folder / "run", save_freq=1, verbose=0)
    middle = sorted(seconds)[len(seconds) // 2]
    print(f"cost: {middle:.2f} s a checkpoint, {middle / 60:.2%} of an epoch of 60 s")


def print_cost(folder: Path) -> None:
    code = started("cost", folder).wait()
    lines = (folder / "said").read_text().splitlines()
    print("\n".join(lines if code else [line for line in lines if line.startswith("cost")]))


def main() -> None:
    parts = ("kills", "writes", "signals", "cost")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--signals", type=int, default=20, help="of each kind")
    parser.add_argument("--child", choices=("train", "fails", "cost"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        {"train": train, "fails": fails, "cost": cost}[args.child](args.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in args.only:
            begun = time.perf_counter()
            if part == "kills":
                kills(args.kills, folder)
            elif part == "signals":
                signals(args.signals, folder)
            elif part == "writes":
                writes(folder)
            else:
                print_cost(folder / part)
            print(f"  ({time.perf_counter() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
