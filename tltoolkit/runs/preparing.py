"""What `fine_tune` and its dry run begin with: all arguments checked, nothing changed yet."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.data import ImageData
from tltoolkit.data.seen import Seen
from tltoolkit.imbalance import Correction, Imbalance
from tltoolkit.model.network import Network
from tltoolkit.plans import ready
from tltoolkit.plans.stages import Plan
from tltoolkit.runs import auto, noting, started
from tltoolkit.runs.terms import PREPARED, seconds_of
from tltoolkit.training import arguments, correcting, saying
from tltoolkit.training.caching import Features
from tltoolkit.training.features import Storage
from tltoolkit.training.job import Job
from tltoolkit.training.trial import job_of, network_for


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that has been checked and may begin.

    Attributes:
        model: The user's, not yet changed.
        trained: The model that trains: the user's, or one that shares its layers and has a head on
            all blocks.
        network: The view of it that trains.
        data: The images.
        plan: As it was asked for.
        begun: The stages that it begins with.
        why: Why these.
        augment: As it was asked for.
        pipeline: What happens to training images.
        imbalance: As it was asked for.
        correction: What is done about it.
        callbacks: Keras callbacks of every stage.
        batch_size: Images per step.
        seed: Of order, augmentation and dropout.
        storage: Where activations of the frozen part are kept.
        verbose: What it says meanwhile.
        from_logits: Whether outputs are logits, as it was asked.
        budget: Seconds that "auto" may take, or None.
    """

    model: Any
    trained: Any
    network: Network
    data: ImageData
    plan: str | Plan
    begun: Plan
    why: str
    augment: Any
    pipeline: Any
    imbalance: str | Imbalance
    correction: Correction
    callbacks: Sequence[Any]
    batch_size: int
    seed: int
    storage: Storage
    verbose: int
    from_logits: bool | str
    budget: float | None

    @property
    def compares(self) -> bool:
        """Whether the head is solved, and what comes after it compared with that."""
        # The stage that retrains comes last, and would replace the head that was chosen.
        retrains = self.correction.imbalance.adjust == correcting.RETRAIN
        return self.plan in ready.WIDENED and self.begun.stages[0].solved and not retrains

    @cached_property
    def job(self) -> Job:
        """What all stages share."""
        return job_of(
            self.network,
            self.data.train,
            self.data.val,
            pipeline=self.pipeline,
            batch_size=self.batch_size,
            seed=self.seed,
            features=Features(storage=self.storage, seconds=self.budget),
            callbacks=self.callbacks,
            verbose=self.verbose,
            correction=self.correction,
        )

    def on(self, data: ImageData) -> "Prepared":
        """The same on checked data, which may have fewer images."""
        # As a new object, so that nothing cached of the other images is taken over.
        correction = correcting.correction_of(self.imbalance, self.network, data, self.begun)
        return dataclasses.replace(self, data=data, correction=correction)

    @cached_property
    def seen(self) -> Seen:
        """The images of the run, and those that the model had seen before."""
        return Seen.of(self.data).after(getattr(self.model, "tltoolkit_seen", None))

    @property
    def settings(self) -> dict[str, Any]:
        """What the run tells of its settings."""
        return noting.settings(self.job, self.data)

    def noted(self) -> dict[str, Any]:
        """What a run directory notes at the start."""
        plan, augment = self.plan, self.augment
        asked = {
            "plan": plan if isinstance(plan, str) else plan.to_dict(),
            "augment": augment if isinstance(augment, str) else repr(self.pipeline),
            started.START: started.weights_of(self.model),
            **noting.details(self.job, self.from_logits),
        }
        return started.record({**self.settings, **asked}, self.data)


def prepare(
    model: Any,
    data: Any,
    plan: str | Plan,
    augment: Any,
    imbalance: str | Imbalance,
    *,
    batch_size: int,
    callbacks: Sequence[Any] = (),
    run_dir: str | Path | None = None,
    seed: int,
    cache_gb: float,
    cache_dtype: str,
    verbose: str | int = 0,
    from_logits: bool | str,
    budget: float | str | None = None,
) -> Prepared:
    """Check the arguments of `fine_tune`, which see, without touching model, images or disk."""
    _checks.arguments(PREPARED, locals())
    level = saying.level(verbose)
    seconds = seconds_of(budget, plan)
    # First of the user's model, which an error should speak of.
    network, trained = network_for(model, data, from_logits), model
    if plan in ready.WIDENED and (trained := auto.widened(model)) is not model:
        network = network_for(trained, data, from_logits)
    begun, why = arguments.plan_of(plan, network)
    # Twice in a run: here for its errors, in `on` for the images that are left.
    correction = correcting.correction_of(imbalance, network, data, begun)
    arguments.check_stages(plan, begun, correction, network, data)
    # After the stages, by which it is known whether anything is fitted.
    arguments.check_callbacks(callbacks, plan, begun, correction, network, data)
    pipeline = arguments.pipeline_of(augment, network.image_size, data.train.class_counts, seed)
    # Last: what a pipeline says of every image becomes the network's.
    network, pipeline = network.shown("augment", pipeline)
    if run_dir is not None:
        network.preparation.to_dict("augment")  # what cannot be stored is found before any work
    return Prepared(
        model=model,
        trained=trained,
        network=network,
        data=data,
        plan=plan,
        begun=begun,
        why=why,
        augment=augment,
        pipeline=pipeline,
        imbalance=imbalance,
        correction=correction,
        callbacks=callbacks,
        batch_size=batch_size,
        seed=seed,
        storage=Storage(
            memory_gb=cache_gb,
            dtype=cache_dtype,
            directory=None if run_dir is None else Path(run_dir),
        ),
        verbose=level,
        from_logits=from_logits,
        budget=seconds,
    )
