"""What a run notes when it starts: its command, settings, data, versions and machine."""

import datetime
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tltoolkit.artifacts import artifact
from tltoolkit.callbacks import training_state
from tltoolkit.data import ImageData
from tltoolkit.plans.stages import Plan
from tltoolkit.training import frozen

# So that a later version can tell a record of another form.
FORMAT = 1
# Changes in one message; the record has them all.
SHOWN = 10
START = "start_weights"


def record(settings: Mapping[str, Any], data: ImageData) -> dict[str, Any]:
    """The record of a run that starts now, as plain data.

    Args:
        settings: All arguments that the outcome depends on.
        data: The images.

    Returns:
        `format`, `time` (ISO, UTC), `command` (`sys.argv`), `folder` (of the images, or None),
        `settings`, `data` (the fingerprint of each split), `versions` and `hardware`.
    """
    folder = _folder(data)
    noted = {
        "format": FORMAT,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "folder": folder,
        "settings": dict(settings),
        "data": {name: fingerprint(split, folder) for name, split in data.splits.items()},
        "versions": artifact.versions(),
        "hardware": hardware(),
    }
    # As it will be read again, so that the two compare.
    plain: dict[str, Any] = json.loads(_without_addresses(json.dumps(noted)))
    return plain


def fingerprint(split: Any, folder: str | None) -> str:
    """The number of images and the SHA-256 of their names, sizes and labels.

    The names of files count from `folder` on, so that it may be moved. Images without a file of
    their own count with their content.
    """
    # Of labels in full: a swapped label changes what is learned.
    digest = hashlib.sha256(repr((split.class_names, split.labels.shape)).encode())
    digest.update(np.ascontiguousarray(split.labels).data)
    source = split.source
    for index, path in zip(split.indices.tolist(), split.paths, strict=True):
        if path is None:
            digest.update(source.digest(index).encode())
        else:
            name = os.path.relpath(path, folder)
            digest.update(f"{name!r} {source.size(index)}".encode())
    return f"{len(split)} images, SHA-256 {digest.hexdigest()}"


def weights_of(model: Any) -> str:
    """The SHA-256 of a model's weights in their order, dropout rates and random states aside."""
    digest = hashlib.sha256()
    for value in training_state.values(frozen.lasting(model)):
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).data)
    return f"SHA-256 {digest.hexdigest()}"


def from_start_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The record `new` as if its model had the start weights of the record `old`."""
    return {**new, "settings": {**new["settings"], START: old["settings"].get(START)}}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two records in settings, data and versions, in words."""
    found = [
        # Neither time nor hardware: a run may go on elsewhere and later.
        *_differences("", _whole(old["settings"]), new["settings"]),
        *_differences("data", old["data"], new["data"]),
        *_differences("versions", old["versions"], new["versions"]),
    ]
    return [f"{name} was {_short(before)} and is {_short(now)}" for name, before, now in found]


def _whole(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Noted settings with those that stages have got since, which had been as their defaults."""
    plan = settings.get("plan")
    if not isinstance(plan, dict):
        return dict(settings)
    return {**settings, "plan": json.loads(json.dumps(Plan.from_dict(plan).to_dict()))}


def listed(found: list[str]) -> str:
    """Changes in one line."""
    more = len(found) - SHOWN
    return "; ".join(found[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def hardware() -> dict[str, Any]:
    """Cores, processor, memory in bytes and graphics cards of this machine."""
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory": psutil.virtual_memory().total,
        "gpus": [tf.config.experimental.get_device_details(c).get("device_name") for c in cards],
        "system": platform.platform(),
    }


def _folder(data: ImageData) -> str | None:
    """The folder that all image files lie in."""
    paths = [path for split in data.splits.values() for path in split.paths if path is not None]
    return os.path.commonpath(map(os.path.dirname, paths)) if paths else None


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Where two pieces of plain data differ, as `plan.stages[0].epochs`, and the two values."""
    if isinstance(old, dict) and isinstance(new, dict):
        parts = [(f"{name}.{key}".strip("."), old.get(key), new.get(key)) for key in {**old, **new}]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        parts = [(f"{name}[{i}]", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [(name, old, new)]
    return [found for part in parts for found in _differences(*part)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _without_addresses(text: str) -> str:
    """The text of a function's `repr` differs from process to process by its place in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE)
        if names:
            return str(names[0])
    return platform.processor()
