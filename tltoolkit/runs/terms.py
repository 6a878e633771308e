"""What the arguments of `fine_tune` may be; loads nothing."""

import math
import os
import re
from typing import Any

from tltoolkit import _checks
from tltoolkit._checks import SEED, Instance, Integer, OneOf, Table
from tltoolkit.model.terms import FROM_LOGITS
from tltoolkit.training.terms import BATCH_SIZE, STORAGE, VERBOSE

UNITS = {"s": 1, "m": 60, "h": 3600}  # of a budget, in seconds
FORCE, EPOCH = "force", "epoch"
# Of a run that is scored and forgotten: what it could leave besides costs time.
BARE: dict[str, Any] = {"familiarity": False, "statistics": False}

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
    "familiarity": OneOf(None, True, False),
    "statistics": OneOf(None, True, False),
    "save_freq": Integer(1) | EPOCH,
}


def seconds_of(budget: float | str | None, plan: Any) -> float | None:
    """A budget in seconds.

    Raises:
        ValueError: No time, or a plan that does not go by it.
    """
    if budget is None:
        return None
    # Other plans say themselves how many epochs they have.
    if plan != "auto":
        raise _checks.fail("budget", "left out with other plans than 'auto'", budget)
    rule = "a number of seconds > 0, or a text such as '90s', '5m' or '1h'"
    value: Any = budget
    if isinstance(budget, str):
        # Without a unit it is seconds, as on a command line.
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", budget.strip())
        if not found:
            raise _checks.fail("budget", rule, budget)
        value = float(found[1]) * UNITS[found[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise _checks.fail("budget", rule, budget)
    return float(value)
