"""find_lr: the learning rate of a stage, by trying many for a step each."""

from typing import Any

import numpy as np

from tltoolkit import _checks
from tltoolkit.augment import keys
from tltoolkit.model import freezing
from tltoolkit.plans.stages import Stage
from tltoolkit.plans.terms import SOLVERS
from tltoolkit.training import rates, sweep
from tltoolkit.training.job import task_of
from tltoolkit.training.rates import RateCurve
from tltoolkit.training.terms import LADDER, SWEEP
from tltoolkit.training.trial import network_for, trial
from tltoolkit.training.untouched import untouched
from tltoolkit.tune.terms import FEWEST_OF_SWEEP, FIND_LR

# Settings of a stage that a step depends on.
SETTINGS = (
    "augment",
    "batch_norm",
    "cache_views",
    "clip_norm",
    "label_smoothing",
    "layer_decay",
    "momentum",
    "optimizer",
    "weight_decay",
)


def find_lr(
    model: Any,
    data: Any,
    unfreeze: str | int | float = "head",
    *,
    mode: str = SWEEP,
    low: float = sweep.LOW,
    high: float = sweep.HIGH,
    steps: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
    from_logits: bool | str = "auto",
    **settings: Any,
) -> RateCurve:
    """Find a learning rate, for what `unfreeze` says, in a hundred training steps or so.

    Where the lower part is frozen its activations are computed once, for as many images as the
    steps need. The model, its optimizer and all random states are afterwards as before, also
    if this fails or is interrupted.

    Args:
        model: As for `tl.fine_tune`.
        data: An `ImageData`; only its training images are used.
        unfreeze: What trains, as in `tl.Stage`.
        mode: `"sweep"`: the rate grows exponentially from step to step, until the loss
            explodes. `"ladder"`: each rate of 0.1, 0.03, 0.01, ... gets the same steps from the
            same weights; slower, and nearer to what a training does.
        low: Lowest rate, > 0.
        high: Highest rate, > `low`.
        steps: Of the whole sweep, >= 20, or of each rung of the ladder, >= 4; None is 100 or 30.
        batch_size: Images per step, >= 1; the best rate depends on it.
        seed: Seed of the choice and order of images, and of dropout.
        from_logits: As in `tl.fine_tune`.
        **settings: Of the `tl.Stage` that is to come, as far as a step depends on them, such as
            `optimizer="sgd"` or `layer_decay=0.8`. Images are augmented only if `augment` says.

    Returns:
        A `RateCurve`: `suggestion` goes into `tl.Stage(learning_rate=...)`; it is None where the
        curve has no reliable one, and `advice` says why.

    Raises:
        ValueError: An argument out of range, a model without variables that train, data with
            other classes than the model's.
    """
    _checks.arguments(FIND_LR, locals())
    # After the table, as it compares numbers that are known to be some.
    _check_search(mode, low, high, steps)
    network = network_for(model, data, from_logits)
    for name in settings:
        _checks.one_of("setting", name, SETTINGS)
    # `Stage` would refuse it too, but because of settings that nobody gave.
    if settings.get("optimizer") in SOLVERS:
        raise _checks.fail("optimizer", "one that has a learning rate", settings["optimizer"])
    # Its rate is for form's sake: a search sets its own.
    stage = Stage("find_lr", unfreeze=unfreeze, epochs=1, learning_rate=low, **settings)
    # Before `untouched`: a name that does not exist fails without a copy of the weights.
    plan = freezing.freeze_plan(network.model, network.blocks, unfreeze, stage.batch_norm)
    default = sweep.SWEEP_STEPS if mode == SWEEP else sweep.RUNG_STEPS
    steps = default if steps is None else steps
    with untouched(model):
        freezing.apply_freeze(network.model, plan)
        if not network.model.trainable_variables:
            rule = f"one with variables that train with unfreeze={unfreeze!r}"
            raise _checks.fail("model", rule, model)
        # Only so many: their features are computed once, and a step shows each.
        images = _some(data.check().train, steps * batch_size, seed)
        job = trial(network, images, batch_size=batch_size, seed=seed)
        return sweep.find_rate(task_of(job, stage, 0, 0, plan), mode, low, high, steps)


def _check_search(mode: str, low: float, high: float, steps: int | None) -> None:
    _checks.number("high", high, above=low)
    if steps is not None and mode == SWEEP:
        _checks.integer("steps", steps, FEWEST_OF_SWEEP)
    if mode == LADDER and len(rates.rungs(low, high)) < 2:
        raise _checks.fail("high", "so far above `low` that two rungs lie between", high)


def _some(split: Any, count: int, seed: int) -> Any:
    """No more images than the steps need, each class as frequent as it is."""
    drawn = keys.keyed(seed, keys.SHUFFLE).permutation(len(split))[:count]
    return split.subset(np.sort(drawn))
