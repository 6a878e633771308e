"""Walk folders of images without falling for links, pipes and litter."""

import errno
import os
from collections import Counter
from collections.abc import Iterator

# What operating systems and network disks leave in folders besides hidden files.
_LITTER = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "__macosx",
    "icon\r",  # macOS has it for a folder with an icon of its own
    "lost+found",  # of ext4, at the top of a disk
    "@eadir",  # this and the next ones are of Synology's and QNAP's disks
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
}
# What a file of the formats of `kinds` is called; folders of such names are no folders of images.
SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".gif",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".heic",
    ".heif",
    ".avif",
}


def visible(folder: str, skipped: Counter[str]) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder, in no order; hidden ones and dead links are only counted.

    Raises:
        ValueError: the folder cannot be listed.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise ValueError(f"cannot list the folder {folder}: {error.strerror}") from error
    for entry in entries:
        reason = _unwanted(entry)
        if reason is None:
            yield entry
        else:
            skipped[reason] += 1


def files(
    folder: str, skipped: Counter[str], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """The path of everything below a folder that is meant to be an image, in no order.

    That includes pipes, devices and folders named like an image: the audit will tell about them.
    """
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    # Only of the folders above: two links to one folder are no loop.
    # Some file systems of Windows number nothing, and have no links either.
    if status.st_ino and identity in above:
        skipped["link loop"] += 1
        return
    for entry in visible(folder, skipped):
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.is_dir() and suffix not in SUFFIXES:
            yield from files(entry.path, skipped, (*above, identity))
        else:
            yield entry.path


def _unwanted(entry: "os.DirEntry[str]") -> str | None:
    if entry.name.startswith("."):
        return "hidden"
    if entry.name.casefold() in _LITTER:
        return "system file"
    if entry.is_symlink():
        try:
            os.stat(entry.path)
        except OSError as error:
            return "link loop" if error.errno == errno.ELOOP else "dangling link"
    return None
