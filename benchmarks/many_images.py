"""What large folders and large photographs cost before any training, beside another checkout.

    git worktree add --detach ../before 0cbc700
    python benchmarks/many_images.py --against ../before    # about 15 minutes on 2 idle cores
    python benchmarks/many_images.py --images 5000 --photos 4

Seen on 2 cores with nothing beside; 100,000 images and 24 photographs, before -> after:

    audit(near_duplicates=True)        74 -> 52 s
      problems                         169,314 pairs -> 1 group of 2,000
      most memory held                 882 -> 215 MiB
    the same again, all remembered     29 -> 7.0 s, 910 -> 182 MiB
    from_directory                     3.0 -> 6.0 s, 110 -> 193 MiB; again 3.0 -> 2.7 s (it hashes
                                       and remembers all files now, which splits go by)
    check of the photographs           2.2 -> 0.8 s
    an epoch of them at 224 pixels     2.2 -> 0.6 s (93 -> 24 ms a photograph), 289 -> 79 MiB

Each figure is that of a process of its own, with a cache folder of its own: seconds, and the most
memory that it ever held. The small images are all of one file size, so that `from_directory` has
to read each; 2 % of them are frames of one video. The photographs are JPEGs of 12 megapixels.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
SMALL, FRAMES = 16, 0.02
# Runs in a checkout: its root and the steps come as arguments, the figures go to standard output.
CHILD = """
import json, sys, time
root, small, photos = sys.argv[1:4]
sys.path.insert(0, root)
import tltoolkit
tltoolkit.__path__.append(root)
from tltoolkit.augment import Batches, Pipeline
from tltoolkit.data import from_directory

def timed(name, call):
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    found[name], found[name + ", CPU"] = time.perf_counter() - start, time.process_time() - cpu
    return result

found, step = {}, sys.argv[4]
if step == "folder":
    timed("from_directory", lambda: from_directory(small))
    timed("from_directory again", lambda: from_directory(small))
elif step == "audit":
    audit = timed("audit", lambda: from_directory(small, val=0).audit(near_duplicates=True))
    near = [p for p in audit.problems if p.kind == "near duplicate"]
    found["problems"] = len(near)
    found["images in the largest"] = max(len(p.where) for p in near)
    timed("print", lambda: str(audit))
elif step == "audit again":
    timed("audit again", lambda: from_directory(small, val=0).audit(near_duplicates=True))
else:
    data = from_directory(photos, val=0)
    timed("check", data.check)
    timed("an epoch at 224", lambda: list(Batches(data.train, Pipeline(None, 224))))
status = open("/proc/self/status").read().splitlines()
found["peak MiB"] = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps(found))
"""


def make_small(folder: Path, count: int) -> None:
    """Unrelated pictures, and frames that differ by noise."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1).astype(int)
    for i in range(count):
        pixels = rng.integers(0, 256, (SMALL, SMALL, 3), np.uint8)
        if i < FRAMES * count:
            pixels = np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "ab"[i % 2] / f"{i:06}.bmp")


def make_photos(folder: Path, count: int) -> None:
    """Pictures of 4000 x 3000 pixels with detail on every scale, about 4 MB each."""
    for i in range(count):
        rng = np.random.default_rng(i)
        total = np.zeros((3000, 4000, 3), np.float32)
        for step, weight in ((1, 0.1), (8, 0.2), (64, 0.3), (512, 0.4)):
            coarse = rng.integers(0, 256, (-(-3000 // step), -(-4000 // step), 3), np.uint8)
            bigger = Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC)
            total += weight * np.asarray(bigger, np.float32)
        Image.fromarray(total.astype(np.uint8)).save(folder / "ab"[i % 2] / f"{i}.jpg", quality=90)


def measured(root: Path, small: Path, photos: Path, cache: Path) -> dict[str, float]:
    """The figures of one checkout, "step: what" -> value."""
    found = {}
    for step in ("folder", "audit", "audit again", "photos"):
        own = cache if step == "audit again" else Path(tempfile.mkdtemp(dir=cache.parent))
        if step == "audit":
            cache = own
        command = [sys.executable, "-c", CHILD, str(root), str(small), str(photos), step]
        environment = {**os.environ, "XDG_CACHE_HOME": str(own)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            found[f"{step}: failed, {done.stderr.strip().splitlines()[-1][:60]}"] = float("nan")
            continue
        found |= {f"{step}: {name}": value for name, value in json.loads(done.stdout).items()}
        print(root, step, json.loads(done.stdout), file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--against", type=Path, help="the root of another checkout")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        small, photos = Path(directory, "small"), Path(directory, "photos")
        for folder in (small, photos):
            for name in "ab":
                (folder / name).mkdir(parents=True)
        make_small(small, args.images)
        make_photos(photos, args.photos)
        roots = [HERE, *([args.against.resolve()] if args.against else [])]
        columns = [measured(root, small, photos, Path(directory, "cache")) for root in roots]
    names = list(dict.fromkeys(name for column in columns for name in column))
    width = max(map(len, names))
    for name in names:
        cells = "".join(f"{column.get(name, float('nan')):>14,.1f}" for column in columns)
        print(f"{name:<{width}}{cells}")


if __name__ == "__main__":
    main()
