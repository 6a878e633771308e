"""What the arguments of predictions may be; loads nothing."""

from tltoolkit._checks import FLAG, Instance, Integer, Number, Table
from tltoolkit.augment.terms import PREPARATION
from tltoolkit.model.terms import FROM_LOGITS

# How `views` and `pipeline` go together is looked at where they are used.
MIN_FAMILIARITY = Number(0, 1) | None
STREAM: Table = {
    "min_confidence": Number(0, 1),
    "min_familiarity": MIN_FAMILIARITY,
    "batch_size": Integer(1),
    "views": Integer(1),
}
SAVE: Table = {"statistics": FLAG}
GROWING: Table = {"name": Instance(str, "a text"), "batch_size": Integer(1)}
FOREIGN: Table = {"multi_label": FLAG, "from_logits": FROM_LOGITS, **PREPARATION}
