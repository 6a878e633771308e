"""What the arguments of `fine_tune` may be; loads nothing."""

import os

from tltoolkit._checks import SEED, Instance, Integer, OneOf, Table
from tltoolkit.model.terms import FROM_LOGITS
from tltoolkit.training.terms import BATCH_SIZE, STORAGE, VERBOSE

FORCE, EPOCH = "force", "epoch"

# Of its dry run, too.
PREPARED: Table = {
    "batch_size": BATCH_SIZE,
    "run_dir": Instance((str, os.PathLike), "a path") | None,
    "seed": SEED,
    "cache_gb": STORAGE["memory_gb"],
    "cache_dtype": STORAGE["dtype"],
    "verbose": VERBOSE,
    "from_logits": FROM_LOGITS,
}
FINE_TUNE: Table = {
    **PREPARED,
    "resume": OneOf(True, False, FORCE),
    "save_freq": Integer(1) | EPOCH,
}
