"""What the arguments of these functions may be; loads nothing."""

from tltoolkit._checks import FLAG, SEED, Integer, Number, Table
from tltoolkit.model.terms import FROM_LOGITS
from tltoolkit.training.terms import BATCH_SIZE

# Of `samples` there are at most the training images, too.
CAPACITY: Table = {"samples": Integer(2), "steps": Integer(10), "seed": SEED}
DATA: Table = {
    "samples": Integer(10),
    "batch_size": BATCH_SIZE,
    "seed": SEED,
    "from_logits": FROM_LOGITS,
}
GRADIENTS: Table = {
    "training": FLAG,
    "h": Number(above=0),
    "tolerance": Number(above=0),
    "entries": Integer(1),
    "seed": SEED,
}
