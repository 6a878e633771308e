"""What a run is told: `Stage`, `Plan`, the ready-made ones and the rule of `plan="auto"`.

Plain data that loads without Keras; what a stage does stands in `training`.
"""

from tltoolkit.plans.ready import (
    PLANS,
    after_head,
    after_solved,
    fine_tune,
    first,
    from_scratch,
    gradual,
    linear_probe,
    probe_then_fine_tune,
    solve,
)
from tltoolkit.plans.stages import Plan, Stage

__all__ = [
    "PLANS",
    "Plan",
    "Stage",
    "after_head",
    "after_solved",
    "fine_tune",
    "first",
    "from_scratch",
    "gradual",
    "linear_probe",
    "probe_then_fine_tune",
    "solve",
]
