"""A digest of a file within the file, so that it holds wherever the file is copied to.

A hash beside the file would stay behind when somebody puts the file on a telephone or a server.
"""

import hashlib
import re

# What the digest stands behind; the digest is of the same content with zeros in its place.
MARK = "tltoolkit-sha256:"
EMPTY = MARK + "0" * 64
_SEAL = re.compile(MARK.encode() + rb"[0-9a-f]{64}")


def sealed(content: bytes, *others: bytes) -> bytes:
    """Content with `EMPTY` in it, where the digest of it and of `others` takes its place."""
    at = _place(content)
    return content[: at.start()] + _digest(content, at, others) + content[at.end() :]


def intact(content: bytes, *others: bytes) -> bool:
    """Whether sealed content, and what was sealed with it, is as it was.

    Raises:
        LookupError: It was never sealed.
    """
    at = _place(content)
    return at.group() == _digest(content, at, others)


def _place(content: bytes) -> re.Match[bytes]:
    found = list(_SEAL.finditer(content))
    if len(found) != 1:
        raise LookupError(f"{len(found)} digests")
    return found[0]


def _digest(content: bytes, at: re.Match[bytes], others: tuple[bytes, ...]) -> bytes:
    whole = hashlib.sha256(content[: at.start()])
    for part in (EMPTY.encode(), content[at.end() :], *others):
        whole.update(part)
    return MARK.encode() + whole.hexdigest().encode()
