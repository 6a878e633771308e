"""What the arguments of these functions may be; loads nothing."""

from tltoolkit._checks import SEED, SWITCH, Instance, Integer, Number, OneOf, Table
from tltoolkit.augment.terms import PREPARATION
from tltoolkit.model.terms import FROM_LOGITS
from tltoolkit.plans.stages import STAGE
from tltoolkit.plans.terms import OPTIMIZERS
from tltoolkit.training.terms import BATCH_SIZE, LADDER, STORAGE, SWEEP

GRID = "grid"
# Steps below which a curve says nothing.
# A tenth of a sweep is run-up: of 20 steps those are two.
FEWEST_OF_SWEEP, FEWEST_OF_RUNG = 20, 4
# Images below which no difference between backbones can be seen.
FEWEST_TO_CHOOSE = 20

SEARCH: Table = {
    "trials": Integer(1) | None,
    "sampler": OneOf("random", "tpe", GRID),
    "name": Instance(str, "text"),
    "seed": SEED,
    "prune": SWITCH,
    "cache_gb": STORAGE["memory_gb"],
    "verbose": SWITCH,
}
# `high` has to be above `low`, and a sweep takes more steps than a rung.
FIND_LR: Table = {
    "unfreeze": STAGE["unfreeze"],
    "mode": OneOf(SWEEP, LADDER),
    "low": Number(above=0),
    "high": Number(above=0),
    "steps": Integer(FEWEST_OF_RUNG) | None,
    "batch_size": BATCH_SIZE,
    "seed": SEED,
    "from_logits": FROM_LOGITS,
}
FIND_BATCH_SIZE: Table = {
    "unfreeze": STAGE["unfreeze"],
    "batch_norm": STAGE["batch_norm"],
    "optimizer": OneOf(*OPTIMIZERS),
    "memory_gb": Number(above=0) | None,
    "from_logits": FROM_LOGITS,
}
SCALED_RATE: Table = {"learning_rate": Number(above=0), "batch_size": BATCH_SIZE}
LEARNING_CURVE: Table = {
    "repeats": Integer(2),
    "on": OneOf("val", "test"),
    "metric": OneOf("f1_macro", "accuracy"),
    "level": Number(above=0, below=1),
    "seed": SEED,
    "from_logits": FROM_LOGITS,
}
CLIMB: Table = {"trials": Integer(1), "image_size": Integer(1) | None, "seed": SEED, **PREPARATION}
CHOOSE_BACKBONE: Table = {
    "images": Integer(FEWEST_TO_CHOOSE),
    "image_size": Integer(1) | None,
    "seed": SEED,
    **PREPARATION,
}
