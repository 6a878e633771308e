"""A trained classifier on disk: saved, checked, loaded."""

import os
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tltoolkit import _checks
from tltoolkit.artifacts import beside, presence, verified
from tltoolkit.artifacts.predictor import Predictor
from tltoolkit.artifacts.presence import FOREIGN, MANIFEST
from tltoolkit.artifacts.terms import SAVE
from tltoolkit.artifacts.verified import sha256
from tltoolkit.data.seen import Seen
from tltoolkit.evaluation import Decision
from tltoolkit.files import claiming, reading, writing
from tltoolkit.model.classifier import preparation_of, settings_of

# So that a later version can tell an artifact of another form.
FORMAT = 1
SETTINGS = "classifier.json"
WEIGHTS = "model.weights.h5"
DECISION = "decision.json"
# Those that the manifest has hashes of; a missing hash is refused as a change.
PARTS = (SETTINGS, WEIGHTS, DECISION)
# Those that decide a result: they read, augment and compute.
PACKAGES = ("tltoolkit", "keras", "tensorflow", "numpy", "albumentations", "pillow")


def save(
    model: Any,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    decision: Decision | None = None,
    statistics: bool = True,
) -> Path:
    """Write a classifier into a new or empty directory.

    Args:
        model: From `tl.build_classifier` or `run.model`.
        directory: Where to; created with its parents.
        class_names: If given, must be the model's; a guard against mixed-up models.
        decision: The temperature, thresholds and abstention that `evaluation` chose on the
            validation split; the predictor then answers by them.
        statistics: Whether the sums are kept that the head was solved on, where `fine_tune` has
            left some; without them `tl.add_class` and `tl.update` cannot work on it.

    Returns:
        The directory, which then holds the settings, the weights and a manifest with versions
        and SHA-256 hashes, and for a model of `tl.fine_tune` the digests of the images that it
        was trained on (`images.npy`, 34 bytes for each) with how the data was made (`data.json`),
        and how familiar images are (`familiarity.h5`) and the sums of `statistics`
        (`statistics.h5`), where they are known. `tl.load` reads it.

    Raises:
        FileExistsError: The directory holds something.
        ValueError: `class_names` are not the model's, or what its images go through cannot be
            written.
    """
    _checks.arguments(SAVE, locals())
    settings = settings_of(model)
    settings.preparation.to_dict()  # found before a directory is made
    if class_names is not None and tuple(class_names) != settings.class_names:
        raise _checks.fail("class_names", f"the model's {settings.class_names}", class_names)
    if decision is not None and decision.multi_label != settings.multi_label:
        rule = f"a Decision with multi_label={settings.multi_label}, as the model"
        raise _checks.fail("decision", rule, decision)
    target = claim(directory)
    write(model, target, decision, statistics)
    return target


def load(source: Path) -> Predictor:
    """`tl.load` of a directory that `save` or a run has written."""
    presence.check(source)
    hashes = verified.manifest(source / MANIFEST, FORMAT, PARTS)
    # All hashes before any content is parsed.
    parts = {name: verified.same(source / name, hashes[name]) for name in PARTS}
    settings = verified.settings(parts[SETTINGS])
    decision = verified.decision(parts[DECISION], settings)
    # Before the model, which takes long to build: a damaged record of images is an error, too.
    seen = verified.seen(source / MANIFEST)
    model = verified.model(settings, parts[WEIGHTS])
    model.tltoolkit_seen = seen
    beside.note(model, source / MANIFEST)
    return Predictor(model=model, class_names=settings.class_names, decision=decision)


def claim(directory: str | Path) -> Path:
    """Create a directory for this run alone; one that holds anything is refused."""
    _checks.instance("directory", directory, (str, os.PathLike), "a path")
    target = reading.local(directory)
    if target.is_dir() and any(target.iterdir()):
        raise FileExistsError(f"{target} holds files already; name a new or empty directory")
    # `mkdir` would raise the same error, without advice.
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; name a new or empty directory")
    target.mkdir(parents=True, exist_ok=True)
    return target


def write(
    model: Any, directory: Path, decision: Decision | None = None, statistics: bool = True
) -> None:
    """Write the artifact's files into `directory`, the manifest last.

    A user's own model, which cannot be built again from settings, is saved as Keras saves it.
    """
    if not hasattr(model, "tltoolkit_settings"):
        with _new(directory, FOREIGN) as file:
            model.save(file)
            verified.write_preparation(file, preparation_of(model))
        return
    with _new(directory, WEIGHTS) as file:
        model.save_weights(file)
    claiming.write(directory, SETTINGS, settings_of(model).to_dict())
    # Written even if it says nothing, so that every artifact has the same parts.
    answers = decision or Decision(multi_label=settings_of(model).multi_label)
    claiming.write(directory, DECISION, answers.to_dict())
    hashes = {name: sha256(directory / name) for name in PARTS}
    manifest: dict[str, Any] = {"format": FORMAT, "sha256": hashes, "versions": versions()}
    seen: Seen | None = getattr(model, "tltoolkit_seen", None)
    if seen is not None:
        write_seen(seen, directory)
        manifest[verified.SEEN] = {name: sha256(directory / name) for name in Seen.FILES}
    if hashed := beside.write(model, directory, statistics):
        manifest[beside.ENTRY] = hashed
    claiming.write(directory, MANIFEST, manifest)


def write_seen(seen: Seen, directory: Path) -> None:
    """Write down which images a classifier has seen."""
    for name, content in seen.contents().items():
        with _new(directory, name) as file:
            file.write_bytes(content)


def _new(directory: Path, name: str) -> AbstractContextManager[Path]:
    return writing.replacing(directory / name, claiming.OURS[name])


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
