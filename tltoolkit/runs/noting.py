"""What a run notes of its settings: for its record, for a repetition, for going on."""

import dataclasses
from typing import Any

from tltoolkit import augment as augmentation
from tltoolkit.data import ImageData
from tltoolkit.training.job import Job


def settings(job: Job, data: ImageData) -> dict[str, Any]:
    """What a run tells of its settings."""
    return {
        "images": {name: len(split) for name, split in data.splits.items()},
        "class_names": list(data.class_names),
        "image_size": job.network.image_size,
        "augment": repr(job.augmented),
        "batch_size": job.batch_size,
        "steps_per_epoch": job.steps,
        "seed": job.seed,
        "imbalance": job.correction.to_dict(),
    }


def options(job: Job) -> dict[str, Any]:
    """The arguments that `refit` takes over from a run."""
    return {
        "augment": job.augmented,
        "imbalance": job.correction.imbalance,
        "batch_size": job.batch_size,
        "seed": job.seed,
        "cache_gb": job.features.storage.memory_gb,
        "cache_dtype": job.features.storage.dtype,
        "verbose": job.verbose,
        "from_logits": job.network.stated,
    }


def details(job: Job, from_logits: bool | str) -> dict[str, Any]:
    """What else must be the same for a run to go on."""
    own, weights = job.network.settings, job.model.weights
    # What an earlier run noted of its labels is no setting of this one.
    own = own and dataclasses.replace(
        own, train_prior=None, output_prior=None, preparation=augmentation.Preparation()
    )
    return {
        "preparation": job.network.preparation.to_dict(),
        "model": [list(w.shape) for w in weights] if own is None else own.to_dict(),
        # Only their kinds: what a callback holds need not be plain data.
        "callbacks": [type(callback).__name__ for callback in job.callbacks],
        "cache_gb": job.features.storage.memory_gb,
        "cache_dtype": job.features.storage.dtype,
        **({} if from_logits == "auto" else {"from_logits": from_logits}),
    }
