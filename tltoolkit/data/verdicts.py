"""Decode every image once, on all cores, and keep the verdict on each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tltoolkit.data import looks
from tltoolkit.data.decoding import OVERSAMPLING, ImageError
from tltoolkit.data.digests import remembered
from tltoolkit.data.memory import Memory
from tltoolkit.data.parallel import each
from tltoolkit.data.split import Split


class Verdict(NamedTuple):
    """What decoding an image told; `reason` is set if it cannot be read, the rest if it can."""

    # First, since `digests.remembered` reads it behind the stamp in what is kept of a file.
    digest: str = ""
    reason: str | None = None
    height: int = 0
    width: int = 0
    hash: str = ""  # perceptual, in hexadecimal; empty where nobody asked for it
    brightest: float = 0.0  # this and the next two are those of `looks.Look`
    contrast: float = 0.0
    sharpness: float = 0.0


def inspect(splits: Sequence[Split], *, hashes: bool) -> list[list[Verdict]]:
    """The verdict on every image of every split; `hashes` asks for perceptual ones too.

    Shows its progress on a terminal. Verdicts on files are remembered, also when interrupted.
    """
    memory = Memory([path for split in splits for path in split.paths if path is not None])
    # Made as they are taken: of a million images the list alone would be 100 MB.
    jobs = ((split, i) for split in splits for i in range(len(split)))
    total = sum(map(len, splits))
    try:
        verdicts = each(
            lambda job: _recall_or_judge(job[0], job[1], memory, hashes),
            jobs,
            total,
            "checking images",
        )
    finally:
        memory.save()
    answers = iter(verdicts)
    return [[next(answers) for _ in range(len(split))] for split in splits]


def _recall_or_judge(split: Split, i: int, memory: Memory, hashes: bool) -> Verdict:
    source, index = split.source, int(split.indices[i])
    path, stamp = source.path(index), source.stamp(index)
    if path is None or stamp is None:
        return _judge(split, i, hashes, None)[0]
    entry = memory.get(path)
    known = _recall(entry, stamp)
    if known is not None and (known.reason or known.hash or not hashes):
        return known
    verdict, lasting = _judge(split, i, hashes, remembered(entry, stamp))
    if lasting:
        memory.put(path, [stamp, *verdict])
    return verdict


def _recall(entry: Any, stamp: list[int]) -> Verdict | None:
    if isinstance(entry, list) and len(entry) == 1 + len(Verdict._fields) and entry[0] == stamp:
        return Verdict(*entry[1:])
    return None


def _judge(split: Split, i: int, hashes: bool, digest: str | None) -> tuple[Verdict, bool]:
    """The verdict, and whether it lasts: one about the content does, a system error may pass."""
    source, index = split.source, int(split.indices[i])
    try:
        # A JPEG that is damaged is refused at reduced scale too.
        image = split.image(i, looks.SIDE)
        height, width = image.shape[:2]
        # Only then can it have been decoded at reduced scale.
        if min(height, width) >= OVERSAMPLING * looks.SIDE and hasattr(source, "jpeg_shape"):
            height, width = source.jpeg_shape(index) or (height, width)
        digest = digest or source.digest(index)
    except ImageError as error:
        return Verdict(reason=error.reason), _lasts(error.__cause__)
    except OSError as error:
        return Verdict(reason=error.strerror or str(error)), False
    levels = looks.grey(image)
    hashed = looks.perceptual_hash(levels) if hashes else ""
    # More digits would only lengthen the file of the memory.
    figures = (round(figure, 4) for figure in looks.look(levels))
    return Verdict(digest, None, height, width, hashed, *figures), True


def _lasts(cause: BaseException | None) -> bool:
    """Whether an image that is unreadable now will be so tomorrow."""
    # A package can be installed, and a disk, a network or a permission come back.
    return not isinstance(cause, ImportError) and getattr(cause, "errno", None) is None
