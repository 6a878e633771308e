"""The arguments of `fine_tune`: checked before any work, and turned into what they stand for."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit import augment as augmentation
from tltoolkit.data import ImageData
from tltoolkit.imbalance import Correction
from tltoolkit.model import freezing
from tltoolkit.model.network import Network
from tltoolkit.plans import ready
from tltoolkit.plans.stages import Plan, Stage
from tltoolkit.training import given, linear


def plan_of(plan: str | Plan, network: Network) -> tuple[Plan, str]:
    """The stages that `plan` begins with in `fine_tune`, and why; "auto" has more later."""
    if isinstance(plan, Plan):
        return plan, "the plan was given"
    _checks.instance("plan", plan, str, "a name, or a tl.Plan such as tl.Plan((stage,))")
    _checks.one_of("plan", plan, ["auto", *ready.PLANS])
    if plan == "auto":
        return ready.first(linear.linear_head(network) is not None), ""
    return ready.PLANS[plan](), f"plan={plan!r} was asked for"


def pipeline_of(augment: Any, image_size: int, class_counts: Any, seed: int) -> Any:
    """The pipeline that `augment` stands for in `fine_tune`."""
    if isinstance(augment, augmentation.Pipeline):
        return augment
    if augment is None or not isinstance(augment, str):
        return augmentation.Pipeline(augment, image_size, seed=seed)
    _checks.one_of("augment", augment, ["auto", *augmentation.PRESETS])
    name = augmentation.choose(class_counts) if augment == "auto" else augment
    return augmentation.preset(name, image_size, seed=seed)


def check_stages(
    plan: str | Plan, begun: Plan, correction: Correction, network: Network, data: ImageData
) -> None:
    """Raise ValueError for a stage that the model, the data or the correction cannot have."""
    if plan == "auto" and correction.imbalance.features is not None:
        rule = "'linear_probe', or another that trains a head only, with imbalance features"
        raise _checks.fail("plan", rule, plan)
    for stage in begun:
        linear.check_stage(network, stage)
        # For its errors alone: what a stage unfreezes may not exist in this model.
        freezing.freeze_plan(network.model, network.blocks, stage.unfreeze, stage.batch_norm)
        if stage.early_stopping is not None and data.val is None:
            rule = f"None in stage {stage.name!r}, since the data has no validation split"
            raise _checks.fail("early_stopping", rule, stage.early_stopping)
    if network.output is None:
        warnings.warn(
            f"the graph of {network.model.name} is not known, because it is a subclassed model: "
            "its frozen part is computed in every epoch",
            stacklevel=3,  # the caller of fine_tune
        )


def check_callbacks(
    callbacks: Sequence[Any],
    plan: str | Plan,
    begun: Plan,
    correction: Correction,
    network: Network,
    data: ImageData,
) -> None:
    """Raise for a callback or a loss that cannot do its work in the stages of this run."""
    _checks.instance("callbacks", callbacks, (list, tuple), "a list of Keras callbacks")
    # Whatever "auto" adds is fitted, and calls them.
    later = [Stage("fine_tune")] if plan == "auto" else []
    given.check(callbacks, network, [*begun, *later], correction, data.val is not None)


def check_save_freq(save_freq: str | int, run_dir: str | Path | None) -> None:
    """Raise ValueError for checkpoints that have no place to be written to."""
    if save_freq != "epoch" and run_dir is None:
        rule = "left out without run_dir, where checkpoints would be written"
        raise _checks.fail("save_freq", rule, save_freq)
