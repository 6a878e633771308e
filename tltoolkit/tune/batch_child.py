"""The process that find_batch_size starts: reads an order from stdin, prints a line per size.

It takes memory up to the limit and may be killed for it, which is what it is there for.
"""

import contextlib
import importlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

# Linux alone has it; elsewhere nothing is limited or told.
STATUS = Path("/proc/self/status")
# Timed steps go on for so long; the first step, which traces, is not timed.
# Long beside the clock's own noise, short beside the start of the process.
SECONDS = 1.0
# In errors of other classes, such as RuntimeError for a thread that gets no stack.
OUT_OF_MEMORY = ("Cannot allocate memory", "can't start new thread")


def main() -> None:
    """Build the networks, then one training step after the other."""
    order = json.load(sys.stdin)
    with contextlib.suppress(OSError):
        # Where the machine itself runs out, the kernel shall take this process first.
        Path("/proc/self/oom_score_adj").write_text("1000")
    # Before Keras is asked to read the networks, which are made of these classes.
    custom = {name: _found(module, name) for module, name in order["classes"]}
    import keras

    with keras.saving.custom_object_scope(custom):
        lower = order["lower"] and keras.models.model_from_json(order["lower"])
        upper = keras.models.model_from_json(order["upper"])
    # A single output is that of two classes.
    binary = order["multi_label"] or upper.output_shape[-1] == 1
    kind = "BinaryCrossentropy" if binary else "CategoricalCrossentropy"
    loss = getattr(keras.losses, kind)(from_logits=order["from_logits"])
    # XLA is slower on a CPU, see training/gradient.py.
    upper.compile(order["optimizer"], loss, jit_compile=False)
    # Otherwise the first step makes its variables, and is traced twice (Keras 3.15.1).
    upper.optimizer.build(upper.trainable_variables)
    _limit(order["memory_gb"])
    # If it is killed or aborted from here on, the parent takes that for a lack of memory.
    print(json.dumps({"ready": True}), flush=True)
    for size in order["sizes"]:
        try:
            speed = _speed(lower, upper, size, order)
        except Exception as error:
            # Any other fault would be taken for a lack of memory by the parent.
            if not _of_memory(error):
                raise
            return
        row = {"batch_size": size, "images_per_second": speed, "memory_gb": _held("VmHWM")}
        # At once: what was measured counts, though the next size may end the process.
        print(json.dumps(row), flush=True)


def _speed(lower: Any, upper: Any, size: int, order: dict[str, Any]) -> float:
    rng = np.random.default_rng(0)
    shape = (size, order["image_size"], order["image_size"], order["channels"])
    x = rng.integers(0, 256, shape).astype(np.float32)
    # Not timed: the frozen part runs once, whatever is trained on it.
    if lower is not None:
        x = lower(x, training=False)
    classes = upper.output_shape[-1]
    y = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, size)]
    upper.train_on_batch(x, y)
    started, steps = time.perf_counter(), 0
    # One at least, since a step of a large batch may take longer than that.
    while not steps or time.perf_counter() - started < SECONDS:
        upper.train_on_batch(x, y)
        steps += 1
    return size * steps / (time.perf_counter() - started)


def _of_memory(error: Exception) -> bool:
    import tensorflow as tf

    kinds = (MemoryError, tf.errors.ResourceExhaustedError)
    return isinstance(error, kinds) or any(sign in str(error) for sign in OUT_OF_MEMORY)


def _limit(memory_gb: float | None) -> None:
    """Let this process hold so many GiB and not more; None is what the machine has free."""
    import tensorflow as tf

    if not STATUS.exists() or tf.config.list_physical_devices("GPU"):
        return
    import resource

    # What this process holds already is not among what is free.
    allowed = _available() + _held("VmRSS") if memory_gb is None else memory_gb
    # Addresses that are reserved but hold nothing, as threads' stacks, are not what is meant.
    addresses = _held("VmSize") + max(0.0, allowed - _held("VmRSS"))
    # A process that is aborted shall not write its memory to the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(addresses * 2**30),) * 2)


def _held(name: str) -> float:
    """GiB by a line of the process's status."""
    if not STATUS.exists():
        return float("nan")
    return _gib(STATUS.read_text(), name)


def _available() -> float:
    return _gib(Path("/proc/meminfo").read_text(), "MemAvailable")


def _gib(text: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 2**20 if found else float("nan")


def _found(module: str, name: str) -> Any:
    # By each part of a qualified name: a class may stand within another.
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


if __name__ == "__main__":
    main()
