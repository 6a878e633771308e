"""What the arguments of sources may be; loads nothing."""

import os

from tltoolkit._checks import SWITCH, Instance, Integer, Number, OneOf, Table

ON_BAD = ("error", "skip")
DUPLICATES = ("error", "drop", "allow")
# White space, as in the list files of ImageNet, is the last that is tried: paths may hold blanks.
DELIMITERS = (",", ";", "\t", " ")

_SHARE = Number(0, below=1)
# What NumPy's oldest generators take.
SPLITTING: Table = {"val": _SHARE, "test": _SHARE, "seed": Integer(0, 2**32 - 1)}
POLICIES: Table = {"on_bad": OneOf(*ON_BAD), "duplicates": OneOf(*DUPLICATES)}
KFOLD: Table = {"n_splits": Integer(2), "seed": SPLITTING["seed"]}
_FILES: Table = {**SPLITTING, **POLICIES, "max_pixels": Integer(1)}
_SPOOL: Table = {"spool_gb": Number(above=0)}
_UNKNOWN = OneOf(None, True, False)

DECODE: Table = {"max_pixels": _FILES["max_pixels"], "side": Integer(1) | None}
FROM_DIRECTORY: Table = {**_FILES, "root": Instance((str, os.PathLike), "a path")}
FROM_TABLE: Table = {
    **_FILES,
    "multi_label": _UNKNOWN,
    "delimiter": OneOf(None, *DELIMITERS),
    "header": _UNKNOWN,
    "suffix": Instance(str, "text"),
}
FROM_ARRAYS: Table = {
    **SPLITTING,
    "duplicates": POLICIES["duplicates"],
    "multi_label": _UNKNOWN,
}
FROM_STREAM: Table = {**_FILES, **_SPOOL, "multi_label": _UNKNOWN}
FROM_TFDS: Table = {**_FILES, **_SPOOL, "download": SWITCH}
