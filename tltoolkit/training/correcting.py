"""What class imbalance asks of a run besides its loss: checks, the last bias, a last stage."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tltoolkit.data import ImageData
from tltoolkit.imbalance import Correction, Imbalance, correct, logit_offsets
from tltoolkit.layers import graph
from tltoolkit.model import freezing
from tltoolkit.model.network import Network
from tltoolkit.plans.stages import Stage
from tltoolkit.plans.terms import LBFGS
from tltoolkit.training import made_up, untouched
from tltoolkit.training.job import Job
from tltoolkit.training.linear import linear_head, makes_outputs
from tltoolkit.training.result import StageResult, holding

RETRAIN = "retrain"
# Attributes of a model in which training notes something.
# `put_back_on_failure` goes through them: a new note belongs here.
NOTED = (
    "tltoolkit_settings",
    "tltoolkit_assumed",
    "tltoolkit_preparation",
    "tltoolkit_seen",
    "tltoolkit_familiarity",
    "tltoolkit_statistics",
)
# Those of them that say which class shares its outputs assume.
PRIORS = NOTED[:2]


@dataclasses.dataclass(frozen=True)
class Assumed:
    """The class shares that the outputs of a user's model assume, noted on it by training.

    They hold as long as its last bias is what training left.
    """

    prior: tuple[float, ...]
    bias: tuple[float, ...]


def correction_of(
    imbalance: str | Imbalance, network: Network, data: ImageData, stages: Iterable[Stage]
) -> Correction:
    """`imbalance` for the training labels of `data`, checked against the model and the stages.

    Raises:
        ValueError: A method that does not fit the labels, the model or a stage.
        TypeError: Something else than a name or an `Imbalance`.
    """
    found = correct(
        imbalance,
        data.train.labels,
        data.class_names,
        data.multi_label,
        adjustable=last_dense(network) is not None,
    )
    for stage in stages:
        plan = freezing.freeze_plan(network.model, network.blocks, stage.unfreeze, stage.batch_norm)
        made_up.check_stage(network, stage, found, plan)
    return found


def last_dense(network: Network) -> Any | None:
    """The dense layer with a bias that makes the logits; None if there is no such layer."""
    if network.output is None:
        return None
    nodes = graph.nodes(network.model)
    made = {id(tensor): node for node in nodes for tensor in node.outputs}
    node = made[id(network.output)]
    # Down past activations and reshapes, which have no weights.
    while len(node.inputs) == 1 and not getattr(node.layer, "weights", None):
        node = made[id(node.inputs[0])]
    layer = node.layer
    if not isinstance(layer, keras.layers.Dense) or not layer.use_bias:
        return None
    return layer if makes_outputs(network, layer, node.inputs[0]) else None


def start(model: Any, job: Job) -> None:
    """Adjust the logits by the last bias, before the first step.

    The loss adds the same amount to the logits again, so that training is what it would be
    without; but all that is measured, kept and saved on the way is adjusted.
    """
    correction = job.correction
    if correction.imbalance.adjust != "logit":
        return
    shift = -logit_offsets(correction.counts, correction.imbalance.tau)
    assumed = _assumed_prior(model, job.network)
    if assumed is not None:
        # Its outputs were adjusted by an earlier run; that must not count again.
        shift = shift + _log(correction.prior, job) - _log(assumed, job)
    # One output of two classes takes the difference of the two shifts.
    shift = job.network.per_output(shift, job.multi_label)
    last_dense(job.network).bias.assign_add(shift)  # type: ignore[union-attr] # checked at first


def last_stages(job: Job, plan: Iterable[Stage]) -> tuple[Stage, ...]:
    """What `adjust="retrain"` adds to a plan that has no stage of this name: the head alone."""
    wanted = job.correction.imbalance.adjust == "retrain"
    if not wanted or RETRAIN in [stage.name for stage in plan]:
        return ()
    # A head of several layers has no closed form: ten epochs, at a head's usual rate.
    if linear_head(job.network) is None:
        return (Stage(RETRAIN, epochs=10, learning_rate=1e-3, augment="none"),)
    return (Stage(RETRAIN, optimizer=LBFGS, epochs=1, augment="none"),)


def for_stage(job: Job, stage: Stage) -> Job:
    """The job as a stage sees it: retraining is by cross-entropy on balanced classes."""
    if job.correction.imbalance.adjust != "retrain" or stage.name != RETRAIN:
        return job
    # In place of the run's own correction, which would count a second time.
    balanced = dataclasses.replace(job.correction, imbalance=Imbalance(sampling="balanced"))
    return dataclasses.replace(job, correction=balanced)


def note_priors(model: Any, job: Job, stages: Iterable[StageResult], best_epoch: int) -> None:
    """Let the model know the class shares that its outputs assume; ours, those of training too."""
    result, epoch = holding(stages, best_epoch)
    correction = for_stage(job, result.stage).correction
    solved = result.stage.solved
    # What was planned, not what ran: schedules of sampling and weights go by it.
    planned = 1 if solved else result.stage.epochs
    assumed = tuple(map(float, correction.assumed_prior(epoch, planned, solved)))
    if job.network.settings is not None:
        model.tltoolkit_settings = dataclasses.replace(
            model.tltoolkit_settings,
            train_prior=tuple(map(float, correction.prior)),
            output_prior=assumed,
        )
    # A share of 0 or 1 has no finite logarithm, by which a later run would adjust.
    elif (bias := _last_bias(job.network)) is not None and all(0 < p < 1 for p in assumed):
        model.tltoolkit_assumed = Assumed(assumed, bias)


def noted(model: Any) -> dict[str, Any] | None:
    """What is noted of the priors of a user's model, as plain data."""
    found = getattr(model, "tltoolkit_assumed", None)
    return None if found is None else dataclasses.asdict(found)


def note(model: Any, found: Mapping[str, Any] | None) -> None:
    """Note on a user's model what `noted` gave of another with its weights."""
    if found is not None:
        model.tltoolkit_assumed = Assumed(tuple(found["prior"]), tuple(found["bias"]))


@contextlib.contextmanager
def put_back_on_failure(model: Any) -> Iterator[None]:
    """Put back weights, what is trainable and what is noted of the model if the block raises."""
    before = {name: getattr(model, name) for name in NOTED if hasattr(model, name)}
    with untouched.put_back_on_failure(model):
        try:
            yield
        except BaseException:
            for name in NOTED:
                if name in before:
                    setattr(model, name, before[name])
                elif hasattr(model, name):
                    delattr(model, name)
            raise


def copy_priors(source: Any, target: Any) -> None:
    """Note on `target`, which has taken the weights of `source`, what is noted there."""
    for name in PRIORS:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def _assumed_prior(model: Any, network: Network) -> tuple[float, ...] | None:
    if network.settings is not None:
        return network.settings.output_prior
    found = getattr(model, "tltoolkit_assumed", None)
    # Else somebody has trained or changed it since: nothing is known any more.
    return found.prior if found is not None and found.bias == _last_bias(network) else None


def _last_bias(network: Network) -> tuple[float, ...] | None:
    layer = last_dense(network)
    return None if layer is None else tuple(map(float, layer.bias.numpy()))


def _log(prior: Any, job: Job) -> Any:
    values = np.asarray(prior)
    # Log odds of independent labels; of classes that compete a constant is free.
    return np.log(values) - (np.log1p(-values) if job.multi_label else 0)
