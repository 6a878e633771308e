"""Decode every image once, on all cores, and keep the verdict on each."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]

from tltoolkit.data.decoding import ImageError
from tltoolkit.data.images import Split
from tltoolkit.data.memory import Memory


class Verdict(NamedTuple):
    """What decoding an image told; `reason` is set if it cannot be read, the rest if it can."""

    reason: str | None
    digest: str = ""
    height: int = 0
    width: int = 0
    look: str = ""  # perceptual hash, in hexadecimal


def inspect(splits: Sequence[Split], *, looks: bool) -> list[list[Verdict]]:
    """The verdict on every image of every split; `looks` asks for perceptual hashes too.

    Shows its progress on a terminal. Verdicts on files are remembered, also when interrupted.
    """
    jobs = [(split, i) for split in splits for i in range(len(split))]
    memory = Memory([path for split in splits for path in split.paths if path is not None])
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        verdicts = pool.map(lambda job: _recall_or_judge(job[0], job[1], memory, looks), jobs)
        bar = tqdm(verdicts, "checking images", len(jobs), unit="image", disable=None)
        answers = iter(list(bar))
    finally:
        pool.shutdown(cancel_futures=True)
        memory.save()
    return [[next(answers) for _ in range(len(split))] for split in splits]


def _recall_or_judge(split: Split, i: int, memory: Memory, looks: bool) -> Verdict:
    source, index = split.source, int(split.indices[i])
    path, stamp = source.path(index), source.stamp(index)
    if path is None or stamp is None:
        return _judge(split, i, looks)[0]
    known = _recall(memory.get(path), stamp)
    if known is not None and (known.reason or known.look or not looks):
        return known
    verdict, lasting = _judge(split, i, looks)
    if lasting:
        memory.put(path, [stamp, *verdict])
    return verdict


def _recall(entry: Any, stamp: list[int]) -> Verdict | None:
    if isinstance(entry, list) and len(entry) == 1 + len(Verdict._fields) and entry[0] == stamp:
        return Verdict(*entry[1:])
    return None


def _judge(split: Split, i: int, looks: bool) -> tuple[Verdict, bool]:
    """The verdict, and whether it lasts: one about the content does, a system error may pass."""
    try:
        image = split.image(i)
        digest = split.source.digest(int(split.indices[i]))
    except ImageError as error:
        return Verdict(error.reason), _lasts(error.__cause__)
    except OSError as error:
        return Verdict(error.strerror or str(error)), False
    height, width = image.shape[:2]
    return Verdict(None, digest, height, width, _look(image) if looks else ""), True


def _lasts(cause: BaseException | None) -> bool:
    """Whether an image that is unreadable now will be so tomorrow."""
    return not isinstance(cause, ImportError) and getattr(cause, "errno", None) is None


def _look(image: NDArray[np.uint8]) -> str:
    """64-bit perceptual hash: the signs of low frequencies of the grey image."""
    import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(image)))
